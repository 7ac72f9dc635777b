// Package vtep is a VXLAN tunnel endpoint (RFC 7348): it carries the Ethernet
// frames of any number of VNIs between the devices of this host and other
// VTEPs. It joins the four packages that do the parts of it: tap for devices,
// fdb for "which station is behind which VTEP", vxlan for the bytes of the
// header, transport for the underlay.
//
// # In short
//
//	conn, err := transport.ListenUDP(transport.UDPConfig{Local: []netip.Addr{local}})
//	...
//	e, err := vtep.New(vtep.Config{Conn: conn})
//	...
//	dev, err := tap.Open(tap.Config{Name: "vx4097", MTU: 1450, Offload: tap.AllFeatures})
//	...
//	err = e.AddVNI(vtep.VNIConfig{
//		VNI:    4097,
//		Device: dev,
//		Peers:  []netip.AddrPort{netip.MustParseAddrPort("192.168.52.204:4789")},
//	})
//	...
//	err = e.Run(ctx) // until ctx is done
//
// The examples show all of it: one in memory, which runs anywhere, and one on
// a device of the host.
//
// # What becomes of a frame
//
// Out: a frame whose destination is in the VNI's FDB goes to that VTEP alone, or
// to one of several by its flow if the entry points to a nexthop group.
// A broadcast, a multicast and an unknown destination go to every peer, a copy
// each (head-end replication), and to every multicast group, one copy for all
// its members (RFC 7348 section 4.2). Frames to one VTEP and from one source port
// share trains (see package transport); a superframe of the device becomes a
// train, its segments with headers and checksums of their own.
//
//	[VXLAN 8][Ethernet frame][VXLAN 8][Ethernet frame]... all of one length but the last
//
// In: the header is checked (I flag, length; reserved bits are ignored), the
// VNI found, the sender looked up among those that may speak, the source MAC
// learned, the underlay's congestion mark taken over (RFC 6040), and the frame
// written to the VNI's device. What came from a VTEP is never sent to another
// (split horizon): the mesh is full.
//
// Each frame that is not delivered is counted under exactly one reason; see
// [Counters] and [EndpointCounters]. Nothing is logged for single packets.
//
// # Who may speak
//
// Frames are accepted from VTEPs that are peers, targets of the user's entries,
// members of nexthop groups or of a multicast group of the VNI, from those in a
// prefix of Guard.Allow, and from any with AllowUnknownVTEPs. The Guard also says what
// becomes of MACs that keep moving, and bounds new ones, broadcast and what the device
// itself may send as. A member of a multicast group is who has sent to it, or who
// sends to us from where it reaches: with a multicast TTL of 1 the subnets of its
// device, with a larger one anywhere. For the answer to the first flooded frame
// comes by unicast, from a VTEP that has sent nothing to the group, and nobody
// can list those. What comes back from a group with our own address is dropped.
// Up to 4096 members and strangers of a VNI are remembered and counted; more are
// served. The address decides: the source port of
// a VXLAN packet stands for a flow and tells nothing of the sender (RFC 7348
// section 5). Answers go to the port and VNI that were configured for the peer, or to
// this endpoint's own for a VTEP that was not configured. A MAC with a static
// entry cannot be learned elsewhere, and frames that claim to be from it are
// dropped. RFC 7348 has no authentication: who can forge the address of a peer
// can speak in its name.
//
// # Changes
//
// [Endpoint.Watch] tells of entries that are learned, move, age, come and go, as
// they do. A reader who is slow loses events, and is told how many.
//
// # Captures
//
// [Endpoint.Capture] shows frames as they pass, with what became of each: packets
// with outer headers that are made up of what is known, or frames as they cross
// the devices. While nobody captures, that costs one look a batch; while somebody
// does, a filter and a copy for each frame. A reader who is slow loses frames, and
// is told how many.
//
// # ARP and neighbour discovery
//
// A VNI floods ARP requests (RFC 826) and IPv6 neighbour solicitations (RFC 4861)
// like any other frame, or answers them by itself: see [ARPMode]. It answers for
// its neighbours, which are named in VNIConfig.Neighbours, added with
// Endpoint.AddNeighbour, or snooped from what stations on both sides say of
// themselves. The answer is what the neighbour would say, goes back into the
// device that the question came from, and has its VLAN tags.
//
// Whoever is near answers for itself, and not twice: no answer is given for the
// device's own MAC, for the asker's, and for a station that the FDB has behind no
// VTEP and that was last heard (by ARP or neighbour discovery) on the device's
// own side.
//
// A solicitation that RFC 4861 section 7.1.1 has discarded (hop limit, checksum,
// options) is never answered, nor is duplicate address detection; ARPSuppress
// lets both through, ARPProxy drops them. Snooping believes a message that comes
// from the MAC that it is about, and never overrides a static neighbour. A VNI is
// one subnet to it: the same IP address in two VLANs of one VNI is one neighbour.
// [Config].NeighbourMissed hears which addresses nobody has.
//
// # Probes
//
// [Endpoint.NewProber] asks another VTEP of this kind whether it is there, how
// far, and how long packets may be, by frames that no device ever gets. The
// answer comes from its engine, to VTEPs that may speak in the VNI, at most 200
// times a second for each and never longer than the question;
// Config.DisableProbeAnswers leaves it out.
//
// # Goroutines and buffers
//
// Run starts one goroutine for each queue of each device, for each receiver of
// the Conn and for each multicast group; each carries a batch from its beginning
// to its end, with no channel between. Every method of [Endpoint] may be called at any time by any
// goroutine, before and while Run runs; the packet path takes no lock and does
// not wait for them. Nothing is allocated per packet: batches are built in
// memory that the transmitters share, some 512 KB for each that is at work at
// the same time.
//
// The order of frames with one flow hash and one destination is never changed.
// Frames of other flows may overtake each other inside one batch.
//
// # Ownership and the end
//
// The endpoint owns Config.Conn from New on and VNIConfig.Device from a
// successful AddVNI on, and closes them: the device in DelVNI, everything when
// Run returns or in Close. Run ends with its context (nil), with Close (nil),
// or with an error when the underlay fails for good or the last device was
// taken away by somebody else. A device that vanishes while others are left
// ends its own VNI alone.
//
// HandOver gives everything to an endpoint in another process, which goes on by
// the same descriptors and with what this one knew (Restore), while nothing is
// lost; then Run ends (nil). It is for Linux, ListenUDP and devices of tap.Open.
//
// # Limits
//
// All VNIs that use a multicast group use it on the same device. A VTEP that is
// a peer and in a group too gets two copies of what is flooded. Groups are added
// and deleted by AddGroup and DelGroup alone, though they are on the flood list.
// Several peers of one address are told apart when sending only. Inner VLAN
// tags are carried as they are.
package vtep
