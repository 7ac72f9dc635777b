package vtep

import "sync/atomic"

// rxCounters count what came from the underlay for one VNI. They are written
// by receivers only, txCounters by transmitters only, so that the two
// directions do not fight over cache lines.
type rxCounters struct {
	frames, bytes     atomic.Uint64
	broadcast         atomic.Uint64
	multicast         atomic.Uint64
	superframes       atomic.Uint64
	coalesced         atomic.Uint64
	dropUnknownVTEP   atomic.Uint64
	dropInvalidSource atomic.Uint64
	dropOwnMAC        atomic.Uint64
	dropOwnAddress    atomic.Uint64
	dropStaticMAC     atomic.Uint64
	dropECN           atomic.Uint64
	dropOversize      atomic.Uint64
	dropDevice        atomic.Uint64
	dropReservedBits  atomic.Uint64
	dropGroup         atomic.Uint64
	dropVLAN          atomic.Uint64
	dropMACHeld       atomic.Uint64
	dropStorm         atomic.Uint64
	notLearnedFull    atomic.Uint64
	notLearnedRate    atomic.Uint64
	ecnAlert          atomic.Uint64
	mssClamped        atomic.Uint64
	neighbourFull     atomic.Uint64
	probes            atomic.Uint64
	dropProbe         atomic.Uint64
	_                 [64]byte
}

// txCounters count what went to the underlay for one VNI.
type txCounters struct {
	frames, bytes     atomic.Uint64
	flooded           atomic.Uint64
	broadcast         atomic.Uint64
	multicast         atomic.Uint64
	unknown           atomic.Uint64
	superframes       atomic.Uint64
	trains            atomic.Uint64
	dropNoDestination atomic.Uint64
	dropBadFrame      atomic.Uint64
	dropVLAN          atomic.Uint64
	dropSpoofed       atomic.Uint64
	dropStorm         atomic.Uint64
	dropTooBig        atomic.Uint64
	dropUnreachable   atomic.Uint64
	dropNoBuffer      atomic.Uint64
	dropError         atomic.Uint64
	tooBigAnswered    atomic.Uint64
	tooBigUnanswered  atomic.Uint64
	mssClamped        atomic.Uint64
	dropARPProxy      atomic.Uint64
	arpAnswered       atomic.Uint64
	neighbourFull     atomic.Uint64
	probes            atomic.Uint64
	_                 [64]byte
}

// endpointCounters count what belongs to no VNI.
type endpointCounters struct {
	dropBadHeader  atomic.Uint64
	dropShortFrame atomic.Uint64
	dropUnknownVNI atomic.Uint64
	pathMTULowered atomic.Uint64
	pathMTUIgnored atomic.Uint64

	dropUnknownVLAN atomic.Uint64 // written by transmitters
}

// Counters are a VNI's counters at one moment. Frames are Ethernet frames as
// they travel in VXLAN packets (a superframe counts as the frames it stands
// for), bytes are theirs, outer headers not included. Each frame that is not
// delivered is counted under exactly one drop reason: what arrived for the VNI
// is RxFrames and all RxDrop..., what the device handed over is TxFrames, each
// copy of flooded frames counted, TxARPAnswered and all TxDrop...
type Counters struct {
	RxFrames uint64 `json:"rx_frames"`
	RxBytes  uint64 `json:"rx_bytes"`
	TxFrames uint64 `json:"tx_frames"`
	TxBytes  uint64 `json:"tx_bytes"`
	// TxFlooded: of TxFrames, copies made by head-end replication.
	TxFlooded uint64 `json:"tx_flooded"`

	// RxBroadcast and RxMulticast: of RxFrames, those to a group of stations.
	RxBroadcast uint64 `json:"rx_broadcast"`
	RxMulticast uint64 `json:"rx_multicast"`
	// TxBroadcast, TxMulticast and TxUnknown: frames from the device that were
	// for the flood list or the remotes of a multicast entry, each counted once
	// however many copies left. The last are to one station that is in no entry.
	TxBroadcast uint64 `json:"tx_broadcast"`
	TxMulticast uint64 `json:"tx_multicast"`
	TxUnknown   uint64 `json:"tx_unknown_unicast"`
	// RxSuperframes: superframes that the device was given, and RxCoalesced: of
	// RxFrames, those that they were made of.
	RxSuperframes uint64 `json:"rx_superframes"`
	RxCoalesced   uint64 `json:"rx_coalesced"`
	// TxSuperframes: superframes that the device handed over, and TxTrains: the
	// trains of datagrams that TxFrames left in.
	TxSuperframes uint64 `json:"tx_superframes"`
	TxTrains      uint64 `json:"tx_trains"`

	// RxDropUnknownVTEP: the sender is no peer.
	RxDropUnknownVTEP uint64 `json:"rx_drop_unknown_vtep"`
	// RxDropInvalidSource: inner source MAC is multicast or zero.
	RxDropInvalidSource uint64 `json:"rx_drop_invalid_source"`
	// RxDropOwnMAC: inner source MAC is our own device's: a loop.
	RxDropOwnMAC uint64 `json:"rx_drop_own_mac"`
	// RxDropOwnAddress: sent to a group by ourselves, and it came back.
	RxDropOwnAddress uint64 `json:"rx_drop_own_address"`
	// RxDropStaticMAC: a static entry says that this MAC is elsewhere.
	RxDropStaticMAC uint64 `json:"rx_drop_static_mac"`
	// RxDropECN: congestion was signalled to a flow that cannot hear it
	// (RFC 6040 section 4.2).
	RxDropECN uint64 `json:"rx_drop_ecn"`
	// RxDropOversize: longer than the device's MTU and not to be split.
	RxDropOversize uint64 `json:"rx_drop_oversize"`
	// RxDropDevice: the device did not take it (it is down, or gone).
	RxDropDevice uint64 `json:"rx_drop_device"`
	// RxDropReservedBits: bits of the VXLAN header are set that
	// VNIConfig.ReservedBits wants to be zero.
	RxDropReservedBits uint64 `json:"rx_drop_reserved_bits"`
	// RxDropGroup: of a group that GroupPolicy.Accept does not have.
	RxDropGroup uint64 `json:"rx_drop_group"`
	// RxDropVLAN: the inner frame has a VLAN tag, which VNIConfig.VLAN does not
	// allow.
	RxDropVLAN uint64 `json:"rx_drop_vlan"`
	// RxDropMACHeld: the MAC moved too often, and is held behind another VTEP
	// (Guard.Damping).
	RxDropMACHeld uint64 `json:"rx_drop_mac_held"`
	// RxDropStorm: more broadcast and multicast than Guard.Storm allows.
	RxDropStorm uint64 `json:"rx_drop_storm"`
	// RxNotLearnedFull: delivered, but the FDB was full.
	RxNotLearnedFull uint64 `json:"rx_not_learned_full"`
	// RxNotLearnedRate: delivered, but there were more new MACs than
	// Guard.LearnRate allows.
	RxNotLearnedRate uint64 `json:"rx_not_learned_rate"`
	// RxECNAlert: delivered, with a combination of ECN bits that RFC 6040
	// calls currently unused.
	RxECNAlert uint64 `json:"rx_ecn_alert"`

	// TxDropNoDestination: unknown MAC and an empty flood list.
	TxDropNoDestination uint64 `json:"tx_drop_no_destination"`
	// TxDropBadFrame: the device gave us what is no Ethernet frame.
	TxDropBadFrame uint64 `json:"tx_drop_bad_frame"`
	// TxDropVLAN: the frame has a VLAN tag, which VNIConfig.VLAN does not allow.
	TxDropVLAN uint64 `json:"tx_drop_vlan"`
	// TxDropSpoofed: the source is none of those that Guard.AntiSpoof allows.
	TxDropSpoofed uint64 `json:"tx_drop_spoofed"`
	// TxDropStorm: more to be flooded than Guard.Storm allows.
	TxDropStorm uint64 `json:"tx_drop_storm"`
	// TxDropTooBig: longer than the underlay, or the path to the VTEP, carries.
	TxDropTooBig uint64 `json:"tx_drop_too_big"`
	// TxDropUnreachable: no route, link down, or no local address.
	TxDropUnreachable uint64 `json:"tx_drop_unreachable"`
	// TxDropNoBuffer: the underlay's queue was full.
	TxDropNoBuffer uint64 `json:"tx_drop_no_buffer"`
	// TxDropError: sending failed for another reason.
	TxDropError uint64 `json:"tx_drop_error"`

	// TxTooBigAnswered: of TxDropTooBig, answered with ICMP.
	TxTooBigAnswered uint64 `json:"tx_too_big_answered"`
	// TxTooBigUnanswered: of TxDropTooBig, not answered because there were too
	// many at once.
	TxTooBigUnanswered uint64 `json:"tx_too_big_unanswered"`
	// TxMSSClamped and RxMSSClamped: SYNs whose MSS was lowered.
	TxMSSClamped uint64 `json:"tx_mss_clamped"`
	RxMSSClamped uint64 `json:"rx_mss_clamped"`

	// TxDropARPProxy: ARP or a neighbour solicitation that ARPProxy did not
	// answer.
	TxDropARPProxy uint64 `json:"tx_drop_arp_proxy"`
	// TxARPAnswered: requests for a neighbour that were answered instead of
	// sent. (An answer that the device did not take is an RxDropDevice.)
	TxARPAnswered uint64 `json:"tx_arp_answered"`
	// NeighboursNotSnoopedFull: the table of neighbours was full.
	NeighboursNotSnoopedFull uint64 `json:"neighbours_not_snooped_full"`

	// RxProbes: probes of other VTEPs that were answered, and answers to ours
	// (see Endpoint.NewProber). They go to no device and are not of RxFrames.
	RxProbes uint64 `json:"rx_probes"`
	// RxDropProbe: probes that were not answered, because there were too many
	// at once, because Config.DisableProbeAnswers says so or because they were
	// damaged, and answers that nobody waits for.
	RxDropProbe uint64 `json:"rx_drop_probe"`
	// TxProbes: probes and answers that were sent. They are not of TxFrames.
	TxProbes uint64 `json:"tx_probes"`
}

// EndpointCounters count the packets and frames that belong to no VNI here.
type EndpointCounters struct {
	// RxDropBadHeader: shorter than a VXLAN header, or the I flag is clear.
	RxDropBadHeader uint64 `json:"rx_drop_bad_header"`
	// RxDropShortFrame: the inner frame is shorter than an Ethernet header.
	RxDropShortFrame uint64 `json:"rx_drop_short_frame"`
	// RxDropUnknownVNI: no such VNI is configured.
	RxDropUnknownVNI uint64 `json:"rx_drop_unknown_vni"`

	// PathMTULowered: a router's word that a datagram did not fit was believed.
	PathMTULowered uint64 `json:"path_mtu_lowered"`
	// PathMTUIgnored: it was not, because no such datagram was sent lately, or
	// because it told nothing new.
	PathMTUIgnored uint64 `json:"path_mtu_ignored"`
	// TxDropUnknownVLAN: a frame of a trunk whose VLAN tag, or lack of one, is
	// that of no VNI.
	TxDropUnknownVLAN uint64 `json:"tx_drop_unknown_vlan"`

	// Those of the transport.

	// RxDropBadPacket: an outer header that contradicts itself, or nothing
	// behind it.
	RxDropBadPacket uint64 `json:"rx_drop_bad_packet"`
	// RxDropChecksum: a wrong outer UDP checksum, or none over IPv6. With UDP
	// sockets it is the kernel that drops these, and counts them as
	// RxDropQueueFull.
	RxDropChecksum uint64 `json:"rx_drop_checksum"`
	// RxDropQueueFull: more arrived than was fetched.
	RxDropQueueFull uint64 `json:"rx_drop_queue_full"`
}

// read copies the counters. Each is exact; together they are of about the same
// moment.
func read(rx *rxCounters, tx *txCounters) Counters {
	return Counters{
		RxFrames: rx.frames.Load(), RxBytes: rx.bytes.Load(),
		TxFrames: tx.frames.Load(), TxBytes: tx.bytes.Load(),
		TxFlooded:           tx.flooded.Load(),
		RxBroadcast:         rx.broadcast.Load(),
		RxMulticast:         rx.multicast.Load(),
		TxBroadcast:         tx.broadcast.Load(),
		TxMulticast:         tx.multicast.Load(),
		TxUnknown:           tx.unknown.Load(),
		RxSuperframes:       rx.superframes.Load(),
		RxCoalesced:         rx.coalesced.Load(),
		TxSuperframes:       tx.superframes.Load(),
		TxTrains:            tx.trains.Load(),
		RxDropUnknownVTEP:   rx.dropUnknownVTEP.Load(),
		RxDropInvalidSource: rx.dropInvalidSource.Load(),
		RxDropOwnMAC:        rx.dropOwnMAC.Load(),
		RxDropOwnAddress:    rx.dropOwnAddress.Load(),
		RxDropStaticMAC:     rx.dropStaticMAC.Load(),
		RxDropECN:           rx.dropECN.Load(),
		RxDropOversize:      rx.dropOversize.Load(),
		RxDropDevice:        rx.dropDevice.Load(),
		RxDropReservedBits:  rx.dropReservedBits.Load(),
		RxDropGroup:         rx.dropGroup.Load(),
		RxDropVLAN:          rx.dropVLAN.Load(),
		RxDropMACHeld:       rx.dropMACHeld.Load(),
		RxDropStorm:         rx.dropStorm.Load(),
		RxNotLearnedFull:    rx.notLearnedFull.Load(),
		RxNotLearnedRate:    rx.notLearnedRate.Load(),
		RxECNAlert:          rx.ecnAlert.Load(),
		TxDropNoDestination: tx.dropNoDestination.Load(),
		TxDropBadFrame:      tx.dropBadFrame.Load(),
		TxDropVLAN:          tx.dropVLAN.Load(),
		TxDropSpoofed:       tx.dropSpoofed.Load(),
		TxDropStorm:         tx.dropStorm.Load(),
		TxDropTooBig:        tx.dropTooBig.Load(),
		TxDropUnreachable:   tx.dropUnreachable.Load(),
		TxDropNoBuffer:      tx.dropNoBuffer.Load(),
		TxDropError:         tx.dropError.Load(),
		TxTooBigAnswered:    tx.tooBigAnswered.Load(),
		TxTooBigUnanswered:  tx.tooBigUnanswered.Load(),
		TxMSSClamped:        tx.mssClamped.Load(),
		RxMSSClamped:        rx.mssClamped.Load(),
		TxDropARPProxy:      tx.dropARPProxy.Load(),
		TxARPAnswered:       tx.arpAnswered.Load(),

		NeighboursNotSnoopedFull: tx.neighbourFull.Load() + rx.neighbourFull.Load(),

		RxProbes: rx.probes.Load(), RxDropProbe: rx.dropProbe.Load(),
		TxProbes: tx.probes.Load(),
	}
}
