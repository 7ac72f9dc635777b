package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/govxlan/govxlan/internal/netlab"
	"golang.org/x/sys/unix"
)

// stage is what stands while a demo runs.
type stage struct {
	lab   *netlab.Lab
	sides [2]*side
}

// side is one host: what the report says of it, and the things themselves.
type side struct {
	Host
	host, sandbox, container *netlab.Namespace
	end                      end
}

// stations are the devices that a packet passes on its way from A to B.
func (s *stage) stations() []Station {
	a, b := s.sides[0], s.sides[1]
	list := []Station{
		{Host: a.Letter, Place: "container", Namespace: a.Container, Device: containerDev},
		{Host: a.Letter, Place: "sandbox", Namespace: a.Sandbox, Device: bridgeDev},
		{Host: a.Letter, Place: "sandbox", Namespace: a.Sandbox, Device: vtepDev},
		{Host: a.Letter, Place: "host", Namespace: a.Namespace, Device: underlayDev},
		{Host: b.Letter, Place: "host", Namespace: b.Namespace, Device: underlayDev},
		{Host: b.Letter, Place: "sandbox", Namespace: b.Sandbox, Device: vtepDev},
		{Host: b.Letter, Place: "sandbox", Namespace: b.Sandbox, Device: bridgeDev},
		{Host: b.Letter, Place: "container", Namespace: b.Container, Device: containerDev},
	}
	for i := range list {
		list[i].Number = i + 1
	}
	return list
}

// namespace finds where a station is.
func (s *stage) namespace(at Station) *netlab.Namespace {
	for _, side := range s.sides {
		for _, ns := range []*netlab.Namespace{side.host, side.sandbox, side.container} {
			if ns.Name() == at.Namespace {
				return ns
			}
		}
	}
	panic("demo: no namespace " + at.Namespace)
}

// build makes the hosts and the containers, all but the VTEPs. On failure the
// caller closes the lab.
func build(lab *netlab.Lab, kinds [2]EndKind) (*stage, error) {
	s := &stage{lab: lab}
	for i, h := range []struct{ letter, underlay, overlay string }{
		{"A", "192.168.52.203", "10.0.1.100"},
		{"B", "192.168.52.204", "10.0.1.103"},
	} {
		side := &side{Host: Host{
			Letter: h.letter, End: kinds[i],
			Underlay: netip.MustParseAddr(h.underlay), Overlay: netip.MustParseAddr(h.overlay),
		}}
		// Docker's way of making MAC addresses: 02:42 and the IPv4 address.
		side.MAC = macOf(0x02, 0x42, side.Overlay)
		s.sides[i] = side
		for _, ns := range []struct {
			to    **netlab.Namespace
			name  *string
			label string
		}{
			{&side.host, &side.Namespace, "host"},
			{&side.sandbox, &side.Sandbox, "sandbox"},
			{&side.container, &side.Container, "container"},
		} {
			made, err := quietNamespace(lab, ns.label+h.letter)
			if err != nil {
				return nil, err
			}
			*ns.to, *ns.name = made, made.Name()
		}
		if err := side.plugContainer(lab); err != nil {
			return nil, err
		}
	}
	a, b := s.sides[0], s.sides[1]
	if err := lab.Veth(a.host, underlayDev, cidr(a.Underlay), b.host, underlayDev, cidr(b.Underlay), underlayMTU); err != nil {
		return nil, err
	}
	for _, side := range s.sides {
		// The packets on the wire shall be the same in every demo.
		mac := macOf(0x02, 0x00, side.Underlay)
		if err := side.host.SetMAC(underlayDev, mac.String()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// quietNamespace makes a namespace that does not speak IPv6: the neighbour
// discovery of devices that come up would be noise in the captures.
func quietNamespace(lab *netlab.Lab, name string) (*netlab.Namespace, error) {
	ns, err := lab.Namespace(name)
	if err != nil {
		return nil, err
	}
	err = ns.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return ns, nil
}

// plugContainer joins the container to the sandbox's bridge.
func (s *side) plugContainer(lab *netlab.Lab) error {
	if err := s.sandbox.Bridge(bridgeDev); err != nil {
		return err
	}
	if err := lab.Veth(s.sandbox, portDev, "", s.container, containerDev, cidr(s.Overlay), overlayMTU); err != nil {
		return err
	}
	if err := s.container.SetMAC(containerDev, s.MAC.String()); err != nil {
		return err
	}
	return s.sandbox.AttachToBridge(portDev, bridgeDev)
}

func cidr(a netip.Addr) string { return a.String() + "/24" }

// startEnds starts both VTEPs and returns when frames can flow.
func (s *stage) startEnds(ctx context.Context, cfg Config) error {
	for i, side := range s.sides {
		far := s.sides[1-i]
		var err error
		switch side.End {
		case EndKernel:
			side.end, err = newKernelEnd(side, far, cfg.VNI)
		default:
			var p *process
			if p, err = startProcess(ctx, side, far, cfg); err == nil {
				side.end, side.PID, side.Command, side.Control = p, p.cmd.Process.Pid, p.args, p.socket
			}
		}
		if err != nil {
			return fmt.Errorf("VTEP of host %s: %w", side.Letter, err)
		}
	}
	for _, side := range s.sides {
		if err := side.end.ready(ctx); err != nil {
			return fmt.Errorf("VTEP of host %s: %w", side.Letter, err)
		}
	}
	return nil
}

// checksumOffload lets the kernel leave checksums on the underlay to a network
// card, or not: with it, what a capture sees on a veth pair has checksums that
// no card ever fills in.
func (s *stage) checksumOffload(on bool) error {
	for _, side := range s.sides {
		if err := side.host.SetOffloads(underlayDev, on); err != nil {
			return err
		}
	}
	return nil
}

// preflight finds out in one sentence each what the demo lacks.
func preflight(kinds [2]EndKind) error {
	if os.Geteuid() != 0 {
		return errors.New("the demo makes network namespaces and needs root: try 'sudo govxlan demo'")
	}
	if kinds[0] != EndKernel || kinds[1] != EndKernel {
		f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("%w: a VTEP in user space needs it; load the tun module (modprobe tun), or give this container the device (--device /dev/net/tun)", err)
		}
		f.Close()
	}
	return nil
}

// explained puts into words why the stage could not be built, where a reader
// can do something about it.
func explained(err error) error {
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("this root may not make network namespaces; a container needs --privileged for it (%w)", err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the kernel lacks a device that the demo needs; try 'modprobe -a veth bridge vxlan' (%w)", err)
	}
	return err
}
