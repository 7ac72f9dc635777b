package vtep

import (
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Config describes an Endpoint. Only Conn is needed.
type Config struct {
	// Conn joins the endpoint to the underlay. The endpoint owns it from New
	// on, and closes it when it ends.
	Conn transport.Conn
	// Logger hears about the start, changes and faults, never about single
	// packets. nil: nothing is logged.
	Logger *zap.Logger
	// Clock returns the time passed since any fixed moment, and never goes
	// back. nil: the system's monotonic clock.
	Clock func() time.Duration
	// DisablePathMTU ignores what routers say of datagrams too long for the
	// path to a VTEP, and probes for nothing. Otherwise, where the Conn is a
	// transport.PathConn, what is said of a datagram that was really sent holds
	// for 10 minutes, and longer frames are answered with ICMP.
	DisablePathMTU bool
	// PathMTU is the largest outer IP packet, in bytes, that is known to fit
	// the path to every VTEP: for paths whose routers say nothing. 0 = not
	// known. It is used with DisablePathMTU too.
	PathMTU int
	// NeighbourMissed is called when a station asks for an address that no
	// neighbour has, in VNIs with ARPSuppress or ARPProxy: on the packet path,
	// so it must not wait, and by several goroutines at once. Optional.
	NeighbourMissed func(NeighbourMiss)
	// DisableProbeAnswers leaves the probes of other VTEPs unanswered; see
	// Endpoint.NewProber. They reach no device in either case.
	DisableProbeAnswers bool
	// Workers is how many goroutines serve the queues of the devices and the
	// sockets of the underlay where these can be polled, as on Linux. Each
	// keeps its thread, and a P of Go's scheduler, while it waits for packets
	// that follow each other closely: raise GOMAXPROCS by that many where the
	// program has other work. 0 = half of GOMAXPROCS, 1 to 8, and no more than
	// the Conn has receivers.
	Workers int
	// BusyPoll is how long a worker goes on asking before it goes to sleep. It
	// buys latency with a core that is never idle: worth it only where cores
	// are to spare. 0 = not at all.
	BusyPoll time.Duration
	// Datapath is who carries the frames of known stations. What the endpoint
	// decides is the same in each case. Programs in the kernel need Linux 6.6, the
	// capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and the Conn of ListenUDP with an
	// IPv4 address.
	Datapath Datapath
	// NoRing has the workers do without io_uring where the kernel has it, and
	// wait with epoll.
	NoRing bool
}

// VNIConfig describes one VNI of an Endpoint: an Ethernet of its own.
type VNIConfig struct {
	VNI vxlan.VNI
	// Device is where the host's frames come from and go to. The endpoint owns
	// it once AddVNI succeeded, and closes it when the VNI is deleted.
	Device tap.Device
	// Trunk says that other VNIs may share the Device (RFC 7348 section 6): the
	// host's frames that carry an 802.1Q tag with VLAN id VID, 1 to 4094, belong
	// to this VNI. They travel without that tag, and get it back where they
	// arrive. VID 0 stands for frames without a tag. The device is closed when
	// the last of its VNIs is deleted.
	Trunk bool
	VID   uint16
	// Peers are the VTEPs that get a copy of what has no known destination:
	// broadcast, unknown unicast and multicast.
	Peers []netip.AddrPort
	// Groups are the multicast groups of the underlay that get a copy too, one
	// for all their members. They need a transport.GroupConn.
	Groups []Group
	// AllowUnknownVTEPs accepts frames from any VTEP. Otherwise those that are
	// neither a peer, the target of a static entry, a member of a group nor
	// allowed by the Guard are dropped.
	AllowUnknownVTEPs bool
	// DisableLearning leaves the FDB to static entries.
	DisableLearning bool
	// Ageing is how long a learned entry lives without a frame from its
	// station. 0 = 300 s, negative = for ever.
	Ageing time.Duration
	// MaxEntries bounds the learned entries. 0 = 65536, negative = no limit.
	MaxEntries int
	// BoundAll makes MaxEntries bound all entries, the user's too: what would
	// be too much is refused with fdb.ErrFull.
	BoundAll bool
	// ClampMSS lowers the MSS in the SYNs of passing TCP connections, both
	// ways, to what fits the device's MTU and the path to the peer.
	ClampMSS bool
	// Static entries to begin with.
	Static []StaticEntry
	// Entries to begin with, of any kind that the user can set. They are
	// appended; the zero MAC adds to the flood list.
	Entries []Entry
	// VLAN is what becomes of frames with VLAN tags.
	VLAN VLANMode
	// ReservedBits are bits of the VXLAN header, as a big-endian number, of which
	// none may be set in what arrives; frames with one are dropped. 0: all are
	// ignored, as RFC 7348 section 5 demands. See KernelReservedBits for what the
	// Linux kernel does.
	ReservedBits uint64
	// GroupPolicy switches on the group policy extension. nil: its bits are
	// reserved ones like others.
	GroupPolicy *GroupPolicy
	// Outer says what the outer headers look like.
	Outer OuterConfig
	// ARP is what becomes of ARP requests and neighbour solicitations of the
	// device. Neighbours are static ones to begin with; SnoopNeighbours makes
	// more, of what stations say of themselves in ARP and neighbour discovery,
	// on both sides. MaxEntries and Ageing hold for these too. ARPFlood has no
	// use for neighbours and refuses both.
	ARP             ARPMode
	Neighbours      []Neighbour
	SnoopNeighbours bool
	// Guard is who may speak, and how much.
	Guard Guard
}

// StaticEntry binds a MAC to a VTEP: learning cannot override it.
type StaticEntry struct {
	MAC  vxlan.MAC
	VTEP netip.AddrPort
}

// remote is the FDB's form of a VTEP's address.
func remote(a netip.AddrPort) fdb.Remote {
	return fdb.Remote{Addr: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
}
