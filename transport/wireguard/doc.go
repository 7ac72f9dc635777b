// Package wireguard is a VTEP's attachment to an underlay that is encrypted: a
// [transport.Conn] whose packets travel through a WireGuard tunnel. Handshakes,
// ciphers, keep-alive and roaming are those of the library wireguard-go; there is
// no cryptography here.
//
//	outer IP | outer UDP, port 51820 | WireGuard | inner IP | inner UDP, port 4789 | VXLAN | frame
//
// The inner IP and UDP headers are written and read here: no device, no address
// and no route of the system has to do with them, so that nothing needs a
// privilege, and the host's port 4789 stays free.
//
//	cfg, err := wireguard.ReadFile("/etc/wireguard/wg0.conf")
//	...
//	if err := cfg.Resolve(ctx); err != nil {
//	...
//	c, err := wireguard.Listen(*cfg, wireguard.Options{})
//
// Peers of the VTEP are addresses inside the tunnel. What AllowedIPs do not give
// to any peer is not sent (ErrNoPeer), and what a peer sends from an address that
// is not its own is dropped by the library.
//
// # At the far end
//
// Any WireGuard does: the far VTEP may be the kernel's vxlan device on top of a
// WireGuard interface, whose port for VXLAN is the one given here.
//
// # MTU
//
// A packet in the tunnel is 60 bytes shorter than one of the underlay over IPv4,
// 80 over IPv6 ([OverheadIPv4], [OverheadIPv6]), and frames are as much shorter
// again as VXLAN takes. Config.MTU is that of the tunnel; a datagram that makes a
// longer packet is refused with [transport.ErrTooLong], and told to whoever asked
// with HearTooBig.
//
// # Limits
//
// There is one Receiver, which is not transport.Pollable, and there are no
// multicast groups. TOS and TTL of a train are those of the packet in the tunnel;
// the one around it has the system's.
package wireguard
