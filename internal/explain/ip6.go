package explain

import (
	"fmt"
	"net/netip"

	"github.com/google/gopacket/layers"
)

func (d *dissector) ipv6(s span) (end int) {
	if !d.need(s, 40, "IPv6") {
		d.printf("IP6, %s", d.broken())
		d.payload(s, "data")
		return s.wire
	}
	class := uint8(d.u16(s.off) >> 4)
	label := d.u32(s.off) & 0xfffff
	length := int(d.u16(s.off + 4))
	f := &flow{
		v6:    true,
		src:   netip.AddrFrom16([16]byte(d.b[s.off+8 : s.off+24])),
		dst:   netip.AddrFrom16([16]byte(d.b[s.off+24 : s.off+40])),
		proto: d.b[s.off+6],
	}
	labelMeaning := ""
	if label == 0 {
		labelMeaning = "none"
	}
	lengthMeaning := "bytes behind these 40"
	body := s
	total := 40 + length
	if length == 0 && f.proto != protoNone {
		lengthMeaning = "0: a superframe before segmentation offload"
		total = s.onWire()
	} else {
		body = d.narrow(s, total, s.off+4, "IPv6", "its payload length with the header")
		if total > largestMTU {
			lengthMeaning += ": a superframe before segmentation offload"
		}
	}
	labelField := hexed("flow label", s.off+1, 3, label, labelMeaning)
	labelField.Text = fmt.Sprintf("0x%05x", label)
	d.layer("IPv6", "ipv6", s.off, 40,
		number("version", s.off, 1, 6, ""),
		dscp(s.off, 2, class>>2),
		ecn(s.off+1, 1, class&3),
		labelField,
		number("payload length", s.off+4, 2, uint64(length), lengthMeaning),
		number("next header", s.off+6, 1, uint64(f.proto), protoName(f.proto)),
		ttl("hop limit", s.off+7, d.b[s.off+7]),
		word("source", s.off+8, 16, f.src.String(), addrMeaning(f.src)),
		word("destination", s.off+24, 16, f.dst.String(), addrMeaning(f.dst)))
	d.printf("IP6 ")
	d.extensions(f, body.from(40))
	return s.off + total
}

// extensions explains the extension headers of IPv6 (RFC 8200 section 4) and
// then what they lead to.
func (d *dissector) extensions(f *flow, s span) {
	for n := 0; ; n++ {
		var ok bool
		switch {
		case n == maxExtensions:
			d.problem(s.off, "IPv6", "has more than %d extension headers", maxExtensions)
		case f.proto == protoHopByHop || f.proto == protoDstOpts:
			ok = d.optionsHeader(f, &s)
		case f.proto == protoRouting || f.proto == protoAH:
			ok = d.opaqueHeader(f, &s)
		case f.proto == protoFragment:
			ok = d.fragmentHeader(f, &s)
		default:
			d.transport(f, s)
			return
		}
		if !ok {
			d.printf("%v > %v: %s%s", f.src, f.dst, f.between, d.broken())
			d.payload(s, "data")
			return
		}
		if f.offset > 0 {
			d.transport(f, s)
			return
		}
	}
}

// optionsHeader explains a hop-by-hop or a destination options header.
func (d *dissector) optionsHeader(f *flow, s *span) bool {
	name, key, short := "hop-by-hop options", "hop_by_hop", "HBH "
	if f.proto == protoDstOpts {
		name, key, short = "destination options", "destination_options", "DSTOPT "
	}
	if !d.need(*s, 2, name) {
		return false
	}
	size := (int(d.b[s.off+1]) + 1) * 8
	if !d.need(*s, size, name) {
		return false
	}
	var h layers.IPv6HopByHop // destination options have the same form
	err := decode(&h, d.b[s.off:s.off+size])
	next := d.b[s.off]
	options := word("options", s.off+2, size-2, fmt.Sprintf("%d bytes", size-2), "")
	if err != nil {
		d.problem(s.off+2, name, "its options are malformed: %s", reason(err))
		options.Verdict = Bad
	}
	at := s.off + 2
	for _, o := range h.Options {
		options.Parts = append(options.Parts, Field{
			Name: "option", Offset: at, Size: o.ActualLength,
			Value: uint64(o.OptionType), Text: fmt.Sprint(o.OptionType), Meaning: ipv6Option(o.OptionType),
		})
		at += o.ActualLength
	}
	d.layer(name, key, s.off, size,
		number("next header", s.off, 1, uint64(next), protoName(next)),
		number("length", s.off+1, 1, uint64(d.b[s.off+1]), fmt.Sprintf("%d bytes in all", size)),
		options)
	f.proto = next
	f.between += short
	*s = s.from(size)
	return true
}

func ipv6Option(t uint8) string {
	switch t {
	case 0:
		return "padding of one byte"
	case 1:
		return "padding"
	case 5:
		return "router alert"
	case 0xc2:
		return "jumbo payload"
	}
	return ""
}

// opaqueHeader walks over a routing or an authentication header.
func (d *dissector) opaqueHeader(f *flow, s *span) bool {
	name, key, unit, least := "routing header", "routing", 8, 8
	if f.proto == protoAH {
		name, key, unit, least = "authentication header", "ah", 4, 12
	}
	if !d.need(*s, 2, name) {
		return false
	}
	size := max(int(d.b[s.off+1])*unit+8, least)
	if !d.need(*s, size, name) {
		return false
	}
	next := d.b[s.off]
	fields := []Field{
		number("next header", s.off, 1, uint64(next), protoName(next)),
		number("length", s.off+1, 1, uint64(d.b[s.off+1]), fmt.Sprintf("%d bytes in all", size)),
	}
	if f.proto == protoRouting {
		fields = append(fields,
			number("routing type", s.off+2, 1, d.u8(s.off+2), ""),
			number("segments left", s.off+3, 1, d.u8(s.off+3), ""))
		f.between += "srcrt "
	} else {
		fields = append(fields,
			hexed("SPI", s.off+4, 4, d.u32(s.off+4), ""),
			number("sequence", s.off+8, 4, d.u32(s.off+8), ""))
		f.between += "AH "
	}
	d.layer(name, key, s.off, size, fields...)
	f.proto = next
	*s = s.from(size)
	return true
}

func (d *dissector) fragmentHeader(f *flow, s *span) bool {
	if !d.need(*s, 8, "fragment header") {
		return false
	}
	next := d.b[s.off]
	v := d.u16(s.off + 2)
	f.offset, f.more = int(v&0xfff8), v&1 != 0
	meaning := "last fragment"
	switch {
	case f.offset == 0 && !f.more:
		meaning = "whole: an atomic fragment"
	case f.offset == 0:
		meaning = "first fragment, more follow"
	case f.more:
		meaning = "more follow"
	}
	f.layer = d.layer("fragment header", "fragment", s.off, 8,
		number("next header", s.off, 1, uint64(next), protoName(next)),
		number("fragment offset", s.off+2, 2, uint64(f.offset), meaning).judged(Note),
		hexed("identification", s.off+4, 4, d.u32(s.off+4), ""))
	f.between += fmt.Sprintf("frag (%d|%d) ", f.offset, s.onWire()-8)
	f.proto = next
	*s = s.from(8)
	return true
}
