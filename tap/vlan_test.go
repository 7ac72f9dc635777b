package tap

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// tag puts a VLAN tag in front of a frame's EtherType, and moves the offsets.
func tag(f Frame, etherType, tci uint16) Frame {
	b := bytes.Clone(f.Bytes[:12])
	b = binary.BigEndian.AppendUint16(b, etherType)
	b = binary.BigEndian.AppendUint16(b, tci)
	f.Bytes = append(b, f.Bytes[12:]...)
	f.Header.HeaderBytes += 4
	f.Header.ChecksumStart += 4
	return f
}

func TestUntag(t *testing.T) {
	plain := Frame{Header: Header{Flags: NeedsChecksum, GSO: GSOTCPv4, HeaderBytes: 54, SegmentBytes: 1000, ChecksumStart: 34, ChecksumOffset: 16}}
	for i := range 200 {
		plain.Bytes = append(plain.Bytes, byte(i))
	}
	for _, etherType := range []uint16{0x8100, 0x88A8} {
		outer := tag(tag(plain, 0x8100, 7), etherType, 0xE123)
		if tci, ok := outer.Untag(); tci != 0xE123 || !ok {
			t.Errorf("outer tag %#x, %v", tci, ok)
		}
		if inner := tag(plain, 0x8100, 7); !bytes.Equal(outer.Bytes, inner.Bytes) || outer.Header != inner.Header {
			t.Errorf("after the first: %+v, want %+v", outer, inner)
		}
		if tci, ok := outer.Untag(); tci != 7 || !ok {
			t.Errorf("inner tag %#x, %v", tci, ok)
		}
		if !bytes.Equal(outer.Bytes, plain.Bytes) || outer.Header != plain.Header {
			t.Errorf("after both: %+v, want %+v", outer, plain)
		}
	}
}

func TestUntagNothing(t *testing.T) {
	for _, b := range [][]byte{
		nil, make([]byte, 13), make([]byte, 60),
		append(make([]byte, 12), 0x81, 0x00, 0, 5),       // no type behind it
		append(make([]byte, 12), 0x81, 0x00),             // cut
		append(make([]byte, 12), 0x81, 0x01, 0, 5, 8, 0), // another type
	} {
		f := Frame{Bytes: bytes.Clone(b), Header: Header{ChecksumStart: 14, HeaderBytes: 20}}
		if _, ok := f.Untag(); ok || !bytes.Equal(f.Bytes, b) || f.Header != (Header{ChecksumStart: 14, HeaderBytes: 20}) {
			t.Errorf("% x became %+v", b, f)
		}
	}
	// The smallest that has one; offsets that point nowhere stay where they are.
	f := Frame{Bytes: append(make([]byte, 12), 0x81, 0x00, 0, 5, 8, 6), Header: Header{ChecksumStart: 3}}
	if tci, ok := f.Untag(); !ok || tci != 5 || len(f.Bytes) != 14 || f.Header.ChecksumStart != 3 {
		t.Errorf("%+v", f)
	}
}

// Whatever the bytes: all but the tag stays, and nothing panics.
func FuzzUntag(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x81, 0, 0, 5, 8, 0, 1, 2}, uint16(38), uint16(58))
	f.Fuzz(func(t *testing.T, b []byte, start, headers uint16) {
		frame := Frame{Bytes: bytes.Clone(b), Header: Header{Flags: NeedsChecksum, ChecksumStart: start, HeaderBytes: headers}}
		tci, ok := frame.Untag()
		if !ok {
			if !bytes.Equal(frame.Bytes, b) {
				t.Fatal("changed without a tag")
			}
			return
		}
		if len(frame.Bytes) != len(b)-4 || !bytes.Equal(frame.Bytes[:12], b[:12]) || !bytes.Equal(frame.Bytes[12:], b[16:]) || tci != binary.BigEndian.Uint16(b[14:]) {
			t.Fatalf("% x became % x, tag %#x", b, frame.Bytes, tci)
		}
		_ = CompleteChecksum(&frame.Header, frame.Bytes)
	})
}
