// Package toobig answers frames that are too long for the path under an
// overlay, as a router would: with an ICMP "fragmentation needed" (RFC 1191) or
// an ICMPv6 "packet too big" (RFC 4443 section 3.2) made of the frame, so that
// its sender hears of it and sends shorter ones. It is pure: no I/O, no clock,
// no allocation.
package toobig
