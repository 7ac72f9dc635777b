package vxlan

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
)

// compareTemplate writes a packet with Outer.Put, which gopacket judges, and
// with a UDPTemplate in front of the same payload.
func compareTemplate(t testing.TB, o Outer, frame []byte) {
	t.Helper()
	want := room(o.Len(), frame)
	wantErr := o.Put(want)
	template, err := o.CompileUDP()
	if (err != nil) != (wantErr == ErrFamily) {
		t.Fatalf("CompileUDP: %v, Put: %v", err, wantErr)
	}
	if err != nil {
		return
	}
	l := template.Len()
	payload := want[l:]
	if wantErr != nil {
		payload = make([]byte, len(want)-l)
	}
	f := UDPFields{SrcPort: o.SrcPort, TOS: o.TOS, TTL: o.TTL, DF: o.DF, ID: o.ID, FlowLabel: o.FlowLabel}
	if o.ZeroChecksum {
		f.Checksum = NoChecksum
	}
	got := bytes.Repeat([]byte{0xA5}, l)
	if err := template.Put(got, payload, &f); err != nil || wantErr != nil {
		if err != wantErr {
			t.Fatalf("Put: %v, want %v", err, wantErr)
		}
		return
	}
	if !bytes.Equal(got, want[:l]) {
		t.Fatalf("UDPTemplate.Put\n% x, Outer.Put\n% x", got, want[:l])
	}
	if template.L3() != l-UDPLen-map[bool]int{false: IPv4Len, true: IPv6Len}[template.V6()] {
		t.Fatalf("L3 %d of %d", template.L3(), l)
	}

	// A partial checksum, completed as a network card does, is the full one.
	f.Checksum = PartialChecksum
	if err := template.Put(got, payload, &f); err != nil {
		t.Fatal(err)
	}
	udp := append(bytes.Clone(got[l-UDPLen:]), payload...)
	full := checksum.Checksum(udp, 0)
	if full == 0 {
		full = 0xFFFF
	}
	binary.BigEndian.PutUint16(got[l-2:], full)
	var p Packet
	read, err := p.ParseDatagram(append(bytes.Clone(got), payload...))
	if err != nil || !p.ChecksumOK() || !bytes.Equal(read, payload) {
		t.Fatalf("with the partial checksum completed: %v, checksum right: %v", err, p.ChecksumOK())
	}
}

func TestUDPTemplate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 3000 {
		frame := make([]byte, EthernetLen+rng.IntN(200))
		randomBytes(rng, frame)
		compareTemplate(t, randomOuter(rng), frame)
	}
	for _, v6 := range []bool{false, true} {
		for _, tagged := range []bool{false, true} {
			o := stackOuter(v6, tagged)
			for _, n := range []int{65535 - 37, 65535 - 36, 65535 - 35, 65535 - 17, 65535 - 16, 65535 - 15, 70000} {
				compareTemplate(t, o, make([]byte, n))
			}
			o.FlowLabel = 1 << 20
			template, err := o.CompileUDP()
			if err != nil {
				t.Fatal(err)
			}
			var want error
			if v6 {
				want = ErrFlowLabel
			}
			if err := template.Put(make([]byte, template.Len()), nil, &UDPFields{FlowLabel: 1 << 20}); err != want {
				t.Errorf("flow label of 21 bits: %v, want %v", err, want)
			}
		}
	}
	if _, err := (&Outer{Src: netip.MustParseAddr("::1"), Dst: netip.MustParseAddr("127.0.0.1")}).CompileUDP(); err != ErrFamily {
		t.Errorf("two families: %v, want ErrFamily", err)
	}
}

func TestUDPTemplateAllocatesNothing(t *testing.T) {
	o := stackOuter(true, false)
	template, err := o.CompileUDP()
	if err != nil {
		t.Fatal(err)
	}
	b, payload := make([]byte, 100), make([]byte, 1400)
	pkt := packet(t, stackOuter(false, false), tcp4Frame(60))
	var p Packet
	if n := testing.AllocsPerRun(100, func() {
		if template.Put(b, payload, &UDPFields{TTL: 64}) != nil {
			t.Fatal("not written")
		}
		if _, err := p.ParseDatagram(pkt); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// What ParsePacket, which gopacket judges, takes and refuses below VXLAN,
// ParseDatagram does too, and it does not care for what is above.
func compareDatagram(t testing.TB, b []byte) {
	t.Helper()
	want, wantErr := ParsePacket(b)
	p := Packet{Frame: []byte{1}, Outer: Outer{VNI: 7, Tagged: true}} // to be overwritten
	payload, err := p.ParseDatagram(b)
	switch wantErr {
	case nil:
		header := Header{want.VNI}
		outer := want.Outer
		outer.VNI = 0
		if err != nil || p.Outer != outer || p.Checksum != want.Checksum || p.ChecksumOK() != want.ChecksumOK() || p.Frame != nil {
			t.Fatalf("%+v, %v, want %+v", p, err, want)
		}
		if h, frame, err := Parse(payload); err != nil || h != header || !bytes.Equal(frame, want.Frame) {
			t.Fatalf("payload % x: %v", payload, err)
		}
	case ErrFlags, ErrFrame: // of VXLAN
		if err != nil && err != ErrHeaderChecksum {
			t.Fatalf("%v, want it taken: ParsePacket says %v", err, wantErr)
		}
	case ErrShort:
		if err == nil && len(payload) >= HeaderLen {
			t.Fatalf("a payload of %d bytes, but ParsePacket says %v", len(payload), wantErr)
		}
	default:
		if err != wantErr {
			t.Fatalf("%v, want %v", err, wantErr)
		}
	}
	// The same without Ethernet, where the EtherType does not lie.
	l3 := EthernetLen
	if p.Tagged {
		l3 += VLANTagLen
	}
	if err == nil {
		var q Packet
		again, err := q.ParseIPDatagram(b[l3:])
		p.Tagged, p.VLAN, p.SrcMAC, p.DstMAC = false, 0, MAC{}, MAC{}
		if err != nil || !bytes.Equal(again, payload) || q.Outer != p.Outer {
			t.Fatalf("from the IP header on: %+v, %v, want %+v", q, err, p)
		}
	}
}

func TestParseDatagram(t *testing.T) {
	for _, tt := range stacks {
		b := unhex(t, tt.bytes)
		for n := range b {
			compareDatagram(t, b[:n])
		}
		compareDatagram(t, b)
		for i := range b {
			for _, bit := range []byte{1, 0x10, 0x80} {
				c := bytes.Clone(b)
				c[i] ^= bit
				compareDatagram(t, c)
			}
		}
	}
	var p Packet
	for _, b := range [][]byte{nil, {0x00}, {0x50}} {
		if _, err := p.ParseIPDatagram(b); err == nil {
			t.Errorf("% x is no IP packet", b)
		}
	}
}

func FuzzParseDatagram(f *testing.F) {
	for _, tt := range stacks {
		f.Add(unhex(f, tt.bytes))
	}
	f.Add(packet(f, stackOuter(false, false), tcp4Frame(60))[:42])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		for _, l3 := range []int{14, 18} {
			if len(b) >= l3+IPv4Len && b[l3-2] == 8 && b[l3-1] == 0 && b[l3] == 0x45 {
				fixHeader(b[l3 : l3+IPv4Len])
			}
		}
		before := bytes.Clone(b)
		compareDatagram(t, b)
		var p Packet
		_, _ = p.ParseIPDatagram(b)
		if !bytes.Equal(b, before) {
			t.Fatal("reading changed the packet")
		}
	})
}

func FuzzUDPTemplate(f *testing.F) {
	f.Add(uint64(1), arpFrame())
	f.Fuzz(func(t *testing.T, seed uint64, frame []byte) {
		if len(frame) < EthernetLen {
			return
		}
		compareTemplate(t, randomOuter(rand.New(rand.NewPCG(seed, 1))), frame)
	})
}
