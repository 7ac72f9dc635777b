// Package membership tells the nodes of an overlay network of each other: who is
// there, at which VTEP address, which VNIs each serves, and which stations (MAC and
// IP addresses) each has. No list of peers is needed: a node that knows the address
// of one other, and the key, finds all of them.
//
//	m, err := membership.Start(membership.Config{
//		Bind: netip.AddrPortFrom(local, membership.DefaultPort),
//		Join: []string{"192.168.52.203"},
//		Key:  key,
//		VTEP: netip.AddrPortFrom(local, 4789),
//		Handler: func(c membership.Change) {
//			// c.Was and c.Is say what a node had and has; nil: it was or is not there.
//		},
//	})
//	...
//	m.AddVNI(4097)
//	m.Announce(4097, membership.Endpoint{MAC: mac, IPs: []netip.Addr{ip}})
//	...
//	m.Withdraw(4097, mac)
//	m.Close() // at once; Leave says goodbye first
//
// It knows neither sockets of a VTEP nor tables: what is done about a Change is the
// user's. Several memberships, each with a port and a key of its own, may be in one
// process. VNIs says which numbers anybody uses.
//
// # How
//
// hashicorp/memberlist (SWIM) finds out who is there: every node probes one other a
// second, over UDP, and asks three more to try before it suspects it. A node that is
// gone is noticed in about five seconds, and in eight where there are a hundred.
//
// What a node has are facts: a VNI, or a station in a VNI. Each has a version, which
// its owner counts up, so that the newest word of a node about itself wins in whatever
// order words arrive. A new fact is gossiped in UDP packets. Who misses one, or came
// late, sees so by the versions, which any two nodes compare now and then, and asks for
// all facts of that node over TCP.
//
// Each start of a node is a new member, with an identity of its own. It may come with
// another address, and one that was killed is replaced at once by the one that comes
// at the same address.
//
// A node goes on trying all addresses of Config.Join that are no member, and those of
// members that it lost: so a network that fell apart becomes one again.
//
// # Trust
//
// Everything is encrypted with the key (AES-256-GCM), by memberlist. Who has the key may
// say anything about anybody; who has not is heard by nobody, and counted.
//
// # Limits
//
// MaxMembers, MaxFacts of a member and MaxAllFacts of all, MaxIPs of a station. What is too
// much, or malformed, is left out and counted.
package membership
