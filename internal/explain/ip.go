package explain

import (
	"fmt"
	"net/netip"

	"github.com/google/gopacket/layers"

	"github.com/govxlan/govxlan/internal/checksum"
)

// Protocol numbers, as IPv4 calls them, and next headers, as IPv6 does.
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoIGMP     = 2
	protoIPv4     = 4
	protoTCP      = 6
	protoUDP      = 17
	protoIPv6     = 41
	protoRouting  = 43
	protoFragment = 44
	protoAH       = 51
	protoICMPv6   = 58
	protoNone     = 59
	protoDstOpts  = 60
	protoSCTP     = 132
)

// largestMTU is more than any Ethernet carries, in bytes: what is longer was
// captured before segmentation offload split it, or after it was put together.
const largestMTU = 9216

// flow is what the layers above need of an IP header.
type flow struct {
	v6       bool
	src, dst netip.Addr
	proto    uint8
	offset   int    // of this fragment, bytes
	more     bool   // fragments follow
	between  string // extension headers, for the summary
	layer    int    // index of the IP layer
}

func (f *flow) fragment() bool { return f.more || f.offset > 0 }

// ip explains an IPv4 or IPv6 packet and returns where it ended.
func (d *dissector) ip(s span) (end int) {
	if !d.need(s, 1, "IP") {
		d.printf("IP, %s", d.broken())
		return s.wire
	}
	switch version := d.b[s.off] >> 4; version {
	case 4:
		return d.ipv4(s)
	case 6:
		return d.ipv6(s)
	default:
		d.problem(s.off, "IP", "version %d, there are only 4 and 6", version)
		d.printf("IP version %d, %s", version, d.broken())
		d.payload(s, "data")
		return s.wire
	}
}

func (d *dissector) ipv4(s span) (end int) {
	fail := func() int {
		d.printf("IP, %s", d.broken())
		d.payload(s, "data")
		return s.wire
	}
	if !d.need(s, 20, "IPv4") {
		return fail()
	}
	header := int(d.b[s.off]&15) * 4
	total := int(d.u16(s.off + 2))
	switch {
	case header < 20:
		d.problem(s.off, "IPv4", "its header length says %d bytes, 20 is the least", header)
		return fail()
	case total != 0 && total < header:
		d.problem(s.off+2, "IPv4", "its total length says %d bytes, its header alone has %d", total, header)
		return fail()
	case !d.need(s, header, "IPv4"):
		return fail()
	}
	totalMeaning := fmt.Sprintf("%d header + %d behind it", header, total-header)
	body := s
	if total == 0 {
		totalMeaning = "0: a superframe before segmentation offload"
		total = s.onWire()
	} else {
		body = d.narrow(s, total, s.off+2, "IPv4", "its total length")
		if total > largestMTU {
			totalMeaning += ": a superframe before segmentation offload"
		}
	}
	var ip layers.IPv4
	optionsErr := decode(&ip, d.b[s.off:s.off+header])

	word16 := d.u16(s.off + 6)
	offset := int(word16&0x1fff) * 8
	f := &flow{
		src:    netip.AddrFrom4([4]byte(d.b[s.off+12 : s.off+16])),
		dst:    netip.AddrFrom4([4]byte(d.b[s.off+16 : s.off+20])),
		proto:  d.b[s.off+9],
		offset: offset,
		more:   word16&0x2000 != 0,
	}
	headerMeaning := "bytes, no options"
	if header > 20 {
		headerMeaning = fmt.Sprintf("bytes, %d of them options", header-20)
	}
	fields := []Field{
		number("version", s.off, 1, 4, ""),
		number("header length", s.off, 1, uint64(header), headerMeaning),
		dscp(s.off+1, 1, d.b[s.off+1]>>2),
		ecn(s.off+1, 1, d.b[s.off+1]&3),
		number("total length", s.off+2, 2, d.u16(s.off+2), totalMeaning),
		hexed("identification", s.off+4, 2, d.u16(s.off+4), ""),
		ipv4Flags(s.off+6, word16),
		ttl("TTL", s.off+8, d.b[s.off+8]),
		number("protocol", s.off+9, 1, uint64(f.proto), protoName(f.proto)),
		d.headerChecksum(s.off, header),
		word("source", s.off+12, 4, f.src.String(), addrMeaning(f.src)),
		word("destination", s.off+16, 4, f.dst.String(), addrMeaning(f.dst)),
	}
	if header > 20 {
		options := word("options", s.off+20, header-20, fmt.Sprintf("%d bytes", header-20), "")
		if optionsErr != nil {
			d.problem(s.off+20, "IPv4", "its options are malformed: %s", reason(optionsErr))
			options.Verdict = Bad
		}
		at := s.off + 20
		for _, o := range ip.Options {
			options.Parts = append(options.Parts, Field{
				Name: "option", Offset: at, Size: int(o.OptionLength),
				Value: uint64(o.OptionType), Text: fmt.Sprint(o.OptionType), Meaning: ipv4Option(o.OptionType),
			})
			at += int(o.OptionLength)
		}
		fields = append(fields, options)
	}
	f.layer = d.layer("IPv4", "ipv4", s.off, header, fields...)
	d.printf("IP ")
	d.transport(f, body.from(header))
	return s.off + total
}

// headerChecksum judges the checksum of the IPv4 header, which has no partial
// form: the kernel writes it itself.
func (d *dissector) headerChecksum(off, size int) Field {
	f := hexed("header checksum", off+10, 2, d.u16(off+10), "")
	sum := checksum.Sum(d.b[off:off+size], 0)
	if checksum.Fold(sum) == 0xffff {
		f.Meaning, f.Verdict = "correct", Good
		return f
	}
	want := checksum.Checksum(d.b[off+12:off+size], checksum.Sum(d.b[off:off+10], 0))
	f.Meaning, f.Verdict = fmt.Sprintf("wrong, should be 0x%04x", want), Bad
	if f.Value == uint64(0) {
		f.Meaning, f.Verdict = fmt.Sprintf("not filled in yet (offload): will be 0x%04x", want), Note
	}
	return f
}

func ipv4Flags(off int, v uint64) Field {
	f := hexed("flags, fragment", off, 2, v, "")
	offset := int(v&0x1fff) * 8
	switch df, mf := v&0x4000 != 0, v&0x2000 != 0; {
	case mf && offset == 0:
		f.Meaning, f.Verdict = "first fragment, more follow", Note
	case mf:
		f.Meaning, f.Verdict = fmt.Sprintf("fragment at byte %d, more follow", offset), Note
	case offset > 0:
		f.Meaning, f.Verdict = fmt.Sprintf("last fragment, at byte %d", offset), Note
	case df:
		f.Meaning = "DF: routers must not fragment it"
	default:
		f.Meaning = "DF clear: routers may fragment it"
	}
	f.Parts = []Field{
		bits("DF", off, 16, v, 0x4000, ""),
		bits("MF", off, 16, v, 0x2000, ""),
		bits("fragment offset", off, 16, v, 0x1fff, fmt.Sprintf("%d bytes", offset)),
	}
	f.brief = true
	return f
}

func ttl(name string, off int, v uint8) Field {
	f := number(name, off, 1, uint64(v), "")
	switch v {
	case 0:
		f.Meaning, f.Verdict = "0 must never be on the wire", Bad
	case 1:
		f.Meaning = "no router forwards it"
	case 255:
		f.Meaning = "no router has forwarded it"
	}
	return f
}

func dscp(off, size int, v uint8) Field {
	name := ""
	switch {
	case v == 0:
		name = "CS0, best effort"
	case v == 46:
		name = "EF, expedited"
	case v == 44:
		name = "voice admit"
	case v == 1:
		name = "lower effort"
	case v%8 == 0:
		name = fmt.Sprintf("CS%d", v/8)
	case v >= 10 && v <= 38 && v%2 == 0 && v/8 >= 1 && v/8 <= 4 && v%8 != 0:
		name = fmt.Sprintf("AF%d%d", v/8, v%8/2)
	}
	return number("DSCP", off, size, uint64(v), name)
}

func ecn(off, size int, v uint8) Field {
	return number("ECN", off, size, uint64(v), [...]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE: congestion was met"}[v&3])
}

func ipv4Option(t uint8) string {
	switch t {
	case 0:
		return "end of options"
	case 1:
		return "no operation"
	case 7:
		return "record route"
	case 68:
		return "timestamp"
	case 131, 137:
		return "source route"
	case 148:
		return "router alert"
	}
	return ""
}

// protoName names an IP protocol or an IPv6 next header.
func protoName(p uint8) string {
	switch p {
	case protoHopByHop:
		return "hop-by-hop options"
	case protoICMP:
		return "ICMP"
	case protoIGMP:
		return "IGMP"
	case protoIPv4:
		return "IPv4"
	case protoTCP:
		return "TCP"
	case protoUDP:
		return "UDP"
	case protoIPv6:
		return "IPv6"
	case protoRouting:
		return "routing header"
	case protoFragment:
		return "fragment header"
	case 47:
		return "GRE"
	case 50:
		return "ESP"
	case protoAH:
		return "AH"
	case protoICMPv6:
		return "ICMPv6"
	case protoNone:
		return "nothing follows"
	case protoDstOpts:
		return "destination options"
	case 89:
		return "OSPF"
	case 103:
		return "PIM"
	case 112:
		return "VRRP"
	case protoSCTP:
		return "SCTP"
	}
	return ""
}

// addrMeaning says what is special about an address.
func addrMeaning(a netip.Addr) string {
	switch a.String() {
	case "0.0.0.0":
		return "none"
	case "::":
		return "none"
	case "255.255.255.255":
		return "broadcast"
	case "224.0.0.1", "ff02::1":
		return "all nodes"
	case "224.0.0.2", "ff02::2":
		return "all routers"
	case "224.0.0.22", "ff02::16":
		return "multicast routers that hear reports"
	case "224.0.0.251", "ff02::fb":
		return "mDNS"
	case "224.0.0.252", "ff02::1:3":
		return "LLMNR"
	case "239.255.255.250", "ff02::c":
		return "SSDP"
	}
	switch {
	case a.Is6() && a.As16()[0] == 0xff && a.As16()[1] == 0x02 && a.As16()[11] == 1 && a.As16()[12] == 0xff:
		return "solicited-node group"
	case a.IsLoopback():
		return "loopback"
	case a.IsLinkLocalUnicast():
		return "link-local"
	case a.IsMulticast():
		return "multicast"
	}
	return ""
}

// transport explains what an IP packet carries.
func (d *dissector) transport(f *flow, s span) {
	if f.offset > 0 {
		// The header is in the first fragment.
		if f.v6 {
			d.printf("%v > %v: %s", f.src, f.dst, f.between)
			d.payload(s, "fragment")
			return
		}
		d.printf("%v > %v: %s%s, fragment at %d, length %d", f.src, f.dst, f.between, protoWord(f.proto), f.offset, s.onWire())
		d.payload(s, "fragment")
		return
	}
	switch {
	case f.proto == protoUDP:
		d.udp(f, s)
		return
	case f.proto == protoTCP:
		d.tcp(f, s)
		return
	case f.proto == protoSCTP:
		d.sctp(f, s)
		return
	}
	d.printf("%v > %v: %s", f.src, f.dst, f.between)
	switch {
	case f.proto == protoICMP && !f.v6:
		d.icmp(f, s)
	case f.proto == protoICMPv6 && f.v6:
		d.icmp6(f, s)
	case f.proto == protoIGMP && !f.v6:
		d.igmp(s)
	case (f.proto == protoIPv4 || f.proto == protoIPv6) && s.here() > 0 && d.nested < maxDepth:
		d.nested++
		d.trailer(s, d.ip(s))
		d.nested--
	case f.proto == protoNone:
		d.printf("no next header")
		d.payload(s, "data")
	default:
		d.printf("%s, length %d", protoWord(f.proto), s.onWire())
		d.payload(s, "data")
	}
}

func protoWord(p uint8) string {
	if n := protoName(p); n != "" {
		return n
	}
	return fmt.Sprintf("ip-proto-%d", p)
}
