package tap

import (
	"encoding/binary"
	"slices"
	"testing"
)

// struct virtio_net_hdr as <linux/virtio_net.h> has it, field by field, in the
// byte order of the host.
func TestHeaderBytes(t *testing.T) {
	h := Header{Flags: NeedsChecksum, GSO: GSOTCPv6 | GSOECN, HeaderBytes: 0x0102, SegmentBytes: 0x0304, ChecksumStart: 0x0506, ChecksumOffset: 0x0708}
	want := make([]byte, 0, HeaderLen)
	want = append(want, 1, 0x84)
	for _, v := range []uint16{0x0102, 0x0304, 0x0506, 0x0708} {
		want = binary.NativeEndian.AppendUint16(want, v)
	}
	got := slices.Repeat([]byte{0xEE}, HeaderLen)
	h.put(got)
	if !slices.Equal(got, want) {
		t.Errorf("put: %x, want %x", got, want)
	}
	// parse sets every field, also of a header that was used before.
	back := Header{Flags: 9, GSO: 9, HeaderBytes: 9, SegmentBytes: 9, ChecksumStart: 9, ChecksumOffset: 9}
	back.parse(want)
	if back != h {
		t.Errorf("parse: %+v, want %+v", back, h)
	}
	back.parse(make([]byte, HeaderLen))
	if back != (Header{}) {
		t.Errorf("parse of zeros: %+v", back)
	}
}

func TestFeaturesString(t *testing.T) {
	for f, want := range map[Features]string{
		0: "none", VnetHeader: "none", VnetHeader | Checksum: "checksum",
		AllFeatures: "checksum,tso4,tso6,uso", TSO6 | USO: "tso6,uso",
	} {
		if got := f.String(); got != want {
			t.Errorf("%d: %q, want %q", f, got, want)
		}
	}
}

func TestFeaturesThatAFrameNeeds(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    Header
		need Features
	}{
		{"plain", Header{}, 0},
		{"checksum verified", Header{Flags: DataValid}, 0},
		{"partial checksum", Header{Flags: NeedsChecksum}, Checksum},
		{"TCP over IPv4", Header{Flags: NeedsChecksum, GSO: GSOTCPv4}, TSO4},
		{"TCP over IPv6", Header{Flags: NeedsChecksum, GSO: GSOTCPv6}, TSO6},
		{"TCP with CWR", Header{Flags: NeedsChecksum, GSO: GSOTCPv4 | GSOECN}, TSO4},
		{"UDP", Header{Flags: NeedsChecksum, GSO: GSOUDP}, USO},
	} {
		if AllFeatures.lacks(&tc.h) {
			t.Errorf("%s: all features are not enough", tc.name)
		}
		if got := (AllFeatures &^ tc.need).lacks(&tc.h); got != (tc.need != 0) {
			t.Errorf("%s: without %v it lacks something: %v", tc.name, tc.need, got)
		}
	}
	for gso, bit := range map[uint8]Features{GSOTCPv4: TSO4, GSOTCPv6: TSO6, GSOUDP: USO, GSOTCPv4 | GSOECN: TSO4} {
		var f features
		f.store(AllFeatures)
		f.refuse(gso)
		if got := f.load(); got != AllFeatures&^bit {
			t.Errorf("after GSO kind %d was refused: %v", gso, got)
		}
	}
}

func TestVectorLen(t *testing.T) {
	v := Vector{Parts: [][]byte{make([]byte, 3), nil, make([]byte, 4)}}
	if v.Len() != 7 {
		t.Errorf("length %d, want 7", v.Len())
	}
}
