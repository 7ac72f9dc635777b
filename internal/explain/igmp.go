package explain

import (
	"fmt"
	"net/netip"

	"github.com/google/gopacket/layers"
)

// igmp explains IGMP, versions 1 to 3.
func (d *dissector) igmp(s span) {
	if !d.need(s, 8, "IGMP") {
		d.printf("igmp, %s", d.broken())
		d.payload(s, "data")
		return
	}
	typ := layers.IGMPType(d.b[s.off])
	fields := []Field{
		hexed("type", s.off, 1, uint64(typ), igmpType(typ)),
		number("maximum response", s.off+1, 1, d.u8(s.off+1), "in tenths of a second"),
		hexed("checksum", s.off+2, 2, d.u16(s.off+2), ""),
	}
	line := "igmp " + igmpType(typ)
	size := 8
	switch typ {
	case layers.IGMPMembershipReportV3:
		// gopacket keeps the records it could read and drops the error.
		var m layers.IGMP
		_ = decode(&m, d.b[s.off:s.end])
		n := d.u16(s.off + 6)
		fields = append(fields,
			hexed("reserved", s.off+4, 2, d.u16(s.off+4), ""),
			number("group records", s.off+6, 2, n, ""))
		if len(m.GroupRecords) < int(n) && s.wire == s.end {
			d.problem(s.off+6, "IGMP", "it announces %s, %d fit", count(int(n), "group record"), len(m.GroupRecords))
		}
		for _, r := range m.GroupRecords {
			length := 8 + 4*len(r.SourceAddresses)
			fields = append(fields, word("group", s.off+size, length, r.MulticastAddress.String(), reportType(uint8(r.Type), len(r.SourceAddresses))))
			size += length
		}
		line = fmt.Sprintf("%s, %d group record(s)", line, n)
	default:
		group := netip.AddrFrom4([4]byte(d.b[s.off+4 : s.off+8]))
		fields = append(fields, word("group", s.off+4, 4, group.String(), addrMeaning(group)))
		if !group.IsUnspecified() {
			line += " " + group.String()
		}
	}
	layer := d.layer("IGMP", "igmp", s.off, size, fields...)
	d.toJudge(layer, check{s: s, at: s.off + 2, proto: protoIGMP})
	d.printf("%s", line)
	d.payload(s.from(size), "data")
}

func igmpType(t layers.IGMPType) string {
	switch t {
	case layers.IGMPMembershipQuery:
		return "query"
	case layers.IGMPMembershipReportV1:
		return "v1 report"
	case layers.IGMPMembershipReportV2:
		return "v2 report"
	case layers.IGMPMembershipReportV3:
		return "v3 report"
	case layers.IGMPLeaveGroup:
		return "leave"
	}
	return fmt.Sprintf("type-#%d", t)
}

// reportType names the record types that IGMPv3 (RFC 3376 section 4.2.12) and
// MLDv2 share.
func reportType(t uint8, sources int) string {
	if sources == 0 {
		switch t {
		case 1:
			return "is no member"
		case 2:
			return "is a member"
		case 3:
			return "leaves the group"
		case 4:
			return "joins the group"
		}
	}
	name := fmt.Sprintf("record type %d", t)
	switch t {
	case 1:
		name = "listens to"
	case 2:
		name = "listens, except to"
	case 3:
		name = "now listens only to"
	case 4:
		name = "now listens, except to"
	case 5:
		name = "listens also to"
	case 6:
		name = "no longer listens to"
	}
	return fmt.Sprintf("%s %s", name, count(sources, "source"))
}
