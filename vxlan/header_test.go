package vxlan

import (
	"bytes"
	"errors"
	"testing"
)

func TestHeaderBytes(t *testing.T) {
	for _, tt := range []struct {
		name string
		vni  VNI
		want string
	}{
		{"lowest", 0, "08000000 00000000"},
		{"one", 1, "08000000 00000100"},
		{"4097", 4097, "08000000 00100100"},
		{"each byte its own", 0x123456, "08000000 12345600"},
		{"highest", MaxVNI, "08000000 ffffff00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := unhex(t, tt.want)
			got := bytes.Repeat([]byte{0xAA}, HeaderLen+1) // Put writes every byte, and no more
			Header{tt.vni}.Put(got)
			if !bytes.Equal(got[:HeaderLen], want) || got[HeaderLen] != 0xAA {
				t.Errorf("Put: % x, want % x aa", got, want)
			}
			got, err := Header{tt.vni}.AppendBinary([]byte{1, 2})
			if err != nil || !bytes.Equal(got, append([]byte{1, 2}, want...)) {
				t.Errorf("AppendBinary: % x, %v", got, err)
			}
			got, err = Header{tt.vni}.MarshalBinary()
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("MarshalBinary: % x, %v", got, err)
			}
			frame := arpFrame()
			h, rest, err := Parse(append(want, frame...))
			if err != nil || h.VNI != tt.vni || !bytes.Equal(rest, frame) {
				t.Errorf("Parse: %v, % x, %v", h, rest, err)
			}
		})
	}
}

func TestHeaderVNITooLarge(t *testing.T) {
	for _, vni := range []VNI{MaxVNI + 1, 1<<32 - 1} {
		b, err := Header{vni}.AppendBinary([]byte{1})
		if !errors.Is(err, ErrVNI) || !bytes.Equal(b, []byte{1}) {
			t.Errorf("AppendBinary(%d) = % x, %v, want ErrVNI", vni, b, err)
		}
		if _, err := (Header{vni}).MarshalBinary(); !errors.Is(err, ErrVNI) {
			t.Errorf("MarshalBinary(%d): %v, want ErrVNI", vni, err)
		}
		// Put keeps what does not fit out of the flags and the reserved byte.
		var got [8]byte
		Header{vni}.Put(got[:])
		if got[0] != 8 || got[7] != 0 || ReservedBits(got[:]) != 0 {
			t.Errorf("Put(%d): % x", vni, got)
		}
	}
}

func TestHeaderPutPanicsWhenShort(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Put into 7 bytes did not panic")
		}
	}()
	Header{1}.Put(make([]byte, HeaderLen-1))
}

func TestParseErrors(t *testing.T) {
	frame := arpFrame()
	for _, tt := range []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"7 bytes", unhex(t, "08000000 000001"), ErrShort},
		{"header only", unhex(t, "08000000 00000100"), ErrFrame},
		{"13 bytes of frame", append(unhex(t, "08000000 00000100"), frame[:13]...), ErrFrame},
		{"14 bytes of frame", append(unhex(t, "08000000 00000100"), frame[:14]...), nil},
		{"I flag clear", append(unhex(t, "00000000 00000100"), frame...), ErrFlags},
		{"every flag but I", append(unhex(t, "f7ffffff 000001ff"), frame...), ErrFlags},
		{"I flag clear and no frame", unhex(t, "00000000 00000100"), ErrFlags},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, rest, err := Parse(tt.in)
			if err != tt.want {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && (h != Header{} || rest != nil) {
				t.Errorf("with the error came %v and % x", h, rest)
			}
		})
	}
}

func TestParseAliases(t *testing.T) {
	b := append(unhex(t, "08000000 00000100"), arpFrame()...)
	_, frame, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if &frame[0] != &b[HeaderLen] || len(frame) != len(b)-HeaderLen {
		t.Error("frame is not the rest of what was parsed")
	}
}

func TestReservedBits(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   uint64
	}{
		{"08000000 00000000", 0},
		{"08000000 ffffff00", 0},
		{"00000000 ffffff00", 0},
		{"88000000 00000000", 0x8000000000000000}, // G of the group policy draft
		{"08080000 12345600", 0x0008000000000000},
		{"08000001 000000ff", 0x00000001000000FF},
		{"ffffffff ffffffff", 0xF7FFFFFF000000FF},
	} {
		if got := ReservedBits(unhex(t, tt.header)); got != tt.want {
			t.Errorf("ReservedBits(%s) = %#016x, want %#016x", tt.header, got, tt.want)
		}
	}
}
