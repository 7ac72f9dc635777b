// Package ping finds out whether a VTEP is there, how far it is and how long a
// packet to it may be. It asks on several levels, since a VTEP need not be one of
// this kind: the host by ICMP (NewEcho), its UDP port by whether it is refused
// (Knock), its engine by probes (vtep.Prober, or Listen where no endpoint runs),
// and a station behind it by ARP (AskStation). What asks is a Line; Run and FindMTU
// use one.
//
// Sizes are those of inner Ethernet frames, in bytes, on every level: the outer IP
// packet is Overhead bytes longer.
package ping
