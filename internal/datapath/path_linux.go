package datapath

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// Unsupported is the error where this kernel, the rights of this process, or what
// is asked for, do not do. Its text says what is missing.
type Unsupported string

func (u Unsupported) Error() string { return string(u) }

func unsupported(format string, args ...any) error { return Unsupported(fmt.Sprintf(format, args...)) }

// MaxSourcePorts is how many of Config.SourcePorts are used.
const MaxSourcePorts = 64

// Config is what holds for all VNIs.
type Config struct {
	// Local is the VTEP's IPv4 address, Port where it receives.
	Local netip.Addr
	Port  uint16
	// SourcePorts to send from, by flow: those of the endpoint's sockets, which
	// hear what routers have to say.
	SourcePorts []uint16
	// Netns is the network namespace of the devices; empty: the caller's.
	Netns string
	// Stations, Peers and VNIs bound the maps.
	Stations, Peers, VNIs int
	// Log hears of what is done without.
	Log *zap.Logger
}

// Path is the two programs in the kernel with their maps. They go with the
// process, however it ends.
type Path struct {
	objects programObjects
	ns      netns.NsHandle // of the devices
	netns   string         // its path
	regroup *regroup       // nil: there is none
	// names of the programs that were there at the start. Later asking for them
	// may take a capability that this process has given up by then.
	names map[ebpf.ProgramID]string

	mu       sync.Mutex
	settings programEndpoint
	left     bool                 // to whoever has the Descriptors
	devices  map[uint32]link.Link // TAPs
	underlay map[uint32]link.Link
}

// Load brings the programs and maps into the kernel; no frame passes them before
// SetOverlay and Attach. It returns Unsupported where that is not to be had.
func Load(cfg Config) (*Path, error) {
	if !cfg.Local.Is4() || cfg.Local.IsUnspecified() {
		return nil, unsupported("it needs an IPv4 underlay with a definite local address, not %v", cfg.Local)
	}
	if len(cfg.SourcePorts) == 0 {
		return nil, unsupported("there are no source ports")
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("programs: %w", err)
	}
	for name, n := range map[string]int{
		programMapStations: cfg.Stations, programMapPeers: cfg.Peers, programMapCounters: cfg.Peers,
		programMapByVni: cfg.VNIs, programMapByDevice: cfg.VNIs,
	} {
		spec.Maps[name].MaxEntries = uint32(max(n, 1))
	}
	if err := spec.Variables[programVarNetnsCookie].Set(netnsCookie(cfg.Netns)); err != nil {
		return nil, fmt.Errorf("programs: %w", err)
	}
	// Before Linux 5.11 memory of maps counts as locked.
	_ = rlimit.RemoveMemlock()
	p := &Path{devices: make(map[uint32]link.Link), underlay: make(map[uint32]link.Link)}
	// What follows may run on any thread.
	err = namespace.Do(cfg.Netns, func() (err error) {
		p.ns, err = netns.Get()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	p.netns = fmt.Sprintf("/proc/self/fd/%d", p.ns)
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, errors.Join(explain(err), p.ns.Close())
	}
	s := programEndpoint{Local: be32(cfg.Local), Port: be16(cfg.Port)}
	for i, port := range cfg.SourcePorts[:min(len(cfg.SourcePorts), MaxSourcePorts)] {
		s.SourcePort[i] = be16(port)
		s.SourcePorts++
	}
	if p.regroup, err = newRegroup(p.netns, fmt.Sprintf("vxgro%d", cfg.Port), &p.objects); err == nil {
		s.Regroup = p.regroup.index
	} else {
		cfg.Log.Info("TCP that arrives in single segments is not put together, which costs more", zap.Error(err))
	}
	p.settings = s
	if err := p.Pause(false); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.names = programNames()
	for _, own := range []*ebpf.Program{p.objects.Decapsulate, p.objects.Encapsulate} {
		// Of these it takes none.
		if info, err := own.Info(); err == nil {
			if id, ok := info.ID(); ok {
				p.names[id] = info.Name
			}
		}
	}
	return p, nil
}

// Pause has the programs leave every frame to the endpoint, or no longer.
func (p *Path) Pause(on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings.Paused = 0
	if on {
		p.settings.Paused = 1
	}
	if err := p.objects.Settings.Put(uint32(0), &p.settings); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}

// netnsCookie is what the kernel tells a network namespace by; 0 where it does
// not tell programs.
func netnsCookie(where string) (cookie uint64) {
	if features.HaveProgramHelper(ebpf.SchedCLS, asm.FnGetNetnsCookie) != nil {
		return 0
	}
	_ = namespace.Do(where, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	return cookie
}

// explain says what stands in the way of programs.
func explain(err error) error {
	var refused *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, &refused):
		return unsupported("loading programs needs the capabilities CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, or root")
	case errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.ENOSYS):
		return unsupported("this kernel does not take the programs (Linux 6.6 does)")
	case refused != nil:
		return unsupported("this kernel refuses the programs (%v)", refused.Cause)
	}
	return unsupported("loading programs: %v", err)
}

// Close takes the programs away. Frames go on to whoever reads the TAPs.
func (p *Path) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		// Nothing but what is ours alone.
		p.regroup.leave()
	}
	var errs []error
	for _, links := range []map[uint32]link.Link{p.devices, p.underlay} {
		for index, l := range links {
			errs = append(errs, l.Close())
			delete(links, index)
		}
	}
	return errors.Join(append(errs, p.regroup.close(), p.objects.Close(), p.ns.Close())...)
}

// attach puts a program behind those that a device has already.
func (p *Path) attach(links map[uint32]link.Link, index uint32, program *ebpf.Program, where ebpf.AttachType) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if links[index] != nil {
		return nil
	}
	return namespace.Do(p.netns, func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: int(index), Program: program, Attach: where})
		if errors.Is(err, ebpf.ErrNotSupported) {
			return unsupported("this kernel has no TCX (Linux 6.6 has)")
		}
		if err != nil {
			return fmt.Errorf("attach to device %d: %w", index, err)
		}
		links[index] = l
		return nil
	})
}

func (p *Path) detach(links map[uint32]link.Link, index uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l := links[index]; l != nil {
		_ = l.Close()
		delete(links, index)
	}
}

// Attach has the programs receive from a device of the underlay.
func (p *Path) Attach(index uint32) error {
	return p.attach(p.underlay, index, p.objects.Decapsulate, ebpf.AttachTCXIngress)
}

// Leave has Close leave the programs to whoever has the Descriptors.
func (p *Path) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
}

// Descriptors are what keeps the programs where they are: while somebody has these
// open, they go on by the maps as they are, whatever becomes of this process. They
// stay the Path's.
func (p *Path) Descriptors() (fds []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	keep := func(l link.Link) {
		if has, ok := l.(interface{ FD() int }); ok {
			fds = append(fds, has.FD())
		}
	}
	for _, links := range []map[uint32]link.Link{p.devices, p.underlay} {
		for _, l := range links {
			keep(l)
		}
	}
	if r := p.regroup; r != nil {
		for _, l := range r.links {
			keep(l)
		}
		fds = append(fds, int(r.far)) // the pair ends with its namespace
	}
	return fds
}

// Order calls f with each device of the underlay that the programs receive from, and
// the names of the programs at its ingress, in the order in which they see a
// packet; one whose name may not be known is told by its number.
func (p *Path) Order(f func(device string, programs []string)) {
	p.mu.Lock()
	indices := slices.Collect(maps.Keys(p.underlay))
	p.mu.Unlock()
	_ = namespace.Do(p.netns, func() error {
		for _, index := range indices {
			device, err := netlink.LinkByIndex(int(index))
			if err != nil {
				continue // it is gone
			}
			all, err := link.QueryPrograms(link.QueryOptions{Target: int(index), Attach: ebpf.AttachTCXIngress})
			if err != nil || len(all.Programs) == 0 {
				continue
			}
			var names []string
			for _, at := range all.Programs {
				names = append(names, p.programName(at.ID))
			}
			f(device.Attrs().Name, names)
		}
		return nil
	})
}

// programName is what a program is called.
func (p *Path) programName(id ebpf.ProgramID) string {
	if name := p.names[id]; name != "" {
		return name
	}
	if name := askName(id); name != "" {
		return name
	}
	return fmt.Sprintf("program %d", id)
}

// programNames are those of all programs of this host, as far as that may be known.
func programNames() map[ebpf.ProgramID]string {
	names := make(map[ebpf.ProgramID]string)
	for id, err := ebpf.ProgramGetNextID(0); err == nil; id, err = ebpf.ProgramGetNextID(id) {
		names[id] = askName(id)
	}
	return names
}

// askName asks the kernel for the name of a program; empty: it does not tell.
func askName(id ebpf.ProgramID) string {
	program, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// Overlay is one VNI.
type Overlay struct {
	VNI    vxlan.VNI
	Device uint32 // index of its TAP
	MTU    int
	// Header is the VXLAN header of what is sent, without a VNI: flags, and a
	// group.
	Header uint64
	// TTL of the outer header; 0: that of the peer.
	TTL uint8
	// TOS of the outer header, by inner ECN field.
	TOS                             [4]uint8
	InheritTTL, InheritTOS          bool
	DF, InheritDF                   bool
	NoReceive, NoSend               bool // leave receiving, or sending, to the endpoint
	PassSYN, PassNeighbourDiscovery bool // to the endpoint
	USO                             bool // the device takes UDP superframes
}

// Flags of overlays and peers, as in datapath.c.
const (
	overlayTX = 1 << iota
	overlayRX
	overlayInheritTTL
	overlayInheritTOS
	overlayDF
	overlayInheritDF
	overlaySYN
	overlayND
	overlayUSO
)

const (
	peerSpeaks = 1 << iota
	peerSample
)

// AttachDevice has the programs take what leaves a TAP. The kernel waits for all
// that is under way before it is done, which takes some 10 ms.
func (p *Path) AttachDevice(index uint32) error {
	return p.attach(p.devices, index, p.objects.Encapsulate, ebpf.AttachTCXEgress)
}

// DetachDevice ends that.
func (p *Path) DetachDevice(index uint32) { p.detach(p.devices, index) }

// SetOverlay has the programs carry the frames of a VNI, or changes how; those that
// leave its TAP once AttachDevice was called.
func (p *Path) SetOverlay(o Overlay) error {
	v := programOverlay{
		Vni: uint32(o.VNI), Device: o.Device, TxWord: be32Word(uint32(o.Header >> 32)),
		Mtu: uint16(o.MTU), Ttl: o.TTL, Tos: o.TOS,
	}
	for _, f := range []struct {
		on   bool
		flag uint32
	}{
		{!o.NoSend, overlayTX}, {!o.NoReceive, overlayRX}, {o.InheritTTL, overlayInheritTTL}, {o.InheritTOS, overlayInheritTOS},
		{o.DF, overlayDF}, {o.InheritDF, overlayInheritDF}, {o.PassSYN, overlaySYN}, {o.PassNeighbourDiscovery, overlayND}, {o.USO, overlayUSO},
	} {
		if f.on {
			v.Flags |= f.flag
		}
	}
	if err := p.objects.ByVni.Put(v.Vni, &v); err != nil {
		return fmt.Errorf("VNI %v: %w", o.VNI, err)
	}
	if err := p.objects.ByDevice.Put(v.Device, &v); err != nil {
		return fmt.Errorf("VNI %v: %w", o.VNI, err)
	}
	return nil
}

// DelOverlay ends that: no frame of the VNI passes the programs when it
// returns, but for those that they are at.
func (p *Path) DelOverlay(v vxlan.VNI, device uint32) {
	_ = p.objects.ByVni.Delete(uint32(v))
	_ = p.objects.ByDevice.Delete(device)
	p.detach(p.devices, device)
}

// Find says whether a device is where the programs can reach it, and its MTU.
func (p *Path) Find(index uint32, name string) (here bool, mtu int) {
	_ = namespace.Do(p.netns, func() error {
		device, err := netlink.LinkByIndex(int(index))
		if err == nil && device.Attrs().Name == name {
			here, mtu = true, device.Attrs().MTU
		}
		return err
	})
	return here, mtu
}

// Station is where a MAC is.
type Station struct {
	VTEP netip.AddrPort
	VNI  vxlan.VNI // that the VTEP gets
	Peer uint32    // number of the VTEP, see SetPeer
}

func stationKey(v vxlan.VNI, mac [6]byte) programStationKey {
	return programStationKey{Vni: uint32(v), Mac: mac}
}

// SetStation says where a MAC is.
func (p *Path) SetStation(v vxlan.VNI, mac [6]byte, s Station) error {
	key := stationKey(v, mac)
	return p.objects.Stations.Put(&key, &programStation{
		Vtep: be32(s.VTEP.Addr()), Port: be16(s.VTEP.Port()), Peer: s.Peer, TxVni: be32Word(uint32(s.VNI) << 8),
	})
}

// DelStation forgets a MAC. Nothing is sent to it when this returns.
func (p *Path) DelStation(v vxlan.VNI, mac [6]byte) {
	key := stationKey(v, mac)
	_ = p.objects.Stations.Delete(&key)
}

// Peer is a VTEP in a VNI, and the way there.
type Peer struct {
	VNI    vxlan.VNI
	VTEP   netip.Addr
	Device uint32     // of the underlay; 0: there is no way for the programs
	Via    netip.Addr // the neighbour, an IPv4 address
	MTU    int        // the largest outer IP packet
	TTL    uint8      // where the Overlay has none
	// Sample has one large frame in 10 s go to the endpoint.
	Sample bool
}

// SetPeer gives a number to a peer, or changes it.
func (p *Path) SetPeer(number uint32, v Peer) error {
	value := programPeer{
		Vni: uint32(v.VNI), Vtep: be32(v.VTEP), Device: v.Device, Mtu: uint32(v.MTU), Ttl: uint32(v.TTL), Flags: peerSpeaks,
	}
	if v.Via.Is4() {
		value.Via = be32(v.Via)
	}
	if v.Sample {
		value.Flags |= peerSample
	}
	return p.objects.Peers.Put(number, &value)
}

// DelPeer takes the number back: nothing is accepted from the peer, or sent to
// it, when this returns.
func (p *Path) DelPeer(number uint32) error { return p.objects.Peers.Put(number, &programPeer{}) }

// Tally is what was carried from and to a peer.
type Tally struct {
	RxFrames, RxBytes uint64
	TxFrames, TxBytes uint64
	Lost              uint64
	RxLast            uint64 // CLOCK_MONOTONIC in ns; 0: never
}

// Tally reads the counters of a number. They go on when it is given to another
// peer.
func (p *Path) Tally(number uint32) (sum Tally, err error) {
	var cpus []programTally
	if err := p.objects.Counters.Lookup(number, &cpus); err != nil {
		return sum, err
	}
	for i := range cpus {
		c := &cpus[i]
		sum.RxFrames += c.RxFrames
		sum.RxBytes += c.RxBytes
		sum.TxFrames += c.TxFrames
		sum.TxBytes += c.TxBytes
		sum.Lost += c.Lost
		sum.RxLast = max(sum.RxLast, c.RxLast)
	}
	return sum, nil
}

// Seen calls f with every station that has sent something since it was set, and
// when it last did (CLOCK_MONOTONIC in ns).
func (p *Path) Seen(f func(v vxlan.VNI, mac [6]byte, vtep netip.AddrPort, at uint64)) error {
	const batch = 1024
	var cursor ebpf.MapBatchCursor
	keys, values := make([]programStationKey, batch), make([]programStation, batch)
	for {
		n, err := p.objects.Stations.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if s := &values[i]; s.Seen > 0 {
				f(vxlan.VNI(keys[i].Vni), keys[i].Mac, netip.AddrPortFrom(addr(s.Vtep), be16(s.Port)), s.Seen)
			}
		}
		switch {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			return nil
		case err != nil:
			return err
		}
	}
}
