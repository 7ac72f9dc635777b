package config

import (
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/privilege"
	"github.com/govxlan/govxlan/transport/wireguard"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Endpoint is what holds for the whole process.
type Endpoint struct {
	View
	Local        []netip.Addr // at most one of each family
	Dev          string
	Port         uint16
	SourcePorts  vxlan.PortRange
	MulticastTTL int
	NoPathMTU    bool
	PathMTU      int // 0 = not known
	Offload      bool
	Queues       int // sockets of the port
	Packet       bool
	WireGuard    *wireguard.Config // nil: the underlay is not encrypted
	Members      *Members          // nil: peers are not found
	Workers      int
	NoRing       bool
	Datapath     vtep.Datapath
	BusyPoll     time.Duration
	Control      string          // "" = the usual place
	Account      string          // to change to, "" = none
	User         *privilege.User // that is, once looked up
	Privileges   Privileges
	Takeover     bool // of the process that listens there
	Pprof        string
	Metrics      string // "" = not served
	MetricsLimit int    // peers with series of their own
	// NoChecksum4 and NoChecksum6 send without outer UDP checksums,
	// AcceptNoChecksum6 receives without.
	NoChecksum4, NoChecksum6, AcceptNoChecksum6 bool

	LogLevel zap.AtomicLevel
	LogJSON  bool
}

// leastPathMTU is what every IPv4 host takes (RFC 791 section 3.2).
const leastPathMTU = 576

// newEndpoint checks what the endpoint is to be like.
func newEndpoint(v View) (*Endpoint, error) {
	e := &Endpoint{
		View: v, Dev: v.Text("dev"), Control: v.Text("control"), Takeover: v.Bool("takeover"), Pprof: v.Text("pprof"),
		NoChecksum4: !v.Bool("udp-csum"), NoChecksum6: v.Bool("udp-zero-csum6-tx"), AcceptNoChecksum6: v.Bool("udp-zero-csum6-rx"),
	}
	port, err := v.number("port", 0, 65535)
	if err != nil || port == 0 {
		return nil, v.Errorf("port", "%s: give the UDP port to listen on, such as %d", v.Text("port"), vxlan.Port)
	}
	e.Port = uint16(port)
	if text := v.Text("local"); text != "" {
		for _, s := range strings.Split(text, ",") {
			a, err := netip.ParseAddr(s)
			if err != nil || a.IsMulticast() {
				return nil, v.Errorf("local", "%q: give an IPv4 or IPv6 address of this host, or one of each separated by a comma", s)
			}
			e.Local = append(e.Local, a.Unmap())
		}
		if len(e.Local) > 2 || len(e.Local) == 2 && e.Local[0].Is4() == e.Local[1].Is4() {
			return nil, v.Errorf("local", "%q: one address of each family at most", text)
		}
	}
	if e.SourcePorts, err = vxlan.ParsePortRange(v.Text("source-ports")); err != nil {
		return nil, v.Errorf("source-ports", "%q: give LO-HI, such as %d-%d", v.Text("source-ports"), vxlan.SourcePortLo, vxlan.SourcePortHi)
	}
	ttl, err := v.number("multicast-ttl", 1, 255)
	if err != nil {
		return nil, err
	}
	e.MulticastTTL = int(ttl)
	switch pmtu := v.Text("pmtu"); pmtu {
	case "auto":
	case "off":
		e.NoPathMTU = true
	default:
		n, err := strconv.Atoi(pmtu)
		if err != nil || n < leastPathMTU || n > 65535 {
			return nil, v.Errorf("pmtu", "%q: give auto, off, or the MTU of the path, %d to 65535", pmtu, leastPathMTU)
		}
		e.PathMTU = n
	}
	if e.Offload, err = v.offload(); err != nil {
		return nil, err
	}
	switch t := v.Text("transport"); t {
	case "udp":
	case "packet":
		e.Packet = true
	default:
		return nil, v.Errorf("transport", "%q: give udp or packet", t)
	}
	if err := e.wireguard(); err != nil {
		return nil, err
	}
	if err := e.members(); err != nil {
		return nil, err
	}
	if err := e.threads(); err != nil {
		return nil, err
	}
	if err := e.metrics(); err != nil {
		return nil, err
	}
	if err := e.privileges(); err != nil {
		return nil, err
	}
	return e, e.logging()
}

// threads checks what carries frames, and how it waits.
func (e *Endpoint) threads() error {
	var err error
	if e.Queues, err = e.count("queues", mostQueues); err != nil {
		return err
	}
	if e.Workers, err = e.count("workers", 1<<16); err != nil {
		return err
	}
	chosen := e.Workers != 0
	if !chosen {
		e.Workers = max(1, min(runtime.GOMAXPROCS(0)/2, 8))
	}
	if e.Queues == 0 {
		e.Queues = max(8, e.Workers)
	}
	if !chosen {
		e.Workers = min(e.Workers, e.Queues)
	}
	if e.Workers > e.Queues {
		return e.Errorf("workers", "%d: give 1 to %d, which is how many --queues there are", e.Workers, e.Queues)
	}
	switch io := e.Text("io"); io {
	case "auto":
	case "epoll":
		e.NoRing = true
	default:
		return e.Errorf("io", "%q: give auto or epoll", io)
	}
	var ok bool
	if e.Datapath, ok = vtep.ParseDatapath(e.Text("datapath")); !ok {
		return e.Errorf("datapath", "%q: give auto, user or ebpf", e.Text("datapath"))
	}
	e.BusyPoll = e.duration("busy-poll")
	if e.BusyPoll < 0 || e.BusyPoll > time.Second {
		return e.Errorf("busy-poll", "%v: give a short time such as 50us, or 0", e.BusyPoll)
	}
	return nil
}

// logging checks what is logged, and how.
func (e *Endpoint) logging() error {
	var level zapcore.Level
	if err := level.UnmarshalText([]byte(e.Text("log-level"))); err != nil || level > zapcore.ErrorLevel {
		return e.Errorf("log-level", "%q: give debug, info, warn or error", e.Text("log-level"))
	}
	e.LogLevel = zap.NewAtomicLevelAt(level)
	switch format := e.Text("log-format"); format {
	case "text":
	case "json":
		e.LogJSON = true
	default:
		return e.Errorf("log-format", "%q: give text or json", format)
	}
	return nil
}

// mostQueues is what a TAP may have (MAX_TAP_QUEUES is 256, but more than cores
// are of no use).
const mostQueues = 64

// count is the value of a Number of which 0 means the default.
func (v View) count(name string, most int64) (int, error) {
	n, err := v.number(name, 0, most)
	if err != nil {
		return 0, v.Errorf(name, "%s: give 1 to %d", v.Text(name), most)
	}
	return int(n), nil
}

// offload says whether offloads are wanted.
func (v View) offload() (bool, error) {
	switch text := v.Text("offload"); text {
	case "auto":
		return true, nil
	case "off":
		return false, nil
	default:
		return false, v.Errorf("offload", "%q: give auto or off", text)
	}
}
