package explain

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket/layers"
)

// arp explains ARP for IPv4 over Ethernet (RFC 826), and shows the header alone
// of any other. It returns where the message ended.
func (d *dissector) arp(s span) (end int) {
	if !d.need(s, 8, "ARP") {
		d.printf("ARP, %s", d.broken())
		d.payload(s, "data")
		return s.wire
	}
	// gopacket adds the address lengths in eight bits: no more than this may be
	// left to it.
	hlen, plen := int(d.b[s.off+4]), int(d.b[s.off+5])
	size := 8 + 2*hlen + 2*plen
	fields := []Field{
		number("hardware type", s.off, 2, d.u16(s.off), arpHardware(d.u16(s.off))),
		hexed("protocol type", s.off+2, 2, d.u16(s.off+2), etherTypeName(uint16(d.u16(s.off+2)))),
		number("hardware size", s.off+4, 1, uint64(hlen), ""),
		number("protocol size", s.off+5, 1, uint64(plen), ""),
		number("operation", s.off+6, 2, d.u16(s.off+6), arpOperation(d.u16(s.off+6))),
	}
	if hlen != 6 || plen != 4 || d.u16(s.off+2) != 0x0800 {
		d.layer("ARP", "arp", s.off, 8, fields...)
		d.printf("ARP, %s, hardware size %d, protocol size %d, length %d", arpOperation(d.u16(s.off+6)), hlen, plen, s.onWire())
		d.payload(s.from(8), "data")
		return s.wire
	}
	if !d.need(s, size, "ARP") {
		d.layer("ARP", "arp", s.off, 8, fields...)
		d.printf("ARP, %s, %s", arpOperation(d.u16(s.off+6)), d.broken())
		d.payload(s.from(8), "data")
		return s.wire
	}
	var a layers.ARP
	if err := decode(&a, d.b[s.off:s.off+size]); err != nil {
		d.problem(s.off, "ARP", "%s", reason(err))
		d.payload(s, "data")
		return s.wire
	}
	sender := netip.AddrFrom4([4]byte(a.SourceProtAddress))
	target := netip.AddrFrom4([4]byte(a.DstProtAddress))
	targetMAC := d.mac("target MAC", s.off+18)
	if a.Operation == layers.ARPRequest && targetMAC.Meaning == "none" {
		targetMAC.Meaning = "unknown yet: that is the question"
	}
	senderMAC := d.mac("sender MAC", s.off+8)
	if s.off >= 8 && a.Operation <= 2 && d.follows("ethernet", s.off) &&
		[6]byte(d.b[s.off-8:s.off-2]) != [6]byte(a.SourceHwAddress) {
		senderMAC.Meaning = joinClauses(senderMAC.Meaning, "not the frame's source")
		senderMAC.Verdict = Note
	}
	d.layer("ARP", "arp", s.off, size, append(fields,
		senderMAC,
		word("sender IP", s.off+14, 4, sender.String(), ""),
		targetMAC,
		word("target IP", s.off+24, 4, target.String(), arpMeaning(a.Operation, sender, target)),
	)...)
	d.printf("ARP, %s", arpLine(&a, sender, target, d.b[s.off+18:s.off+24]))
	d.printf(", length %d", s.onWire())
	return s.off + size
}

// follows says whether the layer before off is the one with this key.
func (d *dissector) follows(key string, off int) bool {
	n := len(d.e.Layers)
	if n == 0 {
		return false
	}
	l := &d.e.Layers[n-1]
	return l.Key == key && l.Offset+l.Size == off
}

func arpLine(a *layers.ARP, sender, target netip.Addr, targetMAC []byte) string {
	switch a.Operation {
	case layers.ARPRequest:
		if [6]byte(targetMAC) != [6]byte{} {
			return fmt.Sprintf("Request who-has %v (%v) tell %v", target, net.HardwareAddr(targetMAC), sender)
		}
		return fmt.Sprintf("Request who-has %v tell %v", target, sender)
	case layers.ARPReply:
		return fmt.Sprintf("Reply %v is-at %v", sender, net.HardwareAddr(a.SourceHwAddress))
	}
	return fmt.Sprintf("%s, %v tells %v", arpOperation(uint64(a.Operation)), sender, target)
}

func arpMeaning(op uint16, sender, target netip.Addr) string {
	switch {
	case op == layers.ARPRequest && sender == target:
		return "its own: an announcement (gratuitous ARP)"
	case op == layers.ARPRequest && sender.IsUnspecified():
		return "a probe: is anybody using it"
	}
	return ""
}

func arpOperation(op uint64) string {
	switch op {
	case 1:
		return "request"
	case 2:
		return "reply"
	case 3:
		return "reverse request"
	case 4:
		return "reverse reply"
	}
	return fmt.Sprintf("operation %d", op)
}

// arpHardware names the ARP hardware types that Linux devices have.
func arpHardware(v uint64) string {
	switch v {
	case 1:
		return "Ethernet"
	case 772:
		return "loopback"
	case 65534:
		return "none: a tun device"
	case 778:
		return "GRE"
	case 768, 769:
		return "IP tunnel"
	}
	return ""
}
