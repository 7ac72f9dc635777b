// Package soak runs endpoints for a long time under traffic, change and faults,
// and accounts for every datagram that was lost on the way.
//
// Three hosts, one Ethernet: two have a govxlan endpoint, the third the kernel's
// vxlan device. Numbered datagrams of several sizes and both families flow between
// each pair, broadcast too, and TCP beside them. Meanwhile VNIs, peers, entries and
// stations come and go, captures begin and end, and faults are made, one after the
// other: links go down, a process is killed, stopped, replaced.
//
// A datagram that was sent and did not arrive is explained by a fault that touched
// one of its two hosts at that moment, or by a counter (of the endpoints, of the
// hosts' sockets and devices) that went up then. One that is not explained is a
// failure, and so is an endpoint that ends with more memory, descriptors or
// goroutines than it had once it was warm.
package soak
