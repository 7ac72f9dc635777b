package explain

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket/layers"
)

// start begins with the header that s says.
func (d *dissector) start(from Start, s span) {
	switch from {
	case Ethernet:
		d.ethernet(s)
	case IP:
		d.trailer(s, d.ip(s))
	case VXLAN:
		d.vxlan(s, false)
	case LinuxSLL:
		d.sll(s)
	case LinuxSLL2:
		d.sll2(s)
	case Loopback:
		d.loopback(s)
	default:
		d.problem(s.off, "packet", "%v is no place to start", from)
		d.payload(s, "data")
	}
}

// ethernet explains a frame from its destination address on.
func (d *dissector) ethernet(s span) {
	if !d.need(s, 14, "Ethernet") {
		d.payload(s, "data")
		return
	}
	var eth layers.Ethernet
	// gopacket looks past the header only for 802.3 lengths, which are judged
	// below; with 14 bytes there is nothing that it could refuse.
	_ = decode(&eth, d.b[s.off:s.off+14])
	kind := uint16(d.u16(s.off + 12))
	typ := hexed("type", s.off+12, 2, uint64(kind), etherTypeName(kind))
	if kind < 1536 {
		typ = number("length", s.off+12, 2, uint64(kind), "802.3: LLC follows")
	}
	dst := d.mac("destination", s.off)
	src := d.mac("source", s.off+6)
	if d.b[s.off+6]&1 != 0 {
		src.Meaning, src.Verdict = "a group address cannot send", Bad
	}
	d.layer("Ethernet", "ethernet", s.off, 14, dst, src, typ)
	d.trailer(s, d.etherType(s.from(14), kind, eth.SrcMAC, eth.DstMAC))
}

// etherType explains what follows an Ethernet header or a VLAN tag, and returns
// where it ended.
func (d *dissector) etherType(s span, kind uint16, src, dst net.HardwareAddr) (end int) {
	switch kind {
	case 0x0800, 0x86dd:
		return d.ip(s)
	case 0x0806:
		return d.arp(s)
	case 0x8100, 0x88a8:
		if d.tags < maxTags {
			d.tags++
			defer func() { d.tags-- }()
			return d.vlan(s, kind, src, dst)
		}
	}
	if kind < 1536 {
		return d.llc(s, int(kind), src, dst)
	}
	name := "0x" + fmt.Sprintf("%04x", kind)
	if n := etherTypeName(kind); n != "" {
		name = n + " (" + name + ")"
	}
	d.printf("%v > %v, ethertype %s, length %d", src, dst, name, s.wire-d.frameStart(s))
	d.payload(s, "data")
	return s.wire
}

// frameStart is the offset of the Ethernet header that s is in, or s itself.
func (d *dissector) frameStart(s span) int {
	for i := len(d.e.Layers) - 1; i >= 0; i-- {
		if l := &d.e.Layers[i]; l.Key == "ethernet" {
			return l.Offset
		}
	}
	return s.off
}

func (d *dissector) vlan(s span, kind uint16, src, dst net.HardwareAddr) (end int) {
	name, key := "802.1Q", "vlan"
	if kind == 0x88a8 {
		name = "802.1ad"
	}
	if !d.need(s, 4, name) {
		d.payload(s, "data")
		return s.wire
	}
	var tag layers.Dot1Q
	_ = decode(&tag, d.b[s.off:s.off+4])
	tci := d.u16(s.off)
	meaning := ""
	switch tag.VLANIdentifier {
	case 0:
		meaning = "priority only, no VLAN"
	case 0xfff:
		meaning = "reserved"
	}
	inner := uint16(tag.Type)
	fields := []Field{
		hexed("tag", s.off, 2, tci, ""),
		hexed("type", s.off+2, 2, uint64(inner), etherTypeName(inner)),
	}
	part := func(name string, mask uint64, said string) Field {
		f := bits(name, s.off, 16, tci, mask, "")
		// The number is what one looks for, the bits explain it.
		f.Text, f.Meaning = fmt.Sprint(tci&mask>>trailing(mask)), joinClauses(f.Text, said)
		return f
	}
	fields[0].Parts = []Field{
		part("priority", 0xe000, ""),
		part("drop eligible", 0x1000, ""),
		part("VLAN", 0x0fff, meaning),
	}
	if d.depth > 0 {
		fields[0].Meaning = "a VTEP discards tagged frames unless configured (RFC 7348 6.1)"
		fields[0].Verdict = Note
	}
	d.layer(name, key, s.off, 4, fields...)
	d.printf("vlan %d, p %d, ", tag.VLANIdentifier, tag.Priority)
	return d.etherType(s.from(4), inner, src, dst)
}

// llc explains an 802.3 frame: its type field is the length of what follows.
func (d *dissector) llc(s span, length int, src, dst net.HardwareAddr) (end int) {
	body := d.narrow(s, length, s.off-2, "802.3", "the length field")
	if !d.need(body, 3, "LLC") {
		d.printf("%v > %v, 802.3, length %d", src, dst, length)
		d.payload(body, "data")
		return body.wire
	}
	var l layers.LLC
	_ = decode(&l, d.b[body.off:body.end])
	what := ""
	switch d.u16(body.off) {
	case 0x4242:
		what = "STP"
	case 0xaaaa:
		what = "SNAP"
	case 0xfefe:
		what = "ISO"
	}
	size := 3
	if l.Control&3 != 3 && body.here() >= 4 {
		size = 4 // the information and supervisory forms have a second byte
	}
	d.layer("LLC", "llc", body.off, size,
		hexed("DSAP", body.off, 1, d.u8(body.off), what),
		hexed("SSAP", body.off+1, 1, d.u8(body.off+1), what),
		hexed("control", body.off+2, size-2, uint64(l.Control), ""))
	if what == "" {
		what = fmt.Sprintf("LLC, dsap 0x%02x, ssap 0x%02x", d.u8(body.off), d.u8(body.off+1))
	}
	d.printf("%v > %v, %s, length %d", src, dst, what, length-size)
	d.payload(body.from(size), "data")
	return body.wire
}

// trailer explains what a frame has behind its packet.
func (d *dissector) trailer(s span, end int) {
	rest := span{min(end, s.end), s.end, s.wire}
	if end >= s.wire || rest.here() == 0 {
		return
	}
	zero := true
	for _, c := range d.b[rest.off:rest.end] {
		zero = zero && c == 0
	}
	name := "trailer"
	if zero {
		name = "padding"
	}
	d.payload(rest, name)
}

// sll explains a Linux cooked capture, which is what "-i any" makes.
func (d *dissector) sll(s span) {
	if !d.need(s, 16, "Linux cooked capture") {
		d.payload(s, "data")
		return
	}
	kind := uint16(d.u16(s.off + 14))
	size := int(min(d.u16(s.off+4), 8))
	addr := net.HardwareAddr(d.b[s.off+6 : s.off+6+size])
	d.layer("Linux cooked capture", "linux_sll", s.off, 16,
		number("packet type", s.off, 2, d.u16(s.off), sllType(d.u16(s.off))),
		number("device type", s.off+2, 2, d.u16(s.off+2), arpHardware(d.u16(s.off+2))),
		number("address length", s.off+4, 2, d.u16(s.off+4), ""),
		word("source", s.off+6, 8, addr.String(), macMeaning(addr)),
		hexed("protocol", s.off+14, 2, uint64(kind), etherTypeName(kind)))
	d.trailer(s, d.etherType(s.from(16), kind, addr, nil))
}

func (d *dissector) sll2(s span) {
	if !d.need(s, 20, "Linux cooked capture") {
		d.payload(s, "data")
		return
	}
	kind := uint16(d.u16(s.off))
	size := int(min(d.u8(s.off+11), 8))
	addr := net.HardwareAddr(d.b[s.off+12 : s.off+12+size])
	d.layer("Linux cooked capture v2", "linux_sll2", s.off, 20,
		hexed("protocol", s.off, 2, uint64(kind), etherTypeName(kind)),
		hexed("reserved", s.off+2, 2, d.u16(s.off+2), ""),
		number("interface", s.off+4, 4, d.u32(s.off+4), "its index where the capture was made"),
		number("device type", s.off+8, 2, d.u16(s.off+8), arpHardware(d.u16(s.off+8))),
		number("packet type", s.off+10, 1, d.u8(s.off+10), sllType(d.u8(s.off+10))),
		number("address length", s.off+11, 1, d.u8(s.off+11), ""),
		word("source", s.off+12, 8, addr.String(), macMeaning(addr)))
	d.trailer(s, d.etherType(s.from(20), kind, addr, nil))
}

func sllType(v uint64) string {
	switch v {
	case 0:
		return "to us"
	case 1:
		return "broadcast"
	case 2:
		return "multicast"
	case 3:
		return "between others"
	case 4:
		return "sent by us"
	}
	return ""
}

func (d *dissector) loopback(s span) {
	if !d.need(s, 4, "loopback") {
		d.payload(s, "data")
		return
	}
	// NULL has the family in the byte order of the machine that captured, LOOP
	// in network order. Families are small numbers.
	b := d.b[s.off:]
	family := binary.LittleEndian.Uint32(b)
	if family > 0xffff {
		family = binary.BigEndian.Uint32(b)
	}
	name := map[uint32]string{2: "IPv4", 10: "IPv6", 24: "IPv6", 28: "IPv6", 30: "IPv6"}[family]
	d.layer("loopback", "loopback", s.off, 4, number("family", s.off, 4, uint64(family), name))
	if name == "" {
		d.printf("AF %d, length %d", family, s.onWire())
		d.payload(s.from(4), "data")
		return
	}
	d.trailer(s, d.ip(s.from(4)))
}

func etherTypeName(t uint16) string {
	switch t {
	case 0x0800:
		return "IPv4"
	case 0x0806:
		return "ARP"
	case 0x86dd:
		return "IPv6"
	case 0x8100:
		return "802.1Q VLAN tag"
	case 0x88a8:
		return "802.1ad VLAN tag"
	case 0x8035:
		return "RARP"
	case 0x8847:
		return "MPLS"
	case 0x8863:
		return "PPPoE discovery"
	case 0x8864:
		return "PPPoE"
	case 0x888e:
		return "802.1X"
	case 0x88b5, 0x88b6:
		return "local experiment"
	case 0x88cc:
		return "LLDP"
	case 0x88e5:
		return "MACsec"
	case 0x88f7:
		return "PTP"
	case 0x894f:
		return "NSH"
	case 0x9000:
		return "loopback test"
	}
	return ""
}

// mac is a field with a MAC address.
func (d *dissector) mac(name string, off int) Field {
	addr := net.HardwareAddr(d.b[off : off+6])
	return word(name, off, 6, addr.String(), macMeaning(addr))
}

func macMeaning(a net.HardwareAddr) string {
	if len(a) != 6 {
		return ""
	}
	switch {
	case [6]byte(a) == [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}:
		return "broadcast"
	case [6]byte(a) == [6]byte{}:
		return "none"
	case [3]byte(a[:3]) == [3]byte{0x01, 0x00, 0x5e}:
		return "IPv4 multicast"
	case [2]byte(a[:2]) == [2]byte{0x33, 0x33}:
		return "IPv6 multicast"
	case [5]byte(a[:5]) == [5]byte{0x01, 0x80, 0xc2, 0x00, 0x00}:
		return "link-local group: bridges keep it"
	case a[0]&1 != 0:
		return "multicast"
	case a[0] == 0x02 && a[1] == 0x42:
		return fmt.Sprintf("local (Docker's: %v)", netip.AddrFrom4([4]byte(a[2:])))
	case a[0]&2 != 0:
		return "locally administered"
	}
	return ""
}

func joinClauses(parts ...string) string {
	s := ""
	for _, p := range parts {
		if p == "" {
			continue
		}
		if s != "" {
			s += ", "
		}
		s += p
	}
	return s
}
