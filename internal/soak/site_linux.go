package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
)

const (
	vni      = 4097
	underlay = "ens160"
	bridge   = "br0"
	kernel   = 2 // the host that has the kernel's device
	hostsAll = 3
	// ageing is short, so that as many stations are forgotten as are new.
	ageing = 10 * time.Second
	// patience is how long a process may take to begin or end, on a busy machine.
	patience = 30 * time.Second
)

// host is one of the three.
type host struct {
	*netlab.Namespace
	number int
	device string     // its end of the overlay
	vtep   netip.Addr // on the underlay
	port   string     // of the switch

	control string
	// client talks to its endpoint. There is one for all, which keeps its connections:
	// each costs the endpoint a descriptor.
	client *control.Client

	mu  sync.Mutex
	run *endpoint
}

func (h *host) inner4() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(100 + h.number)}) }
func (h *host) inner6() netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd10::%d", 100+h.number))
}
func (h *host) name() string { return string(rune('A' + h.number)) }

// endpoint is a process of govxlan.
type endpoint struct {
	cmd    *netlab.Cmd
	stderr *strings.Builder
}

// site is the three hosts, joined by a switch.
type site struct {
	config *Config
	lab    *netlab.Lab
	middle *netlab.Namespace
	hosts  []*host
}

// newSite makes the hosts and starts their ends of the overlay.
func newSite(ctx context.Context, c *Config) (s *site, err error) {
	lab, err := netlab.New("soak")
	if err != nil {
		return nil, err
	}
	s = &site{config: c, lab: lab}
	defer func() {
		if err != nil {
			err = errors.Join(err, lab.Close())
		}
	}()
	if s.middle, err = lab.Namespace("switch"); err != nil {
		return nil, err
	}
	if err := s.middle.Bridge(bridge); err != nil {
		return nil, err
	}
	for i := range hostsAll {
		ns, err := lab.Namespace(fmt.Sprintf("host%c", 'A'+i))
		if err != nil {
			return nil, err
		}
		h := &host{
			Namespace: ns, number: i, device: fmt.Sprintf("vx%d", vni), port: fmt.Sprintf("port%d", i),
			vtep: netip.AddrFrom4([4]byte{192, 168, 52, byte(203 + i)}), control: filepath.Join(lab.Dir(), fmt.Sprintf("%d.sock", i)),
		}
		h.client = control.NewClient(h.control)
		s.hosts = append(s.hosts, h)
		err = errors.Join(
			lab.Veth(ns, underlay, h.vtep.String()+"/24", s.middle, h.port, "", 0),
			s.middle.AttachToBridge(h.port, bridge))
		if err != nil {
			return nil, err
		}
	}
	for _, h := range s.hosts {
		if h.number == kernel {
			err = s.startKernel(h)
		} else {
			err = s.start(ctx, h)
		}
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// peers are the VTEPs of all others.
func (s *site) peers(h *host) (all []netip.Addr) {
	for _, o := range s.hosts {
		if o != h {
			all = append(all, o.vtep)
		}
	}
	return all
}

// startKernel makes the kernel's device.
func (s *site) startKernel(h *host) error {
	err := h.VXLAN(netlab.VXLANConfig{Name: h.device, VNI: vni, Local: h.vtep, Remotes: s.peers(h), MTU: 1450})
	return errors.Join(err, h.AddAddr(h.device, h.inner4().String()+"/24"), h.AddAddr(h.device, h.inner6().String()+"/64"))
}

// start starts an endpoint and waits until it carries frames.
func (s *site) start(ctx context.Context, h *host, more ...string) error {
	args := []string{"up", "--control", h.control, "--vni", fmt.Sprint(vni), "--ageing", ageing.String(), "--local", h.vtep.String(),
		"--addr", h.inner4().String() + "/24", "--addr", h.inner6().String() + "/64"}
	for _, p := range s.peers(h) {
		args = append(args, "--peer", p.String())
	}
	if s.config.Datapath != "" {
		args = append(args, "--datapath", s.config.Datapath)
	}
	// Not ctx: it is ended in its turn, and asked how.
	e := &endpoint{cmd: h.Command(context.WithoutCancel(ctx), s.config.Binary, append(args, more...)...), stderr: &strings.Builder{}}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	e.cmd.Stdout, e.cmd.Stderr = w, e.stderr
	err = e.cmd.Start()
	w.Close()
	if err != nil {
		return err
	}
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
		return fmt.Errorf("%s is not up (%q, %w): %s", e.cmd, line, err, e.stderr)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.run = e
	return nil
}

// endpoint is the one that runs now.
func (h *host) endpoint() *endpoint {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.run
}

// ended waits for an endpoint's end and returns its exit status, -1 if a signal ended
// it.
func (e *endpoint) ended() (int, error) {
	select {
	case <-e.cmd.Exited():
	case <-time.After(patience):
		_ = e.cmd.Process.Signal(syscall.SIGQUIT)
		_ = e.cmd.Wait()
		return -1, fmt.Errorf("%s does not end: %s", e.cmd, e.stderr)
	}
	_ = e.cmd.Wait()
	return e.cmd.ProcessState.ExitCode(), nil
}

// close ends the endpoints, which must leave nothing, then removes the hosts.
func (s *site) close() error {
	var errs []error
	for _, h := range s.hosts {
		e := h.endpoint()
		if e == nil {
			continue
		}
		select {
		case <-e.cmd.Exited():
			_ = e.cmd.Wait()
			errs = append(errs, fmt.Errorf("the endpoint of host %s ended by itself, status %d: %s", h.name(), e.cmd.ProcessState.ExitCode(), e.stderr))
			continue
		default:
		}
		errs = append(errs, e.cmd.Process.Signal(syscall.SIGTERM))
		code, err := e.ended()
		errs = append(errs, err)
		if code != 0 {
			errs = append(errs, fmt.Errorf("the endpoint of host %s: exit status %d: %s", h.name(), code, e.stderr))
		}
		if left, err := h.leftovers(); err != nil || len(left) > 0 {
			errs = append(errs, err, fmt.Errorf("the endpoint of host %s left devices: %v", h.name(), left))
		}
	}
	return errors.Join(append(errs, s.lab.Close())...)
}

// leftovers are the devices of a host that are not its own.
func (h *host) leftovers() (names []string, err error) {
	links, err := h.Links()
	for _, l := range links {
		if l.Name != "lo" && l.Name != underlay {
			names = append(names, l.Name)
		}
	}
	return names, err
}

// socket opens a UDP socket with room for what comes while nobody reads.
func (h *host) socket(at netip.Addr, port uint16) (*net.UDPConn, error) {
	c, err := h.ListenPacket("udp", netip.AddrPortFrom(at, port).String())
	if err != nil {
		return nil, err
	}
	u := c.(*net.UDPConn)
	raw, err := u.SyscallConn()
	if err != nil {
		u.Close()
		return nil, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 8<<20),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1))
	})
	if err := errors.Join(err, failed); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}
