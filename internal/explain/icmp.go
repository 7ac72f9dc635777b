package explain

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"
)

// icmp explains ICMP for IPv4 (RFC 792).
func (d *dissector) icmp(f *flow, s span) {
	if !d.need(s, 8, "ICMP") {
		d.printf("ICMP, %s", d.broken())
		d.payload(s, "data")
		return
	}
	var m layers.ICMPv4
	_ = decode(&m, d.b[s.off:s.end]) // 8 bytes are all that it asks for
	typ, code := m.TypeCode.Type(), m.TypeCode.Code()
	fields := []Field{
		number("type", s.off, 1, uint64(typ), icmpType(typ)),
		number("code", s.off+1, 1, uint64(code), icmpCode(typ, code)),
		hexed("checksum", s.off+2, 2, uint64(m.Checksum), ""),
	}
	var line string
	size := 8
	body := s.from(8)
	quoted := ""
	switch typ {
	case layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply:
		fields = append(fields,
			number("identifier", s.off+4, 2, uint64(m.Id), ""),
			number("sequence", s.off+6, 2, uint64(m.Seq), ""))
		line = fmt.Sprintf("%s, id %d, seq %d", icmpType(typ), m.Id, m.Seq)
	case layers.ICMPv4TypeDestinationUnreachable:
		if code == layers.ICMPv4CodeFragmentationNeeded {
			fields = append(fields,
				hexed("unused", s.off+4, 2, d.u16(s.off+4), ""),
				number("next-hop MTU", s.off+6, 2, d.u16(s.off+6), "the largest packet that fits"))
		} else {
			fields = append(fields, hexed("unused", s.off+4, 4, d.u32(s.off+4), ""))
		}
		q := d.quote(body)
		quoted = q.line
		line = unreachable(code, q, d.u16(s.off+6))
	case layers.ICMPv4TypeRedirect:
		gateway := netip.AddrFrom4([4]byte(d.b[s.off+4 : s.off+8]))
		fields = append(fields, word("gateway", s.off+4, 4, gateway.String(), ""))
		q := d.quote(body)
		quoted = q.line
		line = fmt.Sprintf("redirect %s to host %v", q.dst, gateway)
	case layers.ICMPv4TypeTimeExceeded, layers.ICMPv4TypeParameterProblem, layers.ICMPv4TypeSourceQuench:
		fields = append(fields, hexed("unused", s.off+4, 4, d.u32(s.off+4), ""))
		q := d.quote(body)
		quoted = q.line
		line = icmpType(typ)
		if c := icmpCode(typ, code); c != "" {
			line = c
		}
	default:
		fields = append(fields, hexed("rest of header", s.off+4, 4, d.u32(s.off+4), ""))
		line = icmpType(typ)
	}
	if quoted != "" {
		fields = append(fields, word("quotes", body.off, body.here(), quoted, ""))
		size += body.here()
		body = body.from(body.here())
	}
	layer := d.layer("ICMP", "icmp", s.off, size, fields...)
	d.toJudge(layer, check{s: s, at: s.off + 2, proto: protoICMP})
	if f.more {
		d.notWhole(layer)
	}
	d.printf("ICMP %s, length %d", line, s.onWire())
	d.payload(body, "data")
}

// notWhole takes the last checksum back from judgement: the datagram is not all
// here.
func (d *dissector) notWhole(layer int) {
	c := d.checks[len(d.checks)-1]
	d.checks = d.checks[:len(d.checks)-1]
	d.e.Layers[layer].Fields[c.field].Meaning = "not judged: it covers all fragments"
}

// quotation is the packet that an ICMP error returns to its sender.
type quotation struct {
	line  string // in one line
	dst   string
	proto uint8
	port  uint64
}

// quote reads the beginning of the packet that an error is about.
func (d *dissector) quote(s span) quotation {
	if d.quoting || s.here() < 20 {
		return quotation{dst: "?"}
	}
	inner := &dissector{e: &Explanation{}, b: d.b[:s.end], ports: d.ports, quoting: true}
	inner.ip(span{s.off, s.end, s.end})
	q := quotation{dst: "?"}
	if len(inner.lines) > 0 {
		// A VXLAN packet that did not fit is a very likely thing to be quoted.
		var parts []string
		for i := range inner.lines {
			parts = append(parts, strings.TrimSpace(inner.lines[i].String()))
		}
		q.line = strings.Join(parts, " | ")
	}
	for _, l := range inner.e.Layers {
		for _, f := range l.Fields {
			switch {
			case l.Depth > 0:
			case l.Key == "ipv4" || l.Key == "ipv6":
				if f.Name == "destination" {
					q.dst = f.Text
				}
				if v, ok := f.Value.(uint64); ok && (f.Name == "protocol" || f.Name == "next header") {
					q.proto = uint8(v)
				}
			case f.Name == "destination port":
				q.port, _ = f.Value.(uint64)
			}
		}
	}
	if q.port == 0 && s.here() >= 28 && d.b[s.off] == 0x45 {
		q.port = d.u16(s.off + 22) // TCP quoted by its first 8 bytes alone
	}
	return q
}

func unreachable(code uint8, q quotation, mtu uint64) string {
	switch code {
	case 0:
		return fmt.Sprintf("net %s unreachable", q.dst)
	case 1:
		return fmt.Sprintf("host %s unreachable", q.dst)
	case 2:
		return fmt.Sprintf("%s protocol %d unreachable", q.dst, q.proto)
	case 3:
		return fmt.Sprintf("%s %s port %d unreachable", q.dst, strings.ToLower(protoWord(q.proto)), q.port)
	case 4:
		return fmt.Sprintf("%s unreachable - need to frag (mtu %d)", q.dst, mtu)
	case 9:
		return fmt.Sprintf("net %s unreachable - admin prohibited", q.dst)
	case 10:
		return fmt.Sprintf("host %s unreachable - admin prohibited", q.dst)
	case 13:
		return fmt.Sprintf("host %s unreachable - admin prohibited filter", q.dst)
	}
	return fmt.Sprintf("%s unreachable - #%d", q.dst, code)
}

func icmpType(t uint8) string {
	switch t {
	case 0:
		return "echo reply"
	case 3:
		return "destination unreachable"
	case 4:
		return "source quench"
	case 5:
		return "redirect"
	case 8:
		return "echo request"
	case 9:
		return "router advertisement"
	case 10:
		return "router solicitation"
	case 11:
		return "time exceeded"
	case 12:
		return "parameter problem"
	case 13:
		return "time stamp query"
	case 14:
		return "time stamp reply"
	}
	return fmt.Sprintf("type-#%d", t)
}

func icmpCode(t, c uint8) string {
	var names []string
	switch t {
	case 3:
		names = []string{"network", "host", "protocol", "port", "fragmentation needed and DF set",
			"source route failed", "network unknown", "host unknown", "", "network prohibited",
			"host prohibited", "network, for this TOS", "host, for this TOS", "prohibited by filter"}
	case 11:
		names = []string{"time exceeded in-transit", "ip reassembly time exceeded"}
	}
	if int(c) < len(names) {
		return names[c]
	}
	return ""
}

// icmp6 explains ICMPv6 (RFC 4443), neighbour discovery (RFC 4861) and
// multicast listener reports (RFC 3810).
func (d *dissector) icmp6(f *flow, s span) {
	if !d.need(s, 4, "ICMPv6") {
		d.printf("ICMP6, %s", d.broken())
		d.payload(s, "data")
		return
	}
	var m layers.ICMPv6
	_ = decode(&m, d.b[s.off:s.end])
	typ, code := m.TypeCode.Type(), m.TypeCode.Code()
	fields := []Field{
		number("type", s.off, 1, uint64(typ), icmp6Type(typ)),
		number("code", s.off+1, 1, uint64(code), icmp6Code(typ, code)),
		hexed("checksum", s.off+2, 2, uint64(m.Checksum), ""),
	}
	more, line, size, err := d.icmp6Body(typ, code, s)
	switch {
	case err != nil && s.wire > s.end:
		line += ", cut short" // said already, of the IP packet
	case err != nil:
		d.problem(s.off+4, "ICMPv6", "its %s is malformed: %v", icmp6Type(typ), err)
		line += ", malformed"
	}
	layer := d.layer("ICMPv6", "icmpv6", s.off, min(size, s.here()), append(fields, more...)...)
	d.toJudge(layer, check{s: s, at: s.off + 2, flow: f, proto: protoICMPv6})
	d.printf("ICMP6, %s, length %d", line, s.onWire())
	d.payload(s.from(size), "data")
}

// icmp6Body explains what follows the four common bytes: further fields, the
// summary, and how many bytes of s they take.
func (d *dissector) icmp6Body(typ, code uint8, s span) (fields []Field, line string, size int, err error) {
	b := d.b[s.off+4 : s.end]
	at := s.off + 4
	line, size = icmp6Type(typ), 4
	short := func(n int) bool {
		if len(b) < n {
			err = fmt.Errorf("it needs %d bytes, %d are here", n, len(b))
		}
		return err != nil
	}
	switch typ {
	case 1, 2, 3, 4: // errors, with the packet they are about
		if short(4) {
			return
		}
		name := "unused"
		switch typ {
		case 2:
			name = "MTU"
		case 4:
			name = "pointer"
		}
		fields = append(fields, number(name, at, 4, d.u32(at), ""))
		size = 8
		q := d.quote(s.from(8))
		if q.line != "" {
			fields = append(fields, word("quotes", at+4, s.here()-8, q.line, ""))
			size = s.here()
		}
		switch {
		case typ == 1:
			line += ", " + unreachable6(code, q)
		case typ == 2:
			line += fmt.Sprintf(", mtu %d", d.u32(at))
		case typ == 3 && code == 0:
			line += " in-transit for " + q.dst
		}
	case layers.ICMPv6TypeEchoRequest, layers.ICMPv6TypeEchoReply:
		var echo layers.ICMPv6Echo
		if err = decode(&echo, b); err != nil {
			return
		}
		fields = append(fields,
			number("identifier", at, 2, uint64(echo.Identifier), ""),
			number("sequence", at+2, 2, uint64(echo.SeqNumber), ""))
		line += fmt.Sprintf(", id %d, seq %d", echo.Identifier, echo.SeqNumber)
		size = 8
	case layers.ICMPv6TypeRouterSolicitation:
		var rs layers.ICMPv6RouterSolicitation
		if short(4) {
			return
		}
		err = decode(&rs, b)
		fields = append(fields, hexed("reserved", at, 4, d.u32(at), ""))
		fields = append(fields, ndOptions(at+4, rs.Options)...)
		size = s.here()
	case layers.ICMPv6TypeRouterAdvertisement:
		var ra layers.ICMPv6RouterAdvertisement
		if short(12) {
			return
		}
		err = decode(&ra, b)
		fields = append(fields,
			number("hop limit", at, 1, uint64(b[0]), ""),
			hexed("flags", at+1, 1, uint64(b[1]), ""),
			number("router lifetime", at+2, 2, d.u16(at+2), "s"),
			number("reachable time", at+4, 4, d.u32(at+4), "ms"),
			number("retransmit timer", at+8, 4, d.u32(at+8), "ms"))
		fields = append(fields, ndOptions(at+12, ra.Options)...)
		size = s.here()
	case layers.ICMPv6TypeNeighborSolicitation:
		var ns layers.ICMPv6NeighborSolicitation
		if short(20) {
			return
		}
		err = decode(&ns, b)
		target := netip.AddrFrom16([16]byte(b[4:20]))
		fields = append(fields,
			hexed("reserved", at, 4, d.u32(at), ""),
			word("target", at+4, 16, target.String(), addrMeaning(target)))
		fields = append(fields, ndOptions(at+20, ns.Options)...)
		line += fmt.Sprintf(", who has %v", target)
		size = s.here()
	case layers.ICMPv6TypeNeighborAdvertisement:
		var na layers.ICMPv6NeighborAdvertisement
		if short(20) {
			return
		}
		err = decode(&na, b)
		target := netip.AddrFrom16([16]byte(b[4:20]))
		flags := hexed("flags", at, 1, uint64(b[0]), joinClauses(
			pick(b[0]&0x80 != 0, "router", ""), pick(b[0]&0x40 != 0, "solicited", ""), pick(b[0]&0x20 != 0, "override", "")))
		fields = append(fields, flags,
			hexed("reserved", at+1, 3, d.u32(at)&0xffffff, ""),
			word("target", at+4, 16, target.String(), addrMeaning(target)))
		fields = append(fields, ndOptions(at+20, na.Options)...)
		line += fmt.Sprintf(", tgt is %v", target)
		size = s.here()
	case layers.ICMPv6TypeRedirect:
		var r layers.ICMPv6Redirect
		if short(36) {
			return
		}
		err = decode(&r, b)
		target, dst := netip.AddrFrom16([16]byte(b[4:20])), netip.AddrFrom16([16]byte(b[20:36]))
		fields = append(fields,
			hexed("reserved", at, 4, d.u32(at), ""),
			word("target", at+4, 16, target.String(), addrMeaning(target)),
			word("destination", at+20, 16, dst.String(), addrMeaning(dst)))
		fields = append(fields, ndOptions(at+36, r.Options)...)
		line += fmt.Sprintf(", %v to %v", dst, target)
		size = s.here()
	case 130, 131, 132: // MLDv1, and MLDv2's query
		if short(20) {
			return
		}
		group := netip.AddrFrom16([16]byte(b[4:20]))
		fields = append(fields,
			number("maximum delay", at, 2, d.u16(at), "ms"),
			hexed("reserved", at+2, 2, d.u16(at+2), ""),
			word("group", at+4, 16, group.String(), addrMeaning(group)))
		line += fmt.Sprintf(", %v", group)
		size = 24
	case 143:
		if short(4) {
			return
		}
		var report layers.MLDv2MulticastListenerReportMessage
		err = decode(&report, b)
		n := d.u16(at + 2)
		fields = append(fields,
			hexed("reserved", at, 2, d.u16(at), ""),
			number("group records", at+2, 2, n, ""))
		off := at + 4
		for _, r := range report.MulticastAddressRecords {
			length := 20 + 16*len(r.SourceAddresses) + 4*int(r.AuxDataLen)
			fields = append(fields, word("group", off, length, r.MulticastAddress.String(), reportType(uint8(r.RecordType), len(r.SourceAddresses))))
			off += length
		}
		line += fmt.Sprintf(", %d group record(s)", n)
		size = s.here()
	}
	return fields, line, size, err
}

func unreachable6(code uint8, q quotation) string {
	switch code {
	case 0:
		return "unreachable route " + q.dst
	case 1:
		return "unreachable prohibited " + q.dst
	case 2:
		return "beyond scope " + q.dst
	case 3:
		return "unreachable address " + q.dst
	case 4:
		return fmt.Sprintf("unreachable port, %s %s port %d", q.dst, strings.ToLower(protoWord(q.proto)), q.port)
	}
	return fmt.Sprintf("code-#%d", code)
}

// ndOptions are the options of neighbour discovery, the first at off.
func ndOptions(off int, options layers.ICMPv6Options) (fields []Field) {
	for _, o := range options {
		size := len(o.Data) + 2
		f := word("option", off, size, "", "")
		switch {
		case (o.Type == layers.ICMPv6OptSourceAddress || o.Type == layers.ICMPv6OptTargetAddress) && len(o.Data) == 6:
			f.Name = pick(o.Type == layers.ICMPv6OptSourceAddress, "source MAC", "target MAC")
			f.Text = net.HardwareAddr(o.Data).String()
			f.Meaning = macMeaning(o.Data)
		case o.Type == layers.ICMPv6OptMTU && len(o.Data) == 6:
			f.Name = "MTU"
			f.Text = fmt.Sprint(uint32(o.Data[2])<<24 | uint32(o.Data[3])<<16 | uint32(o.Data[4])<<8 | uint32(o.Data[5]))
		case o.Type == layers.ICMPv6OptPrefixInfo && len(o.Data) == 30:
			f.Name = "prefix"
			f.Text = fmt.Sprintf("%v/%d", netip.AddrFrom16([16]byte(o.Data[14:30])), o.Data[0])
		default:
			f.Text = fmt.Sprintf("type %d, %d bytes", o.Type, size)
		}
		f.Value = f.Text
		fields = append(fields, f)
		off += size
	}
	return fields
}

func icmp6Type(t uint8) string {
	switch t {
	case 1:
		return "destination unreachable"
	case 2:
		return "packet too big"
	case 3:
		return "time exceeded"
	case 4:
		return "parameter problem"
	case 128:
		return "echo request"
	case 129:
		return "echo reply"
	case 130:
		return "multicast listener query"
	case 131:
		return "multicast listener report"
	case 132:
		return "multicast listener done"
	case 133:
		return "router solicitation"
	case 134:
		return "router advertisement"
	case 135:
		return "neighbor solicitation"
	case 136:
		return "neighbor advertisement"
	case 137:
		return "redirect"
	case 143:
		return "multicast listener report v2"
	}
	return fmt.Sprintf("type-#%d", t)
}

func icmp6Code(t, c uint8) string {
	var names []string
	switch t {
	case 1:
		names = []string{"no route", "prohibited", "beyond scope of the source", "address", "port", "source failed policy", "route rejected"}
	case 3:
		names = []string{"hop limit in transit", "reassembly time"}
	}
	if int(c) < len(names) {
		return names[c]
	}
	return ""
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

func pick(cond bool, yes, no string) string {
	if cond {
		return yes
	}
	return no
}

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
