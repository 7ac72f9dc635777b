package explain

import (
	"fmt"
	"strings"
)

// Keys of the tunnel layers.
const (
	keyVXLAN = "vxlan"
	keyGPE   = "vxlan_gpe"
)

// Flags of byte 0. RFC 7348 section 5 knows only I;
// draft-smith-vxlan-group-policy adds G, draft-ietf-nvo3-vxlan-gpe the version,
// P, B and O.
const (
	flagI = 0x08
	flagG = 0x80

	gpeVersion = 0x30
	gpeP       = 0x04
	gpeB       = 0x02
	gpeO       = 0x01
)

// Flags of byte 1 with group policy: do not learn, policy applied.
const (
	flagD = 0x40
	flagA = 0x08
)

// vxlan explains a VXLAN header and the frame behind it. It is done by hand:
// gopacket takes a header whose I flag is clear for valid, and reads the A bit
// of group policy one nibble too far left.
func (d *dissector) vxlan(s span, gpe bool) {
	name, key := "VXLAN", keyVXLAN
	if gpe {
		name, key = "VXLAN-GPE", keyGPE
	}
	if !d.need(s, 8, name) {
		d.printf("%s, %s", name, d.broken())
		d.payload(s, "data")
		return
	}
	flags := d.u8(s.off)
	vni := d.u32(s.off+4) >> 8
	d.e.VNIs = append(d.e.VNIs, uint32(vni))
	var fields []Field
	next := uint64(3) // Ethernet, as VXLAN without extension always has
	if gpe {
		fields = gpeFields(s.off, flags, d.b)
		if flags&gpeP != 0 {
			next = d.u8(s.off + 3)
		}
		d.printf("VXLAN-GPE, flags [%s] (0x%02x), vni %d", letters(flags, "....IPBO"), flags, vni)
	} else {
		fields = vxlanFields(s.off, flags, d.b)
		d.printf("VXLAN, flags [%s] (0x%02x), vni %d", letters(flags, "G...I..."), flags, vni)
		if flags&flagG != 0 {
			d.printf(", policy %d", d.u16(s.off+2))
		}
	}
	id := number("VNI", s.off+4, 3, vni, fmt.Sprintf("0x%06x", vni))
	last := hexed("reserved", s.off+7, 1, d.u8(s.off+7), "zero, as it should be")
	if last.Value != uint64(0) {
		last.Meaning, last.Verdict = reservedMeaning, Note
	}
	d.layer(name, key, s.off, 8, append(fields, id, last)...)
	if flags&flagI == 0 {
		d.problem(s.off, name, "the I flag is clear, so the VNI means nothing: a VTEP must drop it (RFC 7348 section 5)")
	}
	d.depth++
	d.inner(s.from(8), next)
	d.depth--
}

const reservedMeaning = "not zero: RFC 7348 ignores it, Linux drops it"

// inner explains what the tunnel header is followed by.
func (d *dissector) inner(s span, next uint64) {
	if s.onWire() == 0 {
		d.problem(s.off, "VXLAN", "no inner frame follows the header")
		return
	}
	switch next {
	case 1, 2:
		d.trailer(s, d.ip(s))
	case 3:
		d.ethernet(s)
	default:
		d.printf("%s, length %d", gpeProtocol(next), s.onWire())
		d.payload(s, "data")
	}
}

// vxlanFields are the first four bytes, as RFC 7348 and group policy have them.
func vxlanFields(off int, flags uint64, b []byte) []Field {
	f := hexed("flags", off, 1, flags, "")
	g := bits("G", off, 8, flags, flagG, "clear: no group policy")
	i := bits("I", off, 8, flags, flagI, "set: the VNI is valid").judged(Good)
	reserved := bits("reserved", off, 8, flags, 0x77, "zero, as they should be")
	if flags&flagG != 0 {
		g.Meaning = "set: group policy (GBP) follows"
	}
	if flags&flagI == 0 {
		i.Meaning, i.Verdict = "CLEAR: the VNI is not valid", Bad
	}
	if flags&0x77 != 0 {
		reserved.Meaning, reserved.Verdict = reservedMeaning, Note
	}
	f.Parts = []Field{g, i, reserved}

	if flags&flagG == 0 {
		v := uint64(b[off+1])<<16 | uint64(b[off+2])<<8 | uint64(b[off+3])
		r := hexed("reserved", off+1, 3, v, "zero, as it should be")
		if v != 0 {
			r.Meaning, r.Verdict = reservedMeaning, Note
		}
		return []Field{f, r}
	}
	more := uint64(b[off+1])
	gbp := hexed("policy flags", off+1, 1, more, "")
	dont := bits("D", off+1, 8, more, flagD, "clear: the source MAC may be learned")
	applied := bits("A", off+1, 8, more, flagA, "clear: policy is yet to be applied")
	rest := bits("reserved", off+1, 8, more, 0xb7, "zero, as they should be")
	if more&flagD != 0 {
		dont.Meaning = "set: the source MAC must not be learned"
	}
	if more&flagA != 0 {
		applied.Meaning = "set: policy has been applied"
	}
	if more&0xb7 != 0 {
		rest.Meaning, rest.Verdict = reservedMeaning, Note
	}
	gbp.Parts = []Field{dont, applied, rest}
	policy := uint64(b[off+2])<<8 | uint64(b[off+3])
	return []Field{f, gbp, number("policy", off+2, 2, policy, "the sender's group (GBP)")}
}

// gpeFields are the first four bytes as VXLAN-GPE has them.
func gpeFields(off int, flags uint64, b []byte) []Field {
	f := hexed("flags", off, 1, flags, "")
	i := bits("I", off, 8, flags, flagI, "set: the VNI is valid").judged(Good)
	if flags&flagI == 0 {
		i.Meaning, i.Verdict = "CLEAR: the VNI is not valid", Bad
	}
	p := bits("P", off, 8, flags, gpeP, "clear: an Ethernet frame follows")
	if flags&gpeP != 0 {
		p.Meaning = "set: the next protocol is given"
	}
	f.Parts = []Field{
		bits("version", off, 8, flags, gpeVersion, ""),
		i, p,
		bits("B", off, 8, flags, gpeB, setClear(flags&gpeB, "broadcast, unknown or multicast")),
		bits("O", off, 8, flags, gpeO, setClear(flags&gpeO, "an OAM packet")),
	}
	reserved := uint64(b[off+1])<<8 | uint64(b[off+2])
	return []Field{
		f,
		hexed("reserved", off+1, 2, reserved, ""),
		number("next protocol", off+3, 1, uint64(b[off+3]), gpeProtocol(uint64(b[off+3]))),
	}
}

func setClear(v uint64, what string) string {
	if v != 0 {
		return "set: " + what
	}
	return "clear"
}

func gpeProtocol(v uint64) string {
	switch v {
	case 0:
		return "none"
	case 1:
		return "IPv4"
	case 2:
		return "IPv6"
	case 3:
		return "Ethernet"
	case 4:
		return "NSH"
	case 5:
		return "MPLS"
	}
	return fmt.Sprintf("next protocol %d", v)
}

// letters names the flags that are set; a dot when none with a name is, as
// tcpdump has it.
func letters(flags uint64, names string) string {
	var s strings.Builder
	for i, c := range names {
		if c != '.' && flags&(0x80>>i) != 0 {
			s.WriteRune(c)
		}
	}
	if s.Len() == 0 {
		return "."
	}
	return s.String()
}
