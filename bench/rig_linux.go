package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/bench/traffic"
	"github.com/govxlan/govxlan/internal/netlab"
)

// underlayDev is the name of the veth pair's ends.
const underlayDev = "ens160"

// Each pair of hosts is alone in its world, so all have the same addresses.
var (
	underlay = [2]netip.Addr{netip.MustParseAddr("192.168.52.203"), netip.MustParseAddr("192.168.52.204")}
	overlay  = [2]netip.Addr{netip.MustParseAddr("10.0.1.100"), netip.MustParseAddr("10.0.1.103")}
)

// overlayMTU is what 1500 bytes of underlay leave for VXLAN over IPv4. The
// others get the same where their headers allow it.
const overlayMTU = 1450

// overlayDev is the name of the tunnel's device.
const overlayDev = "overlay0"

// patience is how long a tunnel may take until frames flow.
const patience = 10 * time.Second

// host is one end of a tunnel.
type host struct {
	*netlab.Namespace
	letter      string
	index       int // 0, 1
	under, over netip.Addr
	processes   []*netlab.Cmd
}

// overCIDR and underCIDR are the host's own addresses with their prefix.
func (h *host) overCIDR() string  { return h.over.String() + "/24" }
func (h *host) underCIDR() string { return h.under.String() + "/24" }

// pair is two hosts and the tunnel between them.
type pair struct {
	hosts   [2]*host
	system  *system
	mode    string
	mtu     int
	version string
	command string
	metrics string // where both endpoints are to be scraped; empty: nowhere
	largest int    // longest frame seen on the underlay

	environment []string // of the tunnel's processes; nil: this one's
	// settled wait, after the first echo reply, until the tunnel works as it is
	// going to.
	settled []func(context.Context) error
	// cleanup removes what the lab does not know of, when all processes are gone.
	cleanup []func()
}

// newPair makes two hosts, joined as the mode says, without a tunnel.
func newPair(lab *netlab.Lab, s *system, index int, mode string) (*pair, error) {
	p := &pair{system: s, mode: mode, mtu: overlayMTU}
	for i, letter := range []string{"A", "B"} {
		// Letters and digits only: system names may have others.
		ns, err := lab.Namespace(fmt.Sprintf("%s%d%s", mode, index, letter))
		if err != nil {
			return nil, err
		}
		p.hosts[i] = &host{Namespace: ns, letter: letter, index: i, under: underlay[i], over: overlay[i]}
	}
	a, b := p.hosts[0], p.hosts[1]
	aCIDR, bCIDR := a.underCIDR(), b.underCIDR()
	if s.bare {
		aCIDR, bCIDR = "", ""
	}
	if err := lab.Veth(a.Namespace, underlayDev, aCIDR, b.Namespace, underlayDev, bCIDR, 1500); err != nil {
		return nil, err
	}
	if mode == ModeOffload {
		return p, nil
	}
	for _, h := range p.hosts {
		if err := h.SetOffloads(underlayDev, false); err != nil {
			return nil, err
		}
	}
	if mode == ModeGRO {
		for _, h := range p.hosts {
			if err := h.SetFeatures(underlayDev, map[string]bool{"rx-gro": true}); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// far is the host at the other end.
func (p *pair) far(h *host) *host { return p.hosts[1-h.index] }

// run starts a process of the tunnel on a host. What it says goes to a file in
// the lab's directory, named after the system and the tool.
func (p *pair) run(ctx context.Context, h *host, name string, args ...string) (*process, error) {
	// Not bound to the context: when that ends, the lab ends the process, and
	// waits for it.
	cmd := h.Command(context.WithoutCancel(ctx), name, args...)
	what := filepath.Base(name)
	if p.system.own {
		what = programName
		cmd.Args[0] = programName
	}
	path := filepath.Join(h.LabDir(), fmt.Sprintf("%s-%s-%s-%d.log", p.mode, p.system.name, h.letter, len(h.processes)))
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.environment
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	h.processes = append(h.processes, cmd)
	return &process{Cmd: cmd, what: what, log: path}, nil
}

// programName is what our own processes are called, whatever their file.
const programName = "govxlan"

// process is a tunnel's process.
type process struct {
	*netlab.Cmd
	what, log string
}

// await waits until ready says so, or the process ends, or patience does.
func (p *process) await(ctx context.Context, ready func() bool) error {
	deadline := time.After(patience)
	for !ready() {
		select {
		case <-p.Exited():
			return p.failure("ended")
		case <-deadline:
			return p.failure(fmt.Sprintf("did not come up within %v", patience))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// said is whether the process has written this text.
func (p *process) said(text string) bool {
	log, err := os.ReadFile(p.log)
	return err == nil && strings.Contains(string(log), text)
}

// failure says what became of the process, with the last thing it said itself.
func (p *process) failure(what string) error {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := lines[len(lines)-1]
	if last == "" {
		return fmt.Errorf("%s %s", p.what, what)
	}
	return fmt.Errorf("%s %s: %s", p.what, what, last)
}

// hasDevice is whether the host has a network device of that name.
func (h *host) hasDevice(name string) bool {
	return h.Do(func() error {
		_, err := net.InterfaceByName(name)
		return err
	}) == nil
}

// setUp gives a device of the tunnel the host's overlay address.
func (h *host) setUp(dev string, mtu int) error {
	if err := h.SetMTU(dev, mtu); err != nil {
		return err
	}
	if err := h.AddAddr(dev, h.overCIDR()); err != nil {
		return err
	}
	return h.SetUp(dev)
}

// output runs a tool on a host and returns what it says on both outputs.
func output(ctx context.Context, h *host, name string, args ...string) (string, error) {
	out, err := h.Command(ctx, name, args...).CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// pids are the processes of a host's tunnel, with their children: all that share
// a process group with one that was started.
func (h *host) pids() ([]int, error) {
	if len(h.processes) == 0 {
		return nil, nil
	}
	var groups []int
	for _, c := range h.processes {
		groups = append(groups, c.Process.Pid)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if group, err := processGroup(pid); err == nil && slices.Contains(groups, group) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// pids are the tunnel's processes on both hosts.
func (p *pair) pids() ([]int, error) {
	a, err := p.hosts[0].pids()
	if err != nil {
		return nil, err
	}
	b, err := p.hosts[1].pids()
	return append(a, b...), err
}

// alive is nil while every process of the tunnel runs.
func (p *pair) alive() error {
	for _, h := range p.hosts {
		for _, c := range h.processes {
			select {
			case <-c.Exited():
				return fmt.Errorf("%s on host %s has ended", filepath.Base(c.Args[0]), h.letter)
			default:
			}
		}
	}
	return nil
}

// reach waits until an echo request over the tunnel is answered.
func (r *runner) reach(ctx context.Context, p *pair) error {
	deadline := time.Now().Add(patience)
	for {
		result, err := r.once(ctx, p.hosts[0], traffic.Job{
			Role: traffic.Ping, Addr: netip.AddrPortFrom(overlay[1], 0),
			Interval: time.Millisecond, Duration: time.Millisecond,
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil && result.Latency.Count > 0 {
			return nil
		}
		if down := p.alive(); down != nil {
			return down
		}
		if time.Now().After(deadline) {
			if err == nil {
				err = fmt.Errorf("no echo reply through the tunnel within %v", patience)
			}
			return err
		}
	}
}
