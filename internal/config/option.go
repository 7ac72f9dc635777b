package config

import (
	"fmt"
	"slices"

	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vxlan"
)

// Kind is what the values of an option look like.
type Kind uint8

const (
	Text     Kind = iota
	Bool          // true or false
	Number        // an integer
	Duration      // 300s, 50us; 0 needs no unit
	List          // several texts; as a flag separated by commas, or repeated
)

var kindNames = [...]string{"text", "true or false", "a number", "a duration", "a list"}

func (k Kind) String() string { return kindNames[k] }

// Scope says what has a value of its own.
type Scope uint8

const (
	// OfVNI: each VNI. At the top of a file it is the default of all.
	OfVNI Scope = iota
	// OfOne: one VNI alone, so that there can be no default for all.
	OfOne
	// OfEndpoint: the whole process.
	OfEndpoint
	// OfBoth: the process has one, for its sockets, and each VNI may have
	// another.
	OfBoth
)

// Change says what happens when a reload finds another value for a VNI. What the
// endpoint has needs a restart, but for the level of the log.
type Change uint8

const (
	// InPlace: it is changed while frames flow.
	InPlace Change = iota
	// Remade: the device of the VNI is removed and made anew.
	Remade
	// Restart: the reload is refused.
	Restart
)

var changeNames = [...]string{"in place", "device made anew", "needs a restart"}

func (c Change) String() string { return changeNames[c] }

// Option is one thing that a user can choose.
type Option struct {
	// Name of the flag, and of the key in a file if Key is empty.
	Name string
	Key  string
	// Alias is another key that means the same.
	Alias   string
	Kind    Kind
	Default string
	// Derived says what holds where there is no value, if that is not plain
	// from Usage; for `config show`.
	Derived string
	Scope   Scope
	Change  Change
	// Usage is the help of the flag.
	Usage string
	// Fields are what an element of a List is made of that a file writes as a
	// mapping; as a flag they are joined by "=". The last ones may be left out.
	Fields []string
	// Needed is how many of the Fields must be there.
	Needed int
	// Pairs: a file may also write "first: second" for the first two fields.
	Pairs bool
	// FlagOnly: it makes no sense in a file.
	FlagOnly bool
}

// key is the option's name in a file.
func (o *Option) key() string {
	if o.Key != "" {
		return o.Key
	}
	return o.Name
}

// ofVNI says whether a VNI may have its own value.
func (o *Option) ofVNI() bool { return o.Scope != OfEndpoint }

// Options are all there are, in the order in which they are shown. To add one,
// add a line; whoever needs its value asks a View for it by name.
var Options = []Option{
	// The endpoint.
	{Name: "local", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "by the route to the first peer", Usage: "source and listening address (default: by the route to the first peer)"},
	{Name: "port", Kind: Number, Default: fmt.Sprint(vxlan.Port), Scope: OfEndpoint, Change: Restart, Usage: "UDP port to listen on and to send to"},
	{Name: "transport", Kind: Text, Default: "udp", Scope: OfEndpoint, Change: Restart, Usage: "udp: sockets of the kernel; packet: whole packets from and to the devices"},
	{Name: "wireguard", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "off", Usage: "through a WireGuard tunnel, as this file of wg(8) describes it; peers are addresses in the tunnel"},
	{Name: "join", Kind: List, Scope: OfEndpoint, Usage: "a member of the same networks to begin with, ADDR[:PORT] or a host name: all others are found through it, and it need not be there yet; repeatable"},
	{Name: "key-file", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "peers are not found by themselves", Usage: "the key that all members have, from 'govxlan key join': with it members find each other, and each other's VNIs and stations"},
	{Name: "join-port", Kind: Number, Default: fmt.Sprint(membership.DefaultPort), Scope: OfEndpoint, Change: Restart, Usage: "UDP and TCP port by which members talk to each other"},
	{Name: "source-ports", Kind: Text, Default: fmt.Sprintf("%d-%d", vxlan.SourcePortLo, vxlan.SourcePortHi), Scope: OfEndpoint, Change: Restart, Usage: "outer source ports LO-HI, by hash of the inner flow, or one port"},
	{Name: "multicast-ttl", Kind: Number, Default: "1", Scope: OfEndpoint, Change: Restart, Usage: "TTL of what is sent to a group; above 1 VTEPs behind routers may speak too"},
	{Name: "pmtu", Kind: Text, Default: "auto", Scope: OfEndpoint, Change: Restart, Usage: "auto: find out the MTU of the path to each peer; off: do not; N: it is N bytes, of outer IP packets, whatever routers say or hide"},
	{Name: "udp-csum", Kind: Bool, Default: "true", Scope: OfEndpoint, Change: Restart, Usage: "outer UDP checksum over IPv4; without it datagrams leave one by one, since the kernel takes no trains (UDP_SEGMENT) then"},
	{Name: "udp-zero-csum6-tx", Kind: Bool, Default: "false", Scope: OfEndpoint, Change: Restart, Usage: "no outer UDP checksum over IPv6: only for peers that accept that (RFC 6935), and one by one as well"},
	{Name: "udp-zero-csum6-rx", Kind: Bool, Default: "false", Scope: OfEndpoint, Change: Restart, Usage: "accept packets without outer UDP checksum over IPv6 (RFC 6936); over IPv4 they always are"},
	{Name: "datapath", Kind: Text, Default: "auto", Scope: OfEndpoint, Change: Restart, Usage: "who carries the frames of known stations: ebpf: programs in the kernel; user: this process; auto: ebpf where it can be had"},
	{Name: "workers", Kind: Number, Default: "0", Scope: OfEndpoint, Change: Restart, Derived: "one for two cores, at most 8", Usage: "threads that carry frames (default: one for two cores, at most 8)"},
	{Name: "io", Kind: Text, Default: "auto", Scope: OfEndpoint, Change: Restart, Usage: "what these threads wait with: auto: io_uring where the kernel has it; epoll"},
	{Name: "busy-poll", Kind: Duration, Default: "0", Scope: OfEndpoint, Change: Restart, Usage: "poll this long before sleeping, such as 50us: latency for CPU (default off)"},
	{Name: "control", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "/run/govxlan/<port>-<network namespace>.sock", Usage: "control socket (default: /run/govxlan/<port>-<network namespace>.sock)"},
	{Name: "user", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "whoever starts it", Usage: "change to this user once everything is open: NAME or UID, perhaps with :GROUP or :GID"},
	{Name: "privileges", Kind: Text, Default: "auto", Scope: OfEndpoint, Change: Restart, Usage: "what is kept once everything is open: auto: what its VNIs need; netns: and entering network namespaces, for VNIs to come; all: everything"},
	{Name: "pprof", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "off", Usage: "serve profiles on this loopback address, such as 127.0.0.1:6060"},
	{Name: "metrics", Kind: Text, Scope: OfEndpoint, Change: Restart, Derived: "off", Usage: "serve metrics to Prometheus on this address, such as 127.0.0.1:9789"},
	{Name: "metrics-limit", Kind: Number, Default: "1000", Scope: OfEndpoint, Change: Restart, Usage: "peers with metrics of their own at most, over all VNIs; the other metrics are not touched"},
	{Name: "answer-probes", Kind: Bool, Default: "true", Scope: OfEndpoint, Change: Restart, Usage: "answer the probes of 'govxlan ping' and 'govxlan doctor' on other VTEPs"},
	{Name: "log-level", Kind: Text, Default: "info", Scope: OfEndpoint, Usage: "debug, info, warn or error"},
	{Name: "log-format", Kind: Text, Default: "text", Scope: OfEndpoint, Change: Restart, Usage: "text or json, on standard error"},
	{Name: "vni", Kind: Number, Scope: OfOne, Change: Remade, Usage: "VXLAN network identifier, 0 to 16777215"},
	// Both: the sockets of the endpoint, and the device of a VNI.
	{Name: "dev", Kind: Text, Scope: OfBoth, Derived: "by route", Usage: "underlay interface (default: by route)"},
	{Name: "offload", Kind: Text, Default: "auto", Scope: OfBoth, Change: Remade, Usage: "auto: whatever the kernel offers; off: plain frames and datagrams"},
	{Name: "queues", Kind: Number, Default: "0", Scope: OfBoth, Change: Remade, Derived: "8, or one a worker if that is more; of devices in a file of more than 100 VNIs: one a worker", Usage: "queues of the TAP and sockets of the port, among which flows are spread (default: 8, or one a worker if that is more)"},
	// A VNI, beside its number.
	{Name: "peer", Key: "peers", Alias: "peer", Kind: List, Usage: "remote VTEP, ADDR[:PORT] or a host name; repeatable"},
	{Name: "group", Alias: "groups", Kind: List, Usage: "multicast group for broadcast and unknown destinations, with --dev; repeatable"},
	{Name: "name", Kind: Text, Scope: OfOne, Change: Remade, Derived: "vx<VNI>", Usage: "name of the TAP device (default: vx<VNI>)"},
	{Name: "addr", Kind: List, Scope: OfOne, Usage: "address on the TAP, ADDR/BITS; repeatable"},
	{Name: "mac", Kind: Text, Scope: OfOne, Change: Remade, Derived: "from VNI and local address", Usage: "MAC address of the TAP (default: derived from VNI and local address)"},
	{Name: "mtu", Kind: Number, Default: "0", Derived: "the underlay's less 50, or 70 over IPv6, and following it", Usage: "overlay MTU (default: underlay MTU less 50, or 70 over IPv6, and following it)"},
	{Name: "mss-clamp", Kind: Bool, Default: "false", Usage: "lower the MSS of passing TCP connections to what fits"},
	{Name: "bridge", Kind: Text, Derived: "none", Usage: "make the TAP a port of this bridge"},
	{Name: "persist", Kind: Bool, Default: "false", Usage: "keep the TAP when the process ends, and go on with it at the next start: its index, addresses and bridge stay (removed by 'govxlan down NAME')"},
	{Name: "takeover", Kind: Bool, Default: "false", Scope: OfEndpoint, Change: Restart, FlagOnly: true, Usage: "go on in place of the endpoint that runs, which ends: no frame is lost"},
	{Name: "netns", Kind: Text, Change: Remade, Derived: "that of the process", Usage: "network namespace of the TAP, a name or a path; the socket stays in this one"},
	{Name: "learning", Kind: Bool, Default: "true", Usage: "learn which MAC is behind which VTEP from what arrives"},
	{Name: "ageing", Kind: Duration, Default: "300s", Usage: "how long a learned entry lives unused; 0 keeps it"},
	{Name: "max-entries", Kind: Number, Default: "65536", Usage: "learned entries at most; 0 for no limit"},
	{Name: "max-entries-all", Kind: Bool, Default: "false", Usage: "count what the user enters, and the flood list, against --max-entries too, and refuse what is too much"},
	{Name: "allow-unknown-vteps", Kind: Bool, Default: "false", Usage: "accept frames from VTEPs that are neither peer, static, nor group member"},
	{Name: "allow", Kind: List, Usage: "accept frames from VTEPs in this prefix too, such as 192.168.52.0/24; with --group, from members in it alone; repeatable"},
	{Name: "mac-moves", Kind: Number, Default: "5", Usage: "hold a MAC where it was when it moves between VTEPs so many times; 0 for never"},
	{Name: "mac-moves-within", Kind: Duration, Default: "180s", Usage: "the time in which --mac-moves are counted"},
	{Name: "mac-hold", Kind: Duration, Default: "180s", Usage: "how long such a MAC is held, and frames of it from elsewhere are dropped"},
	{Name: "learn-rate", Kind: Text, Default: "0", Usage: "new MACs learned a second at most, N[,BURST], BURST at once; the rest is delivered and not learned; 0 for no limit"},
	{Name: "storm-control", Kind: Text, Default: "0", Usage: "frames a second, N[,BURST], each way: from the underlay broadcast and multicast, to it all that is flooded; the rest is dropped; 0 for no limit"},
	{Name: "anti-spoof", Kind: Text, Default: "off", Usage: "check what the TAP sends: off; mac: source MACs, its own and --local-mac; ip: source addresses too, --addr and --local-ip"},
	{Name: "local-mac", Kind: List, Usage: "MAC of a station behind the TAP, for --anti-spoof; repeatable"},
	{Name: "local-ip", Kind: List, Usage: "address or prefix of stations behind the TAP, for --anti-spoof ip; repeatable"},
	{Name: "fdb", Kind: List, Fields: []string{"mac", "vtep", "kind", "vni"}, Needed: 2, Usage: "static entry MAC=ADDR[:PORT][=KIND[=VNI]], KIND being static, permanent or dynamic; repeatable"},
	{Name: "arp", Kind: Text, Default: "flood", Usage: "ARP and neighbour discovery: flood; suppress: answer what is known, flood the rest; proxy: answer or drop"},
	{Name: "proxy", Kind: Bool, Default: "false", Usage: "the same as --arp proxy"},
	{Name: "neigh", Kind: List, Fields: []string{"ip", "mac", "router"}, Needed: 2, Usage: "static neighbour IP=MAC, for --arp suppress and proxy; IP=MAC=router for a router; repeatable"},
	{Name: "neigh-snoop", Kind: Bool, Default: "false", Usage: "learn neighbours from the ARP and neighbour discovery of both sides"},
	{Name: "ttl", Kind: Text, Default: "64", Usage: "outer TTL: 1 to 255; auto: as the route has it; inherit: the inner packet's"},
	{Name: "tos", Kind: Text, Default: "0", Usage: "outer TOS: a DSCP in the upper six bits, such as 0xb8, or inherit; ECN is always the inner packet's"},
	{Name: "ecn", Kind: Text, Default: "rfc6040", Usage: "how congestion marks get through the tunnel: rfc6040, or kernel (an inner CE travels as ECT(0))"},
	{Name: "df", Kind: Text, Default: "unset", Usage: "outer Don't Fragment over IPv4: set, unset, or inherit (set for inner IPv6, and IPv4 that has it)"},
	{Name: "flow-label", Kind: Text, Default: "0", Usage: "outer IPv6 flow label: 0 to 1048575; inherit: the inner packet's; auto: by outer addresses and ports"},
	{Name: "gbp", Kind: Text, Derived: "off", Usage: "group policy (VXLAN-GBP): send frames with this group, ID[,dont-learn][,applied]; 0 sends none, but understands those that come"},
	{Name: "gbp-accept", Kind: List, Usage: "deliver only frames of these groups, 0 being none, and those that say that policy was applied; repeatable"},
	{Name: "reserved-bits", Kind: Text, Default: "ignore", Usage: "reserved bits of the VXLAN header in what comes: ignore (RFC 7348); strict: drop (Linux); or a 64-bit mask of those to drop for, such as 0xff"},
	{Name: "vlan", Kind: Text, Default: "keep", Usage: "VLAN tags in frames: keep: carry them; strip: take them off what leaves, drop what comes with one (RFC 7348 section 6.1); drop: both ways"},
	{Name: "vlan-map", Kind: List, Scope: OfOne, Change: Remade, Fields: []string{"vid", "vni"}, Needed: 2, Pairs: true, Usage: "VID=VNI: the TAP is a trunk, frames of it with this VLAN tag go to that VNI, without the tag; those without a tag go to --vni, if that is given; repeatable"},
}

// ByName returns the option of a name, which must exist.
func ByName(name string) *Option { return option(name) }

// option returns the one of a name; it must exist.
func option(name string) *Option {
	i := slices.IndexFunc(Options, func(o Option) bool { return o.Name == name })
	if i < 0 {
		panic("config: there is no option " + name)
	}
	return &Options[i]
}
