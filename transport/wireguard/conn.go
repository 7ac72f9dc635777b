package wireguard

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

var (
	// ErrNoPeer: an address in the tunnel is in the AllowedIPs of no peer.
	ErrNoPeer = fmt.Errorf("no peer of the tunnel has that address (AllowedIPs): %w", syscall.EHOSTUNREACH)
	// ErrPortInUse: another socket has Config.ListenPort.
	ErrPortInUse = errors.New("UDP port of the tunnel in use")
	// ErrNoAddress: there is no address of this end in the tunnel.
	ErrNoAddress = errors.New("no address in the tunnel")
)

// Options say what VXLAN in the tunnel is like. The fields mean what they mean in
// transport.PacketConfig where they have the same name.
type Options struct {
	// Port to receive on in the tunnel. 0 = 4789.
	Port uint16
	// SourcePorts are those that stand for inner flows in the tunnel; zero =
	// 49152 to 65535.
	SourcePorts vxlan.PortRange
	// TTL of packets in the tunnel, where Train.TTL is 0. 0 = 64.
	TTL uint8

	DontFragment, AutoFlowLabel                       bool
	ZeroChecksum4, ZeroChecksum6, AcceptZeroChecksum6 bool

	// Logf hears of what the library cannot do, such as sending handshakes, and
	// Debugf of what it does; neither of single packets. Optional.
	Logf, Debugf func(format string, args ...any)
}

// Conn is a transport.Conn through a tunnel.
type Conn struct {
	cfg    Config
	opt    Options
	locals []netip.AddrPort
	local  [2]netip.Addr // IPv4, IPv6
	mtu    atomic.Int64
	device *device.Device
	tun    *tunnel
	once   sync.Once
	hear   atomic.Pointer[func(*transport.TooBig)]

	badPacket, badChecksum atomic.Uint64
}

var (
	_ transport.PathConn   = (*Conn)(nil)
	_ transport.OuterConn  = (*Conn)(nil)
	_ transport.Counting   = (*Conn)(nil)
	_ transport.TunnelConn = (*Conn)(nil)
)

// Listen opens the tunnel: its sockets on the underlay, and the Conn inside.
// Peers' endpoints are those of Config.Resolve. Errors: ErrPortInUse,
// ErrNoAddress, or one of the system.
func Listen(cfg Config, opt Options) (*Conn, error) {
	if len(cfg.Addresses) == 0 {
		return nil, ErrNoAddress
	}
	if opt.Port == 0 {
		opt.Port = vxlan.Port
	}
	if opt.TTL == 0 {
		opt.TTL = 64
	}
	if !opt.SourcePorts.Valid() {
		opt.SourcePorts = vxlan.PortRange{Lo: vxlan.SourcePortLo, Hi: vxlan.SourcePortHi}
	}
	if cfg.MTU == 0 {
		cfg.MTU = DefaultMTU
	}
	c := &Conn{cfg: cfg, opt: opt}
	c.mtu.Store(int64(cfg.MTU))
	for _, a := range cfg.Addresses {
		c.locals = append(c.locals, netip.AddrPortFrom(a, opt.Port))
		c.local[family(a)] = a
	}
	c.tun = newTunnel(c)
	log := &logger{}
	c.device = device.NewDevice(c.tun, &bind{conn.NewDefaultBind(), c.tun.flight}, log.of(opt))
	if err := c.device.IpcSet(c.settings()); err != nil {
		c.device.Close()
		return nil, fmt.Errorf("wireguard: configure: %w", err)
	}
	if err := c.device.Up(); err != nil {
		c.device.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			err = fmt.Errorf("%w: port %d", ErrPortInUse, cfg.ListenPort)
		}
		return nil, fmt.Errorf("wireguard: listen: %w", err)
	}
	log.open.Store(true)
	return c, nil
}

// settings is the configuration in the library's protocol.
func (c *Conn) settings() string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	line("private_key", c.cfg.PrivateKey.hex())
	line("listen_port", c.cfg.ListenPort)
	if c.cfg.FirewallMark != 0 {
		line("fwmark", c.cfg.FirewallMark)
	}
	for i := range c.cfg.Peers {
		p := &c.cfg.Peers[i]
		line("public_key", p.PublicKey.hex())
		if !p.PresharedKey.IsZero() {
			line("preshared_key", p.PresharedKey.hex())
		}
		if p.Addr.IsValid() {
			line("endpoint", p.Addr)
		}
		line("persistent_keepalive_interval", int(p.Keepalive.Seconds()))
		for _, a := range p.AllowedIPs {
			line("allowed_ip", a)
		}
	}
	return b.String()
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// String names the transport.
func (c *Conn) String() string { return "wireguard" }

// Locals: see transport.Conn. They are addresses in the tunnel.
func (c *Conn) Locals() []netip.AddrPort { return c.locals }

// Limits: see transport.Conn. What leaves is taken apart here; trains are worth
// it all the same, since one hands over many datagrams.
func (c *Conn) Limits() transport.Limits {
	return transport.Limits{Segments: transport.MaxSegments, Flows: c.opt.SourcePorts.Len(), DontFragment: c.opt.DontFragment}
}

// Receivers: see transport.Conn. There is one.
func (c *Conn) Receivers() []transport.Receiver { return []transport.Receiver{c.tun.receiver} }

// NewSender: see transport.Conn.
func (c *Conn) NewSender() transport.Sender { return newSender(c) }

// HearTooBig: see transport.PathConn. It is this host that speaks, of the
// tunnel's own MTU.
func (c *Conn) HearTooBig(hear func(*transport.TooBig)) { c.hear.Store(&hear) }

// Counters: see transport.Counting.
func (c *Conn) Counters() transport.Counters {
	return transport.Counters{RxBadPacket: c.badPacket.Load(), RxChecksum: c.badChecksum.Load()}
}

// Outer: see transport.OuterConn. It is the stack inside the tunnel.
func (c *Conn) Outer(t *transport.Train) vxlan.Outer {
	to := t.Addr.Addr().Unmap().WithZone("")
	f := family(to)
	o := vxlan.Outer{
		Src: c.local[f], Dst: to, SrcPort: c.opt.SourcePorts.Port(t.Hash), DstPort: t.Addr.Port(),
		TOS: t.TOS, TTL: t.TTL, ZeroChecksum: c.zero(f),
	}
	if o.TTL == 0 {
		o.TTL = c.opt.TTL
	}
	if f == 0 {
		o.DF = c.opt.DontFragment || t.DontFragment
	} else {
		o.FlowLabel = c.label(t, o.SrcPort)
	}
	return o
}

// zero says whether there is to be no checksum over a family.
func (c *Conn) zero(f int) bool {
	if f == 0 {
		return c.opt.ZeroChecksum4
	}
	return c.opt.ZeroChecksum6
}

// label is the IPv6 flow label of a train (RFC 6438).
func (c *Conn) label(t *transport.Train, port uint16) uint32 {
	if t.FlowLabel == 0 && c.opt.AutoFlowLabel {
		return max(uint32(port)*0x9E3779B1>>12, 1)
	}
	return t.FlowLabel & 0xFFFFF
}

// SetMTU changes the MTU of the tunnel, in bytes: what is longer is refused from
// now on.
func (c *Conn) SetMTU(mtu int) {
	if c.mtu.Swap(int64(mtu)) != int64(mtu) {
		c.tun.remeasure() // packets are padded up to it
	}
}

// Rebind opens the sockets on the underlay anew, and forgets from which of this
// host's addresses each peer was sent to: for when those have changed.
func (c *Conn) Rebind() error {
	if err := c.device.BindUpdate(); err != nil {
		return fmt.Errorf("wireguard: listen again: %w", err)
	}
	return nil
}

// Close: see transport.Conn.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.tun.close()
		c.device.Close()
	})
	return nil
}
