package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// upFlags are the flags of up as typed.
type upFlags struct {
	vni          uint32
	vniGiven     bool
	peers        []string
	groups       []string
	multicastTTL int
	local        string
	dev          string
	port         uint16
	sourcePorts  string
	name         string
	addrs        []string
	mac          string
	mtu          int
	pmtu         string
	mssClamp     bool
	bridge       string
	netns        string
	learning     bool
	ageing       time.Duration
	maxEntries   int
	boundAll     bool
	allowUnknown bool
	arp          arpFlags
	offload      string
	queues       int
	transport    string
	workers      int
	io           string
	datapath     string
	busyPoll     time.Duration
	logLevel     string
	logFormat    string
	control      string
	pprof        string
	outer        outerFlags
	header       headerFlags
	vlan         vlanFlags
}

func newUpCommand() *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up --vni N --peer ADDR [flags]",
		Short: "Run a VXLAN endpoint until it is interrupted",
		Long: `Run one VTEP in the foreground: create a TAP device, join it to the peers, print
one line when frames can flow, and remove everything on SIGINT or SIGTERM.`,
		Example: `  # two hosts, one Ethernet
  govxlan up --vni 4097 --peer 192.168.52.204 --addr 10.0.1.100/24   # on .203
  govxlan up --vni 4097 --peer 192.168.52.203 --addr 10.0.1.103/24   # on .204

  # containers: the TAP is a port of their bridge, in their namespace
  govxlan up --vni 4097 --peer 192.168.52.204 --netns sandbox --bridge br0

  # all hosts of one link, by multicast
  govxlan up --vni 7 --group 239.1.1.1 --dev ens160

  # three hosts, IPv4 and IPv6 mixed, one with a port of its own
  govxlan up --vni 7 --peer 192.168.52.204 --peer '[fd00::205]:4790'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.vniGiven = cmd.Flags().Changed("vni")
			if !f.vniGiven && len(f.vlan.maps) == 0 {
				return usagef("up needs --vni N (0 to 16777215), for example: govxlan up --vni 4097 --peer 192.168.52.204")
			}
			if cmd.Flags().Changed("peer") && len(f.peers) == 0 {
				return usagef("--peer is empty: give ADDR[:PORT], or leave it out")
			}
			if cmd.Flags().Changed("group") && len(f.groups) == 0 {
				return usagef("--group is empty: give a multicast address, or leave it out")
			}
			plan, err := f.plan()
			if err != nil {
				return err
			}
			// SIGHUP: the terminal was closed.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			// The overlay shall outlive whoever reads the log, and an output
			// that is closed be an error like any other.
			signal.Ignore(syscall.SIGPIPE)
			return plan.run(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.Uint32Var(&f.vni, "vni", 0, "VXLAN network identifier, 0 to 16777215")
	fs.StringSliceVar(&f.peers, "peer", nil, "remote VTEP, ADDR[:PORT] or a host name; repeatable")
	fs.StringSliceVar(&f.groups, "group", nil, "multicast group for broadcast and unknown destinations, with --dev; repeatable")
	fs.IntVar(&f.multicastTTL, "multicast-ttl", 1, "TTL of what is sent to a group; above 1 VTEPs behind routers may speak too")
	fs.StringVar(&f.local, "local", "", "source and listening address (default: by the route to the first peer)")
	fs.StringVar(&f.dev, "dev", "", "underlay interface (default: by route)")
	fs.Uint16Var(&f.port, "port", vxlan.Port, "UDP port to listen on and to send to")
	fs.StringVar(&f.sourcePorts, "source-ports", fmt.Sprintf("%d-%d", vxlan.SourcePortLo, vxlan.SourcePortHi), "outer source ports LO-HI, by hash of the inner flow, or one port")
	fs.StringVar(&f.name, "name", "", "name of the TAP device (default: vx<VNI>)")
	fs.StringSliceVar(&f.addrs, "addr", nil, "address on the TAP, ADDR/BITS; repeatable")
	fs.StringVar(&f.mac, "mac", "", "MAC address of the TAP (default: derived from VNI and local address)")
	fs.IntVar(&f.mtu, "mtu", 0, "overlay MTU (default: underlay MTU less 50, or 70 over IPv6, and following it)")
	fs.StringVar(&f.pmtu, "pmtu", "auto", "auto: find out the MTU of the path to each peer; off: do not; N: it is N bytes, of outer IP packets, whatever routers say or hide")
	fs.BoolVar(&f.mssClamp, "mss-clamp", false, "lower the MSS of passing TCP connections to what fits")
	fs.StringVar(&f.bridge, "bridge", "", "make the TAP a port of this bridge")
	fs.StringVar(&f.netns, "netns", "", "network namespace of the TAP, a name or a path; the socket stays in this one")
	fs.BoolVar(&f.learning, "learning", true, "learn which MAC is behind which VTEP from what arrives")
	fs.DurationVar(&f.ageing, "ageing", 300*time.Second, "how long a learned entry lives unused; 0 keeps it")
	fs.IntVar(&f.maxEntries, "max-entries", 65536, "learned entries at most; 0 for no limit")
	fs.BoolVar(&f.boundAll, "max-entries-all", false, "count what the user enters, and the flood list, against --max-entries too, and refuse what is too much")
	fs.BoolVar(&f.allowUnknown, "allow-unknown-vteps", false, "accept frames from VTEPs that are neither peer, static, nor group member")
	f.arp.add(cmd)
	fs.StringVar(&f.offload, "offload", "auto", "auto: whatever the kernel offers; off: plain frames and datagrams")
	fs.StringVar(&f.transport, "transport", "udp", "udp: sockets of the kernel; packet: whole packets from and to the devices")
	fs.IntVar(&f.queues, "queues", 0, "queues of the TAP and sockets of the port, among which flows are spread (default: 8, or one a core if that is more)")
	fs.IntVar(&f.workers, "workers", 0, "threads that carry frames (default: one for two cores, at most 8)")
	fs.StringVar(&f.io, "io", "auto", "what these threads wait with: auto: io_uring where the kernel has it; epoll")
	fs.StringVar(&f.datapath, "datapath", "auto", "who carries the frames of known stations: ebpf, programs in the kernel; user, this process; auto, ebpf where it can be had")
	fs.StringVar(&f.control, "control", "", "control socket (default: /run/govxlan/<port>-<network namespace>.sock)")
	fs.DurationVar(&f.busyPoll, "busy-poll", 0, "poll this long before sleeping, such as 50us: latency for CPU (default off)")
	fs.StringVar(&f.pprof, "pprof", "", "serve profiles on this loopback address, such as 127.0.0.1:6060")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	f.outer.add(fs)
	f.header.add(fs)
	f.vlan.add(fs)
	fs.StringVar(&f.logFormat, "log-format", "text", "text or json, on standard error")
	return cmd
}

// upPlan is what the flags mean, checked as far as they can be without
// touching the system.
type upPlan struct {
	vni          vxlan.VNI
	peers        []peerName
	groups       []vtep.Group
	multicastTTL int
	local        []netip.Addr
	dev          string
	port         uint16
	sourcePorts  vxlan.PortRange
	device       tap.Config
	learning     bool
	ageing       time.Duration
	maxEntries   int
	boundAll     bool
	noPathMTU    bool
	pathMTU      int // 0 = not known
	clampMSS     bool
	allowUnknown bool
	arp          arpPlan
	offload      bool
	queues       int
	packet       bool // --transport packet
	workers      int
	noRing       bool
	datapath     vtep.Datapath
	busyPoll     time.Duration
	control      string
	pprof        string
	outer        outerPlan
	header       headerPlan
	vlan         vlanPlan
	newLogger    func(io.Writer) *zap.Logger
}

// plan checks the flags. Its errors are all of wrong usage.
func (f *upFlags) plan() (*upPlan, error) {
	p := &upPlan{
		vni:          vxlan.VNI(f.vni),
		dev:          f.dev,
		port:         f.port,
		learning:     f.learning,
		boundAll:     f.boundAll,
		allowUnknown: f.allowUnknown,
		queues:       f.queues,
		control:      f.control,
		pprof:        f.pprof,
		busyPoll:     f.busyPoll,
		clampMSS:     f.mssClamp,
		workers:      f.workers,
	}
	if p.workers == 0 {
		p.workers = max(1, min(runtime.GOMAXPROCS(0)/2, 8))
	}
	if p.queues == 0 {
		p.queues = max(8, p.workers)
	}
	if !p.vni.Valid() {
		return nil, usagef("--vni %d: a VNI has 24 bits, so 0 to %d", f.vni, vxlan.MaxVNI)
	}
	var err error
	if p.vlan, err = f.vlan.plan(p.vni, f.vniGiven); err != nil {
		return nil, err
	}
	if !f.vniGiven && len(p.vlan.trunk) > 0 {
		// It stands for the whole in what is named or derived from a VNI.
		p.vni = p.vlan.trunk[0].vni
		if len(f.addrs) > 0 {
			return nil, usagef("--addr %s is for frames without a VLAN tag, which --vlan-map takes nowhere: give them a VNI with --vni", f.addrs[0])
		}
	}
	if f.port == 0 {
		return nil, usagef("--port 0: give the UDP port to listen on, such as %d", vxlan.Port)
	}
	for _, s := range f.peers {
		peer, err := parsePeer(s, f.port)
		if err != nil {
			return nil, usagef("--peer %w", err)
		}
		p.peers = append(p.peers, peer)
	}
	if err := f.planGroups(p); err != nil {
		return nil, err
	}
	if f.local != "" {
		for _, s := range strings.Split(f.local, ",") {
			a, err := netip.ParseAddr(s)
			if err != nil || a.IsMulticast() {
				return nil, usagef("--local %q: give an IPv4 or IPv6 address of this host, or one of each separated by a comma", s)
			}
			p.local = append(p.local, a.Unmap())
		}
		if len(p.local) > 2 || len(p.local) == 2 && p.local[0].Is4() == p.local[1].Is4() {
			return nil, usagef("--local %q: one address of each family at most", f.local)
		}
	}
	if p.sourcePorts, err = vxlan.ParsePortRange(f.sourcePorts); err != nil {
		return nil, usagef("--source-ports %q: give LO-HI, such as %d-%d", f.sourcePorts, vxlan.SourcePortLo, vxlan.SourcePortHi)
	}

	p.device = tap.Config{Name: f.name, Netns: f.netns, MTU: f.mtu, Bridge: f.bridge, Queues: p.queues}
	if p.device.Name == "" {
		p.device.Name = fmt.Sprintf("vx%d", p.vni)
	}
	if err := checkDeviceName(p.device.Name); err != nil {
		return nil, usagef("--name %w", err)
	}
	if f.mtu != 0 && (f.mtu < 68 || f.mtu > 65521) {
		return nil, usagef("--mtu %d: an Ethernet device takes 68 to 65521", f.mtu)
	}
	switch f.pmtu {
	case "auto":
	case "off":
		p.noPathMTU = true
	default:
		n, err := strconv.Atoi(f.pmtu)
		if err != nil || n < leastPathMTU || n > 65535 {
			return nil, usagef("--pmtu %q: give auto, off, or the MTU of the path, %d to 65535", f.pmtu, leastPathMTU)
		}
		p.pathMTU = n
	}
	for _, s := range f.addrs {
		a, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, usagef("--addr %q: give an address with its prefix length, such as 10.0.1.100/24", s)
		}
		p.device.Addrs = append(p.device.Addrs, a)
	}
	if f.mac != "" {
		mac, err := vxlan.ParseMAC(f.mac)
		if err != nil {
			return nil, usagef("--mac %q: give six bytes, such as 02:42:0a:00:01:64", f.mac)
		}
		if mac.IsMulticast() || mac.IsZero() {
			return nil, usagef("--mac %v: a device needs a unicast MAC address, with an even first byte", mac)
		}
		p.device.MAC = net.HardwareAddr(mac[:])
	}
	switch f.offload {
	case "auto":
		p.offload = true
		p.device.Offload = tap.AllFeatures
	case "off":
	default:
		return nil, usagef("--offload %q: give auto or off", f.offload)
	}
	switch f.transport {
	case "udp":
	case "packet":
		p.packet = true
	default:
		return nil, usagef("--transport %q: give udp or packet", f.transport)
	}
	if f.queues < 0 || f.queues > 64 {
		return nil, usagef("--queues %d: give 1 to 64", f.queues)
	}
	if f.workers < 0 || f.workers > p.queues {
		return nil, usagef("--workers %d: give 1 to %d, which is how many --queues there are", f.workers, p.queues)
	}
	if f.io != "auto" && f.io != "epoll" {
		return nil, usagef("--io %q: give auto or epoll", f.io)
	}
	p.noRing = f.io == "epoll"
	var ok bool
	if p.datapath, ok = vtep.ParseDatapath(f.datapath); !ok {
		return nil, usagef("--datapath %q: give auto, user or ebpf", f.datapath)
	}
	if f.busyPoll < 0 || f.busyPoll > time.Second {
		return nil, usagef("--busy-poll %v: give a short time such as 50us, or 0", f.busyPoll)
	}
	if f.ageing < 0 {
		return nil, usagef("--ageing %v: give a duration such as 300s, or 0 to keep entries", f.ageing)
	}
	if p.ageing = f.ageing; p.ageing == 0 {
		p.ageing = -1
	}
	if f.maxEntries < 0 {
		return nil, usagef("--max-entries %d: give a number, or 0 for no limit", f.maxEntries)
	}
	if p.maxEntries = f.maxEntries; p.maxEntries == 0 {
		p.maxEntries = -1
	}
	if p.outer, err = f.outer.plan(); err != nil {
		return nil, err
	}
	if p.header, err = f.header.plan(); err != nil {
		return nil, err
	}
	if p.arp, err = f.arp.plan(); err != nil {
		return nil, err
	}
	if p.newLogger, err = loggerFor(f.logLevel, f.logFormat); err != nil {
		return nil, usageError{err}
	}
	return p, nil
}

// leastPathMTU is what every IPv4 host takes (RFC 791 section 3.2).
const leastPathMTU = 576

// checkDeviceName refuses what the kernel would, with a sentence of our own.
func checkDeviceName(name string) error {
	if len(name) > 15 {
		return fmt.Errorf("%q: a device name has 15 bytes at most", name)
	}
	if name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n%") {
		return fmt.Errorf("%q: a device name has no slash, colon, percent sign or blank", name)
	}
	return nil
}

// run brings the endpoint up and carries frames until ctx is done.
func (p *upPlan) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	log := p.newLogger(stderr)
	// Workers keep their threads while they wait for what is to come at once:
	// leave one to everything else.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), p.workers+1))
	var profiles net.Listener
	if p.pprof != "" {
		if profiles, err = listenPprof(p.pprof); err != nil {
			return err
		}
		defer profiles.Close()
	}
	peers, err := resolvePeers(ctx, p.peers)
	if ctx.Err() != nil {
		return nil // interrupted before anything was made
	}
	if err != nil {
		return err
	}
	under, err := findUnderlay(p, peers)
	if err != nil {
		return err
	}
	for _, a := range peers {
		for _, l := range under.local {
			if a.Addr() == l && a.Port() == p.port {
				return fmt.Errorf("peer %v is this endpoint itself: give the address of the other host", a.Addr())
			}
		}
	}

	if err := p.outer.checkFamilies(under.families()); err != nil {
		return usageError{err}
	}
	conn, err := p.listen(under.local)
	if err != nil {
		return p.explainListen(err, under.local)
	}
	device := p.device
	if device.MAC == nil {
		mac := deriveMAC(p.vni, under.local[0])
		device.MAC = mac[:]
	}
	if device.MTU == 0 {
		device.MTU = under.overlayMTU
	} else if under.overlayMTU != 0 && device.MTU > under.overlayMTU {
		log.Warn("frames of full size will not fit the underlay and be dropped, though their senders are told: lower --mtu, or raise the underlay's",
			zap.Int("mtu", device.MTU), zap.Int("fits", under.overlayMTU), zap.String("underlay", under.device))
	}
	if device.Bridge == "" {
		device.SuperframeBytes = vtep.SuperframeBytes(device.MTU)
	}
	dev, err := tap.Open(device)
	if err != nil {
		conn.Close()
		if errors.Is(err, tap.ErrExists) {
			return fmt.Errorf("%w: choose another with --name", err)
		}
		return err
	}
	var vnis []vxlan.VNI
	endpoint, err := vtep.New(vtep.Config{
		Conn: conn, Logger: log, Workers: p.workers, NoRing: p.noRing, Datapath: p.datapath, BusyPoll: p.busyPoll,
		DisablePathMTU: p.noPathMTU, PathMTU: p.pathMTU,
	})
	for _, m := range p.vlan.vnis(p.vni) {
		if err != nil {
			break
		}
		vnis = append(vnis, m.vni)
		err = endpoint.AddVNI(vtep.VNIConfig{
			VNI: m.vni, Device: dev, Trunk: len(p.vlan.trunk) > 0, VID: m.vid, Peers: peers, Groups: p.groups,
			AllowUnknownVTEPs: p.allowUnknown, DisableLearning: !p.learning,
			Ageing: p.ageing, MaxEntries: p.maxEntries, BoundAll: p.boundAll, ClampMSS: p.clampMSS,
			Outer: p.outer.OuterConfig, ReservedBits: p.header.reserved, GroupPolicy: p.header.policy,
			VLAN: p.vlan.mode,
			ARP:  p.arp.mode, Neighbours: p.arp.neighbours, SnoopNeighbours: p.arp.snoop,
		})
	}
	if err != nil {
		return errors.Join(err, dev.Close(), conn.Close())
	}
	server, err := p.listenControl(endpoint)
	if err != nil {
		return errors.Join(err, endpoint.Close())
	}
	if p.outer.zero4 || p.outer.zero6 {
		log.Info("the outer UDP checksum is off, for which the kernel takes no UDP_SEGMENT: datagrams leave one by one")
	}
	log.Info("endpoint is up", zap.Stringer("vni", p.vni), zap.String("device", dev.Name()),
		zap.Stringer("offload", dev.Features()), zap.Int("queues", len(dev.Readers())), zap.Int("workers", p.workers),
		zap.String("transport", endpoint.Status().Transport),
		zap.Int("train", conn.Limits().Segments), zap.Int("source_ports", conn.Limits().Flows),
		zap.String("version", version))
	if _, err := fmt.Fprintln(stdout, upLine(p, conn, dev, peers)); err != nil {
		return errors.Join(fmt.Errorf("standard output: %w", err), server.Close(), endpoint.Close())
	}
	tasks, ctx := errgroup.WithContext(ctx)
	tasks.Go(func() error { return server.Serve(ctx) })
	tasks.Go(func() error { return endpoint.Run(ctx) })
	tasks.Go(func() error { return forgetWhenDown(ctx, endpoint, vnis, device, log) })
	follow := p.follower(endpoint, dev, under, log)
	tasks.Go(func() error { return follow.run(ctx) })
	if profiles != nil {
		tasks.Go(func() error { return servePprof(ctx, profiles) })
	}
	err = tasks.Wait()
	log.Info("endpoint is down")
	return err
}

// listen opens the transport that was asked for.
func (p *upPlan) listen(local []netip.Addr) (transport.Conn, error) {
	c := transport.UDPConfig{
		Local: local, Port: p.port, Device: p.dev,
		SourcePortLo: p.sourcePorts.Lo, SourcePortHi: p.sourcePorts.Hi,
		Receivers: p.queues, NoGSO: !p.offload, NoGRO: !p.offload, MulticastTTL: p.multicastTTL,
	}
	p.outer.apply(&c)
	if !p.packet {
		return transport.ListenUDP(c)
	}
	return transport.ListenPacket(transport.PacketConfig{
		Local: c.Local, Port: c.Port, Device: c.Device,
		SourcePortLo: c.SourcePortLo, SourcePortHi: c.SourcePortHi,
		Receivers: c.Receivers, NoGSO: c.NoGSO, NoGRO: c.NoGRO,
		DontFragment: c.DontFragment, TTL: c.TTL, AutoFlowLabel: c.AutoFlowLabel,
		ZeroChecksum4: c.ZeroChecksum4, ZeroChecksum6: c.ZeroChecksum6, AcceptZeroChecksum6: c.AcceptZeroChecksum6,
	})
}

// follower follows the underlay that the endpoint began with.
func (p *upPlan) follower(endpoint *vtep.Endpoint, dev tap.Device, under *underlay, log *zap.Logger) *follower {
	now := *p
	now.local = under.local
	return &follower{
		endpoint: endpoint, device: dev, vni: p.vni, log: log,
		fixed: p.device.MTU != 0, bridge: p.device.Bridge != "",
		fits: under.overlayMTU, set: dev.MTU(),
		find: func(peers []netip.AddrPort) int {
			u, err := findUnderlay(&now, peers)
			if err != nil {
				return 0 // a route that is away at the moment
			}
			return u.overlayMTU
		},
	}
}

// listenControl opens the control socket, at its usual place by default.
func (p *upPlan) listenControl(endpoint *vtep.Endpoint) (*control.Server, error) {
	path := p.control
	if path == "" {
		var err error
		if path, err = control.DefaultPath(p.port); err != nil {
			return nil, err
		}
	}
	return control.Listen(path, endpoint, version)
}

// upLine is the one line that says that frames can flow.
func upLine(p *upPlan, conn transport.Conn, dev tap.Device, peers []netip.AddrPort) string {
	var locals, names []string
	for _, a := range conn.Locals() {
		locals = append(locals, a.String())
	}
	for _, a := range peers {
		if a.Port() == p.port {
			names = append(names, a.Addr().String())
		} else {
			names = append(names, a.String())
		}
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	line := fmt.Sprintf("up %s vni %v local %s peers %s%s mtu %d mac %v", dev.Name(), p.vni,
		strings.Join(locals, ","), strings.Join(names, ","), groupWords(p), dev.MTU(), dev.MAC())
	if trunk := p.vlan.String(); trunk != "" {
		line += " vlans " + trunk
	}
	return line
}

// explainListen says who holds the port, and what to do.
func (p *upPlan) explainListen(err error, local []netip.Addr) error {
	switch {
	case errors.Is(err, transport.ErrPortInUse):
		return fmt.Errorf("UDP port %d is held by %s: stop that, or choose another with --port (the peers must use the same)", p.port, portHolder(p.port))
	case errors.Is(err, transport.ErrNoAddress):
		return fmt.Errorf("local address %v is not on this host: give one that 'ip address' shows with --local", local[0])
	case errors.Is(err, transport.ErrSharedSourcePort):
		return fmt.Errorf("--df inherit sends from two sockets a port, which --source-ports %v does not allow where --port %d receives: give another or a wider range", p.sourcePorts, p.port)
	case errors.Is(err, transport.ErrNoSourcePort):
		return fmt.Errorf("no port of --source-ports %v is free: give a wider range", p.sourcePorts)
	case p.packet && errors.Is(err, syscall.EPERM):
		return errors.New("--transport packet needs the capability CAP_NET_RAW: run this as root, or use --transport udp")
	case p.packet && errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("--transport packet: this kernel has no packet sockets (%w): load the module af_packet, or use --transport udp", err)
	case p.dev != "" && errors.Is(err, syscall.ENODEV):
		return fmt.Errorf("underlay interface %s does not exist: give one that 'ip link' shows with --dev", p.dev)
	}
	return err
}
