// Package transport carries UDP datagrams between VTEPs, many with one call.
// It knows nothing of what is in them: for a VTEP it is a VXLAN header and a
// frame each. Three things fulfil its interface [Conn]: ListenUDP, UDP sockets of
// the Linux kernel; ListenPacket, packet sockets of it, for which the whole outer
// stack is written and read here; and [Network], an underlay in memory for tests.
//
// # Trains
//
// The unit is the [Train]: datagrams to or from one address, one behind the
// other in one buffer, all of one length but the last, which may be shorter.
//
//	Buf     0         Stride    2*Stride          len(Buf)
//	        |datagram |datagram |datagram |  ...  |
//	Len()                 (len(Buf)+Stride-1) / Stride datagrams
//
// That is the shape in which the kernel takes datagrams (UDP_SEGMENT) and hands
// them over (UDP_GRO) at nearly the price of one: over loopback, a train of 128
// small ones costs a fiftieth of what they cost one by one (BenchmarkLoopback).
// A train has at most [MaxBytes] bytes and [MaxSegments] datagrams; what the
// kernel at hand takes as one is found out, and longer trains are sent in
// pieces.
//
//	c, err := transport.ListenUDP(transport.UDPConfig{Local: []netip.Addr{local}})
//	...
//	defer c.Close()
//	s := c.NewSender()
//	n, err := s.Send([]transport.Train{{Buf: b, Stride: 1472, Addr: peer, Hash: flow}})
//
// # Buffers
//
// Send has done with the bytes when it returns. What Recv returns belongs to
// the receiver, may be written to, and is valid until the next Recv. Neither
// allocates.
//
// # Goroutines
//
// A [Sender] and a [Receiver] serve one goroutine each; a Conn gives out as
// many senders as are asked for, and all its receivers have to be served. Close
// may be called by anybody at any time: every Recv and Send that waits, and
// every later one, returns net.ErrClosed.
//
// # UDP sockets or packet sockets
//
// ListenUDP is the usual choice: it needs no privilege, the host's firewall and
// the kernel's counters see its packets, and what belongs together is sent and
// received in one piece. ListenPacket does the latter as well, at about the same
// price, and is to be preferred where
//
//   - every flow shall have a source port of its own, for an underlay of many
//     paths: ListenUDP has sixteen,
//   - TTL, DF and flow label differ from packet to packet,
//   - no outer UDP checksum is to be sent (PacketConfig.ZeroChecksum4), or
//   - the host's firewall or connection tracking is in the way.
//
// It needs CAP_NET_RAW. Next hops come from the kernel's routes and neighbours,
// and are followed as they change, which takes effect a moment later than in
// the kernel. A packet whose neighbour is not known, that is for this host, or
// that leaves by a link without Ethernet goes through the kernel's IP, headers
// and all, which resolves and keeps it; so does one now and then to a neighbour
// that the kernel has not heard of for a while. Of a route that has several
// ways each flow takes one, by weight. Of fragments, those of IPv4 are put
// together, those of IPv6 dropped.
//
// # Source ports
//
// The UDP source port of a VXLAN packet stands for the inner flow, so that the
// underlay can spread flows over its paths (RFC 7348 section 5). ListenUDP
// opens 16 sockets, spread at random over the range, beside those that receive,
// and Train.Hash chooses among them: trains with the same Hash*Flows>>32 leave
// from one port and stay in order. Flows is in [Limits]. Datagrams that others
// send to those ports are dropped by the kernel. ListenPacket uses every port of
// the range, and no socket is bound to them.
//
// # Another process
//
// InheritUDP goes on with the sockets of another process, by copies of its
// descriptors ([Transferable]): ports, memberships and what waits in the sockets
// go over.
//
// # Multicast groups
//
// A Conn of ListenUDP or of a [Network] is a [GroupConn] too. ListenUDP receives
// for each group by a socket bound to the group's address and its own port, so
// that nothing meant for others arrives there, and multicast does not arrive
// anywhere else. The memberships are kept up: the device may go down, come back,
// or be made anew. A group is on one device, and what is sent to it leaves by
// that one, with UDPConfig.MulticastTTL; nothing of it comes back to this host
// (IP_MULTICAST_LOOP is off), so that two VTEPs of one host do not hear each
// other by a group.
//
// # Errors
//
// Send stops at the first train that cannot be sent, says how many were, and
// the rest may be tried again behind it. On Linux the error is a bare
// syscall.Errno, so that it costs nothing: EMSGSIZE for datagrams longer than
// the underlay device's MTU allows (less 28 bytes on IPv4, 48 on IPv6),
// ENETUNREACH or EHOSTUNREACH without a way, ENETUNREACH or EINVAL when the
// local address was taken away, ENOBUFS when a queue is full. All of them may
// pass: the sockets stay usable.
//
// # Fragments and path MTU
//
// Nothing that is sent is ever fragmented by this host, with and without
// DontFragment (RFC 7348 section 4.3), and the path-MTU cache of the
// kernel, which ICMP messages fill, has no influence. Fragments made on the
// way are put together by the receiving kernel (but see above for ListenPacket).
//
// # Checksums
//
// The outer UDP checksum is sent, which UDP_SEGMENT requires, unless UDPConfig
// says otherwise: then datagrams leave one by one. A wrong one is dropped by the
// receiving kernel, and by ListenPacket itself. Zero, which is none, is accepted on IPv4, and on IPv6 where
// UDPConfig.AcceptZeroChecksum6 says so.
//
// # The outer header
//
// TOS, TTL and IPv6 flow label are fields of each Train, and so is Don't Fragment
// where UDPConfig.DontFragmentByTrain has a second set of sockets opened for it;
// ListenPacket needs none.
// What a Train leaves at zero is as UDPConfig has it for all. A flow label needs
// Linux 5.3, and a network namespace in which nobody reserved labels for himself.
//
// # Limits
//
// ListenUDP and ListenPacket are for Linux. A Conn has at most one address of each family.
// Unspecified local addresses (0.0.0.0, ::) let routing choose the source
// address for each packet, which peers learn: give the VTEP's own where there
// are several.
package transport
