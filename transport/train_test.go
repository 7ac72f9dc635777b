package transport

import (
	"bytes"
	"slices"
	"testing"
)

func TestTrain(t *testing.T) {
	for _, tc := range []struct {
		bytes, stride int
		want          []int // lengths of the datagrams
	}{
		{0, 0, nil},
		{0, 10, nil},
		{5, 0, []int{5}},
		{5, -1, []int{5}},
		{5, 5, []int{5}},
		{5, 9, []int{5}},
		{5, 4, []int{4, 1}},
		{6, 3, []int{3, 3}},
		{7, 3, []int{3, 3, 1}},
		{3, 1, []int{1, 1, 1}},
	} {
		buf := make([]byte, tc.bytes)
		for i := range buf {
			buf[i] = byte(i)
		}
		tr := Train{Buf: buf, Stride: tc.stride}
		var got []int
		var all []byte
		for i := range tr.Len() {
			d := tr.Datagram(i)
			got = append(got, len(d))
			all = append(all, d...)
			if cap(d) != len(d) && tc.stride > 0 {
				t.Errorf("%d bytes, stride %d: an append to datagram %d would write into the next", tc.bytes, tc.stride, i)
			}
		}
		if !slices.Equal(got, tc.want) || !bytes.Equal(all, buf) {
			t.Errorf("%d bytes, stride %d: datagrams of %v, want %v", tc.bytes, tc.stride, got, tc.want)
		}
	}
}
