package fdb

import (
	"net/netip"
	"strconv"
)

// Remote is where frames for a MAC go: the VTEP's address and UDP port, and
// the VNI to write into the header. All three together are its key: the same
// address with another port or another VNI is a second remote.
//
// An IPv4 address written as IPv6 (::ffff:192.0.2.1) is the IPv4 address: the
// table takes either form and always hands out the IPv4 one.
type Remote struct {
	Addr netip.AddrPort
	VNI  uint32 // 0 = the VNI that the table belongs to
}

// String returns "192.0.2.1:4789", or "192.0.2.1:4789 vni 7" for a remote
// with a VNI of its own.
func (r Remote) String() string {
	if r.VNI == 0 {
		return r.Addr.String()
	}
	return r.Addr.String() + " vni " + strconv.FormatUint(uint64(r.VNI), 10)
}

// canonical returns r with an IPv4-mapped address unmapped, so that one VTEP
// is one remote whichever kind of socket heard it.
func (r Remote) canonical() Remote {
	if a := r.Addr.Addr(); a.Is4In6() {
		r.Addr = netip.AddrPortFrom(a.Unmap(), r.Addr.Port())
	}
	return r
}

// is reports *r == o, without the call that the compiler makes of that.
func (r *Remote) is(o *Remote) bool {
	return r.VNI == o.VNI && r.Addr.Port() == o.Addr.Port() && r.Addr.Addr() == o.Addr.Addr()
}

// source reports whether a datagram can have come from r: a multicast or
// unspecified source address is forged or broken.
func (r Remote) source() bool {
	a := r.Addr.Addr()
	return a.IsValid() && !a.IsMulticast() && !a.IsUnspecified()
}
