package soak

import (
	"bytes"
	"testing"
	"time"
)

// Datagrams of every number are known again, and none that was altered.
func TestDatagram(t *testing.T) {
	for number := range uint64(50) {
		b := appendDatagram(nil, number)
		if n, ok := parseDatagram(b); !ok || n != number || len(b) != sizes[number%uint64(len(sizes))] {
			t.Fatalf("%d: %d %v, %d bytes", number, n, ok, len(b))
		}
		for i := range b {
			c := bytes.Clone(b)
			c[i] ^= 0x10
			if _, ok := parseDatagram(c); ok {
				t.Fatalf("%d: altered at %d and taken for good", number, i)
			}
		}
		if _, ok := parseDatagram(b[:len(b)-1]); ok {
			t.Fatalf("%d: cut and taken for good", number)
		}
	}
}

// Each loss has one explanation, in this order: a fault that touches the stream, until
// something arrives again; a drop that was counted at that time; none.
func TestExplain(t *testing.T) {
	s := &stream{name: "0 to 1", from: 0, to: 1}
	arrives := func(numbers ...uint64) {
		for _, n := range numbers {
			s.arrive(appendDatagram(nil, n), s.sent[n]+time.Millisecond)
		}
	}
	for n := range 100 { // one each 100 ms
		s.send(time.Duration(n) * 100 * time.Millisecond)
	}
	for n := range uint64(100) {
		switch n {
		case 20, 21, 22, 23: // fault from 2.05 s to 2.2 s, back with number 24
		case 40: // another host's fault
		case 30: // a fault that has to be borne
		case 60, 61: // one drop was counted
		case 70: // a drop was counted, at a host that is not on the way
		case 80: // nothing is known
		default:
			arrives(n)
		}
	}
	arrives(5, 25, 24) // 24 was sent in the fault
	s.arrive([]byte("what is this"), 0)
	faults := []fault{
		{name: "link", hosts: []int{1}, begin: 2050 * time.Millisecond, end: 2200 * time.Millisecond},
		{name: "elsewhere", hosts: []int{2}, begin: 3900 * time.Millisecond, end: 4100 * time.Millisecond},
		{name: "garbage", hosts: []int{1}, begin: 2900 * time.Millisecond, end: 3100 * time.Millisecond, harmless: true},
	}
	got := s.explain(faults, []drops{{6 * time.Second, 1, 1}, {7 * time.Second, 2, 1}})
	want := Account{Sent: 100, Arrived: 90, Again: 3, AgainCalm: 2, Altered: 1, Lost: 10, ByFault: 4, Counted: 1, Mystery: 5}
	examples := got.Examples
	got.Examples = nil
	if len(examples) != 5 || examples[0].Number != 30 || examples[1].Number != 40 || examples[2].Number != 61 || examples[3].Number != 70 || examples[4].Number != 80 {
		t.Errorf("unexplained: %+v", examples)
	}
	got.Name = ""
	if got.Sent != want.Sent || got.Arrived != want.Arrived || got.Again != want.Again || got.AgainCalm != want.AgainCalm || got.Altered != want.Altered || got.Lost != want.Lost ||
		got.ByFault != want.ByFault || got.Counted != want.Counted || got.Mystery != want.Mystery || got.Late != 0 {
		t.Errorf("%+v\nwant %+v", got, want)
	}
}

// What stays level is no leak, what breathes neither; what grows is.
func TestLeaks(t *testing.T) {
	series := func(f func(i int) (int, uint64)) (all []Sample) {
		for i := range 400 {
			d, m := f(i)
			all = append(all, Sample{At: float64(i), Descriptors: d, Goroutines: 20, Memory: m})
		}
		return all
	}
	for _, c := range []struct {
		name string
		f    func(i int) (int, uint64)
		want int
	}{
		{"level", func(int) (int, uint64) { return 70, 40e6 }, 0},
		{"breathing", func(i int) (int, uint64) { return 70 + i%3, 40e6 + uint64(i%10)*1e6 }, 0},
		{"warming up", func(i int) (int, uint64) { return 70, 40e6 + uint64(min(i, 80))*1e6 }, 0},
		{"descriptors", func(i int) (int, uint64) { return 70 + i/20, 40e6 }, 1},
		{"memory", func(i int) (int, uint64) { return 70, 40e6 + uint64(i)*100e3 }, 1},
		{"both", func(i int) (int, uint64) { return 70 + i/10, 40e6 + uint64(i)*1e6 }, 2},
	} {
		if got := leaks(series(c.f)); len(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	if got := leaks(nil); len(got) != 0 {
		t.Errorf("nothing: %q", got)
	}
}
