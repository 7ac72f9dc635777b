package metrics

import (
	"reflect"
	"strings"
	"sync"

	"github.com/govxlan/govxlan/vtep"
	dto "github.com/prometheus/client_model/go"
)

// Family is the metrics of one name.
type Family struct {
	Name    string
	Counter bool     // as against a gauge
	Labels  []string // in alphabetical order
	Help    string
}

func gauge(name, help string, labels ...string) *Family {
	return &Family{Name: "govxlan_" + name, Help: help, Labels: labels}
}

func counter(name, help string, labels ...string) *Family {
	return &Family{Name: "govxlan_" + name + "_total", Counter: true, Help: help, Labels: labels}
}

var (
	buildInfo    = gauge("build_info", "The build, as labels; always 1.", "goversion", "revision", "version")
	up           = gauge("up", "Whether the endpoint carries frames.")
	uptime       = gauge("uptime_seconds", "Time since the endpoint was made.")
	endpointInfo = gauge("endpoint_info", "The endpoint, as labels; always 1.", "io", "local", "port", "transport")
	workers      = gauge("workers", "Threads that carry frames; 0 where goroutines do.")
	vnis         = gauge("vnis", "VNIs of the endpoint.")

	drops = counter("drops", "Frames that were not delivered, by reason and by direction: rx from the underlay, tx to it. Without a VNI: what belongs to none.", "direction", "reason", "vni")

	vniInfo    = gauge("vni_info", "A VNI, as labels; always 1.", "arp", "device", "mac", "offload", "vlan", "vni")
	mtu        = gauge("mtu_bytes", "MTU of the VNI's device.", "vni")
	queues     = gauge("queues", "Queues of the VNI's device.", "vni")
	entries    = gauge("fdb_entries", "Entries of the forwarding table, by kind: learned, static, permanent, dynamic, and the VTEPs and groups of the flood list.", "kind", "vni")
	limit      = gauge("fdb_limit", "Learned entries that the forwarding table takes; missing where there is no limit.", "vni")
	peers      = gauge("peers", "VTEPs that may speak in the VNI.", "vni")
	neighbours = gauge("neighbours", "Neighbours whose ARP and ND are answered here.", "vni")

	peerRxFrames  = counter("peer_rx_frames", "Frames that came from the VTEP.", "vni", "vtep")
	peerRxBytes   = counter("peer_rx_bytes", "Bytes of the frames that came from the VTEP, outer headers not included.", "vni", "vtep")
	peerTxFrames  = counter("peer_tx_frames", "Frames that were sent to the VTEP.", "vni", "vtep")
	peerTxBytes   = counter("peer_tx_bytes", "Bytes of the frames that were sent to the VTEP, outer headers not included.", "vni", "vtep")
	peerLastHeard = gauge("peer_last_heard_seconds", "Time since the last frame from the VTEP; missing when there was none.", "vni", "vtep")
	peerPathMTU   = gauge("peer_path_mtu_bytes", "Largest outer IP packet that fits the path to the VTEP; missing while the path is not known to be narrow.", "vni", "vtep")

	groupJoined   = gauge("multicast_joined", "Whether this host is a member of the VNI's multicast group.", "device", "group", "port", "vni")
	groupJoins    = counter("multicast_joins", "How often this host became a member of the multicast group.", "device", "group", "port", "vni")
	groupTxFrames = counter("multicast_tx_frames", "Frames that were sent to the multicast group.", "device", "group", "port", "vni")
	groupTxBytes  = counter("multicast_tx_bytes", "Bytes of the frames that were sent to the multicast group, outer headers not included.", "device", "group", "port", "vni")

	policyRxFrames = counter("group_policy_rx_frames", "Frames that arrived with a group of the group policy extension; group 0: without one.", "group", "vni")

	leftOut = gauge("series_left_out", "Peers, or groups of group policy, without series of their own, because there are more than --metrics-limit.", "of")
)

// fixed are the families that do not come from a counter of vtep.
var fixed = []*Family{
	buildInfo, up, uptime, endpointInfo, workers, vnis,
	vniInfo, mtu, queues, entries, limit, peers, neighbours,
	peerRxFrames, peerRxBytes, peerTxFrames, peerTxBytes, peerLastHeard, peerPathMTU,
	groupJoined, groupJoins, groupTxFrames, groupTxBytes, policyRxFrames, leftOut,
}

// help is what the counters of vtep mean, by their names in JSON.
var help = sync.OnceValue(func() map[string]string {
	m := make(map[string]string)
	for _, e := range vtep.Explanations() {
		m[e.Counter] = e.Means
	}
	return m
})

// field is a counter of vtep as a metric: one reason of drops, or a family of its
// own.
type field struct {
	index             int
	reason, direction *dto.LabelPair
	family            *Family // nil: drops
}

// fields are the counters of a struct of vtep. What is added there is a metric
// without more ado.
func fields(counters any, labels ...string) []field {
	var all []field
	t := reflect.TypeOf(counters)
	for i := range t.NumField() {
		if t.Field(i).Type.Kind() != reflect.Uint64 {
			continue
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		f := field{index: i}
		if direction, reason, ok := strings.Cut(name, "_drop_"); ok {
			f.direction, f.reason = pair("direction", direction), pair("reason", reason)
		} else {
			f.family = counter(name, help()[name], labels...)
		}
		all = append(all, f)
	}
	return all
}

// known are the counters' fields, made once.
var known = sync.OnceValue(func() (k struct{ vni, endpoint []field }) {
	k.vni = fields(vtep.Counters{}, "vni")
	k.endpoint = fields(vtep.EndpointCounters{})
	return k
})

// Families are all that an endpoint can have, in the order of the documentation.
func Families() []*Family {
	all := fixed[:len(fixed):len(fixed)]
	for _, f := range append(known().vni, known().endpoint...) {
		if f.family != nil {
			all = append(all, f.family)
		}
	}
	return append(all, drops)
}
