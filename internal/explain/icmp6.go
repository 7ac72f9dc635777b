package explain

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"
)

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
		d.problem(s.off+4, "ICMPv6", "its %s is malformed: %s", icmp6Type(typ), reason(err))
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
