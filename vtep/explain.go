package vtep

import "strings"

// Explanation is what a counter of Counters or EndpointCounters stands for, for
// people.
type Explanation struct {
	// Counter is its name in JSON, such as rx_drop_unknown_vtep.
	Counter string `json:"counter"`
	// Means is one sentence: what was counted.
	Means string `json:"means"`
	// Do is one sentence: what to do about it. It is empty for what is no
	// trouble.
	Do string `json:"do,omitempty"`
}

// Drop says whether the counter is of frames that were lost, under the Reason.
func (e *Explanation) Drop() bool { return strings.Contains(e.Counter, dropMark) }

// Reason is a drop's reason without its direction, such as unknown_vtep; empty
// for what is no drop.
func (e *Explanation) Reason() string {
	_, reason, _ := strings.Cut(e.Counter, dropMark)
	return reason
}

const dropMark = "_drop_"

// Explanations are those of all counters: of a VNI first, then of what belongs to
// none, each in the order of their struct.
func Explanations() []Explanation { return explanations[:] }

var explanations = [...]Explanation{
	{"rx_frames", "Frames from the underlay that the device was given.", ""},
	{"rx_bytes", "Bytes of the frames from the underlay, outer headers not included.", ""},
	{"tx_frames", "Frames that left for the underlay, each copy for a VTEP counted.", ""},
	{"tx_bytes", "Bytes of the frames that left for the underlay, outer headers not included.", ""},
	{"tx_flooded", "Of the frames that left, copies for the flood list or for the VTEPs of a multicast entry.", ""},
	{"rx_broadcast", "Of the frames that arrived, those to all stations.", ""},
	{"rx_multicast", "Of the frames that arrived, those to a group of stations.", ""},
	{"tx_broadcast", "Frames of the device to all stations, each counted once however many copies left.", ""},
	{"tx_multicast", "Frames of the device to a group of stations, each counted once however many copies left.", ""},
	{"tx_unknown_unicast", "Frames of the device to a station that is in no entry, each counted once however many copies left.", ""},
	{"rx_superframes", "Superframes that the device was given, made of frames that belong together.", ""},
	{"rx_coalesced", "Of the frames that arrived, those that the superframes were made of.", ""},
	{"tx_superframes", "Superframes that the device handed over, each for many frames.", ""},
	{"tx_trains", "Trains of datagrams that the frames left in; frames by trains is how many left with one pass through the kernel.", ""},

	{"rx_drop_unknown_vtep", "The sender is neither peer, nor in a static entry, nor member of a group.",
		"If it belongs here, add it with 'govxlan peer add ADDR'; if not, find out who sends to this port."},
	{"rx_drop_invalid_source", "The source MAC of the inner frame is zero or that of a group, which no station has.",
		"Look with 'govxlan decode' at what the sender makes; it is broken, or forges frames."},
	{"rx_drop_own_mac", "The source MAC of the inner frame is that of our own device: a loop, or two devices with one MAC.",
		"Look for a second way between the bridges on both sides, or give one of the devices another --mac."},
	{"rx_drop_own_address", "What was sent to a multicast group by this host came back to it.",
		"It does no harm; a switch or another program on this host reflects multicast."},
	{"rx_drop_static_mac", "A static entry says that this MAC is behind another VTEP.",
		"If the station moved, change the entry with 'govxlan fdb replace'; if not, somebody uses its MAC."},
	{"rx_drop_ecn", "The underlay signalled congestion to a flow that cannot hear it (RFC 6040), for which dropping is the signal.",
		"Relieve the congested link; if it marks packets that are not marked as capable of it, mend that device."},
	{"rx_drop_oversize", "The frame is longer than the MTU of the device and cannot be taken apart.",
		"Give both ends the same --mtu."},
	{"rx_drop_device", "The device did not take the frame: it is down, or gone.",
		"See whether it is up with 'ip link show', in the device's namespace."},
	{"rx_drop_reserved_bits", "Bits of the VXLAN header are set that --reserved-bits wants to be zero.",
		"Look with 'govxlan decode' which ones; the sender uses an extension that is not expected here."},
	{"rx_drop_group", "The frame is of a group policy group that --gbp-accept does not have.",
		"This is the policy at work; if the group is to be let in, add it to --gbp-accept."},
	{"rx_drop_vlan", "The inner frame has a VLAN tag, which --vlan does not allow.",
		"Have the far side take the tag off, or use --vlan keep or --vlan-map."},
	{"rx_drop_mac_held", "The MAC moved between VTEPs too often and is held behind another one (--mac-moves).",
		"See the log or 'govxlan fdb show' for where it is held, and look for a loop, two stations with one MAC, or somebody who takes its frames; --fdb pins it."},
	{"rx_drop_storm", "More broadcast and multicast came from the underlay than --storm-control allows.",
		"Look with 'govxlan capture' who sends so much, and for a loop; or allow more."},
	{"rx_not_learned_full", "Delivered, but the sender's MAC was not learned, since the table is full; answers to it are flooded.",
		"Raise --max-entries, or find out who sends from so many MACs."},
	{"rx_not_learned_rate", "Delivered, but the sender's MAC was not learned, since more new ones came than --learn-rate allows; answers to it are flooded.",
		"Find out who sends from so many MACs, or allow more."},
	{"rx_ecn_alert", "Delivered, with a combination of congestion marks that RFC 6040 calls currently unused.",
		"Look for a device on the way that sets bits of the outer TOS field at random."},

	{"tx_drop_no_destination", "The destination MAC is in no entry, and there is no peer to flood to.",
		"Add a peer with 'govxlan peer add ADDR', or an entry with 'govxlan fdb add MAC ADDR'."},
	{"tx_drop_bad_frame", "The device handed over what is no Ethernet frame, or has a wrong virtio-net header.",
		"Find out which program sends raw frames on the device or its bridge."},
	{"tx_drop_vlan", "The frame has a VLAN tag, which --vlan does not allow.",
		"Take the tag off before the device, or use --vlan keep or --vlan-map."},
	{"tx_drop_spoofed", "The source of a frame of the device is none that --anti-spoof allows.",
		"If the station belongs here, add it with --local-mac and --local-ip; if not, it pretends to be another."},
	{"tx_drop_storm", "The device sent more that has to be flooded than --storm-control allows.",
		"Look with 'govxlan capture' what it sends, and for a loop behind it; or allow more."},
	{"tx_drop_too_big", "The frame is longer than the underlay, or the path to the VTEP, carries.",
		"Lower --mtu of the overlay to what 'govxlan status' shows as the path's less 50 bytes (70 over IPv6), or raise the underlay's."},
	{"tx_drop_unreachable", "There was no way to the VTEP: no route, no neighbour, the link down, or no local address.",
		"See 'ip route get ADDR' and 'ip link show' on this host; traffic goes on by itself when the way is back."},
	{"tx_drop_no_buffer", "The underlay's queue was full.",
		"The link is the bottleneck: shape what is sent, or lengthen the queue with 'ip link set txqueuelen'."},
	{"tx_drop_error", "Sending failed for another reason, such as a firewall on this host.",
		"See what the firewall says about outgoing UDP to this port: 'nft list ruleset'."},
	{"tx_too_big_answered", "Of the frames that were too long, those whose sender was told by ICMP.", ""},
	{"tx_too_big_unanswered", "Of the frames that were too long, those whose sender was not told, since there were too many at once.", ""},
	{"tx_mss_clamped", "TCP connections from the device whose MSS was lowered to what fits.", ""},
	{"rx_mss_clamped", "TCP connections from VTEPs whose MSS was lowered to what fits.", ""},
	{"tx_drop_arp_proxy", "A request for a neighbour that is not known, which --arp proxy lets nowhere.",
		"Add the neighbour with 'govxlan neigh add IP MAC', or use --arp suppress, which floods what it does not know."},
	{"tx_arp_answered", "Requests for a neighbour that were answered here instead of sent.", ""},
	{"neighbours_not_snooped_full", "Neighbours that were heard of but not noted, since their table is full.",
		"Raise --max-entries, or find out who speaks for so many addresses."},
	{"rx_probes", "Probes of 'govxlan ping' and 'govxlan doctor' on other VTEPs that were answered here, and answers to ours.", ""},
	{"rx_drop_probe", "A probe that was not answered, since there were too many at once, --answer-probes is off or it was damaged, or an answer that nobody waits for.",
		"See who probes so often; damaged ones point to a device on the way that spoils packets."},
	{"tx_probes", "Probes and answers to such that were sent.", ""},

	{"rx_drop_bad_header", "The packet is shorter than a VXLAN header, or its I flag is clear.",
		"Find out what else sends to this UDP port; another encapsulation needs a port of its own."},
	{"rx_drop_short_frame", "The inner frame is shorter than an Ethernet header.",
		"Look with 'govxlan decode' at what the sender makes; it is broken, or not VXLAN."},
	{"rx_drop_unknown_vni", "No such VNI is configured here.",
		"Compare the VNIs of both sides; add it with 'govxlan vni add N', or take this host off the other's peers."},
	{"path_mtu_lowered", "A router said that a datagram did not fit, and was believed.", ""},
	{"path_mtu_ignored", "A router said so and was not believed, since no such datagram was sent lately or it told nothing new.", ""},
	{"tx_drop_unknown_vlan", "A frame of a trunk has a VLAN tag, or none, that no VNI is for.",
		"Map the VLAN with --vlan-map VID=VNI, or keep it off the device."},
	{"rx_drop_bad_packet", "The outer header contradicts itself, or nothing is behind it.",
		"Look at it with 'tcpdump -nnvv udp port 4789'; the sender is broken, or something on the way damages packets."},
	{"rx_drop_checksum", "The outer UDP checksum is wrong, or missing over IPv6.",
		"Switch the sender's checksum offload off ('ethtool -K DEV tx off') to see whether it is at fault; for none over IPv6 use --udp-zero-csum6-rx."},
	{"rx_drop_queue_full", "More arrived than was fetched, or over UDP sockets the kernel found the checksum wrong.",
		"Give it more --workers; see 'nstat -az UdpInCsumErrors UdpRcvbufErrors' which of both it is."},
}
