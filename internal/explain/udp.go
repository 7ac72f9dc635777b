package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/gopacket/layers"
)

// UDP ports that carry VXLAN.
const (
	portVXLAN      = 4789 // RFC 7348 section 8
	portVXLANLinux = 8472 // Linux's default, older than the assignment
	portVXLANGPE   = 4790 // draft-ietf-nvo3-vxlan-gpe
)

// RFC 7348 section 5 recommends source ports from here on.
const sourcePortLo = 49152

// carries says how a UDP datagram was recognised as VXLAN.
type carries uint8

const (
	carriesOther carries = iota
	carriesVXLAN
	carriesGPE
	looksLikeVXLAN
)

func (d *dissector) udp(f *flow, s span) {
	if !d.need(s, 8, "UDP") {
		d.printf("%v > %v: %sUDP, %s", f.src, f.dst, f.between, d.broken())
		d.payload(s, "data")
		return
	}
	src, dst := uint16(d.u16(s.off)), uint16(d.u16(s.off+2))
	length := int(d.u16(s.off + 4))
	d.printf("%v.%d > %v.%d: %s", f.src, src, f.dst, dst, f.between)
	datagram := s
	lengthMeaning := fmt.Sprintf("8 header + %d behind it", length-8)
	switch {
	case length == 0:
		lengthMeaning = "0: a superframe before segmentation offload"
	case length < 8:
		d.problem(s.off+4, "UDP", "its length says %s, its header alone has 8", count(length, "byte"))
		lengthMeaning = "less than its header"
	case f.more && s.off+length > s.wire:
		lengthMeaning = "the rest is in the other fragments"
		datagram.wire = s.off + length
	default:
		datagram = d.narrow(s, length, s.off+4, "UDP", "its length")
	}
	var udp layers.UDP
	_ = decode(&udp, d.b[s.off:s.off+8]) // cannot fail once the length is judged
	body := datagram.from(8)
	kind := d.recognise(dst, body)

	checksumField := hexed("checksum", s.off+6, 2, uint64(udp.Checksum), "")
	fields := []Field{
		number("source port", s.off, 2, uint64(src), ""),
		number("destination port", s.off+2, 2, uint64(dst), portMeaning(dst, kind)),
		number("length", s.off+4, 2, uint64(length), lengthMeaning),
		checksumField,
	}
	switch {
	case kind == carriesOther:
		fields[0].Meaning = portMeaning(src, kind)
	case src >= sourcePortLo:
		fields[0].Meaning = "in RFC 7348's range, 49152-65535"
	default:
		fields[0].Meaning = "not in RFC 7348's range, 49152-65535 (recommended there)"
		fields[0].Verdict = Note
	}
	layer := d.layer("UDP", "udp", s.off, 8, fields...)
	if length == 0 || length >= 8 {
		d.toJudge(layer, check{s: datagram, at: s.off + 6, flow: f, proto: protoUDP, tunnel: kind != carriesOther})
	}
	if datagram.wire < s.wire {
		defer d.trailer(s, datagram.wire)
	}
	if f.more && kind != carriesOther {
		d.fragmentedTunnel(f)
		defer func(was bool) { d.fragment = was }(d.fragment)
		d.fragment = true
	}
	switch kind {
	case carriesVXLAN, carriesGPE, looksLikeVXLAN:
		if kind == looksLikeVXLAN {
			d.printf("looks like ")
		}
		d.vxlan(body, kind == carriesGPE)
	default:
		d.datagram(f, src, dst, body)
	}
}

// fragmentedTunnel marks the IP header of a tunnel's first fragment.
func (d *dissector) fragmentedTunnel(f *flow) {
	fields := d.e.Layers[f.layer].Fields
	for i := range fields {
		if fields[i].Verdict == Note && strings.Contains(fields[i].Name, "fragment") {
			fields[i].Meaning += "; RFC 7348 4.3 forbids a VTEP to fragment"
		}
	}
}

// recognise says what a datagram carries, by its destination port first.
func (d *dissector) recognise(port uint16, body span) carries {
	switch {
	case d.depth >= maxDepth:
		return carriesOther
	case port == portVXLAN || port == portVXLANLinux || slices.Contains(d.ports, port):
		return carriesVXLAN
	case port == portVXLANGPE:
		return carriesGPE
	case LooksLikeVXLAN(d.b[body.off:body.end]):
		return looksLikeVXLAN
	}
	return carriesOther
}

func portMeaning(port uint16, kind carries) string {
	switch {
	case kind == looksLikeVXLAN:
		return "not VXLAN's, but the payload looks like it"
	case port == portVXLAN:
		return "VXLAN"
	case port == portVXLANLinux:
		return "VXLAN, Linux's default (RFC 7348: 4789)"
	case port == portVXLANGPE:
		return "VXLAN-GPE"
	case kind == carriesVXLAN:
		return "VXLAN, by --port"
	}
	switch port {
	case 53:
		return "DNS"
	case 67:
		return "DHCP server"
	case 68:
		return "DHCP client"
	case 123:
		return "NTP"
	case 546, 547:
		return "DHCPv6"
	case 5353:
		return "mDNS"
	case 5355:
		return "LLMNR"
	case 6081:
		return "Geneve"
	}
	return ""
}

// datagram explains the payload of a UDP datagram that is no tunnel.
func (d *dissector) datagram(f *flow, src, dst uint16, s span) {
	on := func(ports ...uint16) bool {
		return slices.Contains(ports, src) || slices.Contains(ports, dst)
	}
	switch {
	case f.more:
	case on(53, 5353, 5355) && d.dns(s):
		return
	case on(67, 68) && !f.v6 && d.dhcp(s):
		return
	}
	d.printf("UDP, length %d", s.onWire())
	d.payload(s, "data")
}

// sctp shows the common header alone (RFC 9260 section 3.1).
func (d *dissector) sctp(f *flow, s span) {
	if !d.need(s, 12, "SCTP") {
		d.printf("%v > %v: %sSCTP, %s", f.src, f.dst, f.between, d.broken())
		d.payload(s, "data")
		return
	}
	d.layer("SCTP", "sctp", s.off, 12,
		number("source port", s.off, 2, d.u16(s.off), ""),
		number("destination port", s.off+2, 2, d.u16(s.off+2), ""),
		hexed("verification tag", s.off+4, 4, d.u32(s.off+4), ""),
		hexed("checksum", s.off+8, 4, d.u32(s.off+8), "CRC-32C, not judged"))
	d.printf("%v.%d > %v.%d: %sSCTP, length %d", f.src, d.u16(s.off), f.dst, d.u16(s.off+2), f.between, s.onWire())
	d.payload(s.from(12), "data")
}
