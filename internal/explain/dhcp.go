package explain

import (
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"
)

// dhcp explains a DHCP message lightly (RFC 2131): who asks, and what for. False
// when the bytes are none.
func (d *dissector) dhcp(s span) bool {
	if s.here() < 240 || s.wire > s.end {
		return false
	}
	var m layers.DHCPv4
	if err := decode(&m, d.b[s.off:s.end]); err != nil || m.HardwareLen != 6 {
		return false
	}
	kind := ""
	for _, o := range m.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			kind = strings.ToLower(layers.DHCPMsgType(o.Data[0]).String())
		}
	}
	op := "Request"
	if m.Operation == layers.DHCPOpReply {
		op = "Reply"
	}
	at := func(name string, off int) Field {
		a := netip.AddrFrom4([4]byte(d.b[s.off+off : s.off+off+4]))
		return word(name, s.off+off, 4, a.String(), addrMeaning(a))
	}
	d.layer("DHCP", "dhcp", s.off, s.here(),
		number("operation", s.off, 1, d.u8(s.off), joinClauses(strings.ToLower(op), kind)),
		hexed("transaction", s.off+4, 4, uint64(m.Xid), ""),
		at("client IP", 12), at("your IP", 16), at("server IP", 20), at("relay IP", 24),
		d.mac("client MAC", s.off+28))
	if op == "Request" {
		d.printf("BOOTP/DHCP, Request from %v, length %d", m.ClientHWAddr, s.onWire())
	} else {
		d.printf("BOOTP/DHCP, Reply, length %d", s.onWire())
	}
	return true
}
