package explain

import (
	"fmt"
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
