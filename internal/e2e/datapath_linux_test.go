package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vtep"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// acceleratedPair is two hosts whose endpoints know each other's stations and
// have programs in the kernel.
func acceleratedPair(t *testing.T, label string, flags ...string) (a, b *host, pa, pb *program) {
	t.Helper()
	return datapathPair(t, "ebpf", label, flags...)
}

func datapathPair(t *testing.T, datapath, label string, flags ...string) (a, b *host, pa, pb *program) {
	t.Helper()
	hosts := newHosts(t, label, 2, wiring{})
	a, b = hosts[0], hosts[1]
	pa = upDatapath(t, datapath, a.Namespace, append([]string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String() + "/24"}, flags...)...)
	pb = upDatapath(t, datapath, b.Namespace, append([]string{"--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String() + "/24"}, flags...)...)
	ping(t, a.Namespace, inner4B, 3)
	return a, b, pa, pb
}

// upDatapath is up with this --datapath, whatever those of all tests have.
func upDatapath(t *testing.T, datapath string, ns *netlab.Namespace, args ...string) *program {
	t.Helper()
	return up(t, ns, append(args, "--datapath", datapath)...)
}

// stopped calls f while both processes do nothing.
func stopped(pa, pb *program, f func()) {
	for _, p := range []*program{pa, pb} {
		p.halt()
		defer p.signal(syscall.SIGCONT)
	}
	f()
}

// pingOnce says whether one echo request of this size is answered.
func pingOnce(ns *netlab.Namespace, to netip.Addr, size int) error {
	out, err := ns.Command(context.Background(), "ping", "-n", "-c", "1", "-W", "1", "-s", fmt.Sprint(size), to.String()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ping: %w: %s", err, out)
	}
	return nil
}

// The programs carry what is known, with nobody behind them; --datapath user does
// not have them.
func TestDatapath(t *testing.T) {
	t.Parallel()
	for _, datapath := range []string{"ebpf", "user"} {
		t.Run(datapath, func(t *testing.T) {
			t.Parallel()
			a, _, pa, pb := datapathPair(t, datapath, "datapath")
			s := pa.status()
			if s.Datapath != datapath || s.Reason != "" || s.VNIs[0].Datapath != datapath || s.VNIs[0].Reason != "" {
				t.Errorf("datapath %q (%s), of the VNI %q (%s)", s.Datapath, s.Reason, s.VNIs[0].Datapath, s.VNIs[0].Reason)
			}
			if !strings.Contains(pa.stderr.String(), `"datapath": "`+datapath+`"`) {
				t.Errorf("the log does not tell: %s", pa.stderr)
			}
			before := pa.counters()
			stopped(pa, pb, func() {
				// A large one may have been due to be looked at.
				err := firstGood(3, func() error { return pingOnce(a.Namespace, inner4B, 1000) })
				if (err == nil) != (datapath == "ebpf") {
					t.Errorf("with the processes stopped: %v", err)
				}
			})
			eventually(t, func() error { // where it has the processes to wait for
				if after := pa.counters(); after.TxFrames <= before.TxFrames || after.RxFrames <= before.RxFrames {
					return fmt.Errorf("not counted: %+v, before %+v", after, before)
				}
				return nil
			})
		})
	}
}

// The kernel's device at the far end, on each kind of wire: what it sends without a
// checksum, as "ip link" has it by default, is carried by the programs.
func TestDatapathBesideKernel(t *testing.T) {
	t.Parallel()
	for name, w := range map[string]wiring{"veth": {}, "wire": {real: true}, "wire+GRO": {real: true, gro: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "beside", 2, w)
			a, b := hosts[0], hosts[1]
			b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, NoUDPChecksum: true}, false, a)
			must(t, b.AddAddr("vxlan0", inner4B.String()+"/24"))
			p := upDatapath(t, "ebpf", a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24")
			ping(t, a.Namespace, inner4B, 3)
			const size = 8 << 20
			must(t, transfer(a.Namespace, b.Namespace, inner4B, size))
			must(t, transfer(b.Namespace, a.Namespace, inner4A, size))
			p.awaitCounters("all of it", func(c vtep.Counters) bool { return c.RxBytes >= size && c.TxBytes >= size })
			stopped(p, p, func() { must(t, firstGood(3, func() error { return pingOnce(a.Namespace, inner4B, 56) })) })
		})
	}
}

func firstGood(tries int, f func() error) (err error) {
	for range tries {
		if err = f(); err == nil {
			return nil
		}
	}
	return err
}

// Entries from the beginning are as good as those that are learned.
func TestDatapathStaticEntries(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "static", 2, wiring{})
	a, b := hosts[0], hosts[1]
	const macA, macB = "02:00:00:00:0a:00", "02:00:00:00:0b:00"
	// So many that the programs come before the VNI is complete.
	path, write := configFile(t)
	text := "vnis:\n  - vni: 4097\n    fdb:\n"
	for i := range 30000 {
		text += fmt.Sprintf("      - {mac: \"02:77:00:%02x:%02x:00\", vtep: %v}\n", i>>8, i&255, b.ip4)
	}
	write(text + "      - {mac: \"" + macB + "\", vtep: " + b.ip4.String() + "}\n")
	pa := upDatapath(t, "ebpf", a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24",
		"--mac", macA, "--learning=false", "--config", path)
	pb := upDatapath(t, "ebpf", b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24",
		"--mac", macB, "--learning=false", "--fdb", macA+"="+a.ip4.String())
	ping(t, a.Namespace, inner4B, 3)
	eventually(t, func() (err error) {
		stopped(pa, pb, func() { err = pingOnce(a.Namespace, inner4B, 56) })
		return err
	})
}

// Nothing of the programs stays, however the process ends.
func TestDatapathVanishes(t *testing.T) {
	t.Parallel()
	a, _, pa, _ := acceleratedPair(t, "vanish")
	if n := programsOn(t, a.Namespace, underlayDevice, ebpf.AttachTCXIngress); n != 1 {
		t.Fatalf("%d programs on the underlay", n)
	}
	pa.signal(syscall.SIGKILL)
	pa.exit()
	eventually(t, func() error {
		if n := programsOn(t, a.Namespace, underlayDevice, ebpf.AttachTCXIngress); n != 0 {
			return fmt.Errorf("%d programs are left", n)
		}
		return a.Do(func() error {
			links, err := netlink.LinkList()
			if err == nil && len(links) != 2 {
				err = fmt.Errorf("devices are left: %v", links)
			}
			return err
		})
	})
}

// programsOn counts the programs at one end of a device.
func programsOn(t *testing.T, ns *netlab.Namespace, device string, where ebpf.AttachType) (n int) {
	t.Helper()
	must(t, ns.Do(func() error {
		d, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		result, err := link.QueryPrograms(link.QueryOptions{Target: d.Index, Attach: where})
		if err != nil {
			return err
		}
		n = len(result.Programs)
		return nil
	}))
	return n
}

// What others have on the devices stays there and works.
func TestDatapathBesideOthers(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "beside", 2, wiring{})
	a, b := hosts[0], hosts[1]
	counted, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	defer counted.Close()
	theirs := func(kind ebpf.ProgramType, verdict int32) *ebpf.Program {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "theirs", Type: kind, License: "Apache-2.0", Instructions: asm.Instructions{
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, counted.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Imm(asm.R1, 1),
			asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
			asm.Mov.Imm(asm.R0, verdict).WithSymbol("out"),
			asm.Return(),
		}})
		must(t, err)
		t.Cleanup(func() { p.Close() })
		return p
	}
	const next, xdpPass = -1, 2
	must(t, a.Do(func() error {
		d, err := net.InterfaceByName(underlayDevice)
		if err != nil {
			return err
		}
		tc, err := link.AttachTCX(link.TCXOptions{Interface: d.Index, Program: theirs(ebpf.SchedCLS, next), Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		t.Cleanup(func() { tc.Close() })
		x, err := link.AttachXDP(link.XDPOptions{Interface: d.Index, Program: theirs(ebpf.XDP, xdpPass), Flags: link.XDPGenericMode})
		if err != nil {
			return err
		}
		t.Cleanup(func() { x.Close() })
		return nil
	}))
	pa := upDatapath(t, "ebpf", a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24")
	pb := upDatapath(t, "ebpf", b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24")
	ping(t, a.Namespace, inner4B, 3)
	if n := programsOn(t, a.Namespace, underlayDevice, ebpf.AttachTCXIngress); n != 2 {
		t.Errorf("%d programs on the underlay, want theirs and ours", n)
	}
	if s := pa.status().Programs; len(s) != 1 || s[0].Device != underlayDevice || !slices.Equal(s[0].Programs, []string{"theirs", "decapsulate"}) {
		t.Errorf("order: %+v", s)
	}
	var before, after uint64
	must(t, counted.Lookup(uint32(0), &before))
	stopped(pa, pb, func() { must(t, firstGood(3, func() error { return pingOnce(a.Namespace, inner4B, 56) })) })
	must(t, counted.Lookup(uint32(0), &after))
	if after < before+2 {
		t.Errorf("their programs saw %d packets", after-before)
	}
	pa.stop()
	if n := programsOn(t, a.Namespace, underlayDevice, ebpf.AttachTCXIngress); n != 1 {
		t.Errorf("%d programs on the underlay afterwards, want theirs", n)
	}
}

// Without the rights, auto does it itself and says so; ebpf refuses.
func TestDatapathWithoutRights(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "rights", 2, wiring{})
	a, b := hosts[0], hosts[1]
	const without = "-bpf,-sys_admin"
	drop := func(p *program) {
		args := append([]string{"--bounding-set", without, "--inh-caps", without, "--", govxlan}, p.cmd.Args[1:]...)
		p.cmd = a.Command(context.Background(), "setpriv", args...)
		p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	}
	flags := []string{"--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String() + "/24", "--datapath"}
	p := prepare(t, a.Namespace, append(flags, "ebpf")...)
	drop(p)
	refusedCmd(t, a.Namespace, p.cmd, 1, []string{"--datapath ebpf", "CAP_BPF"})

	p = prepare(t, a.Namespace, append(flags, "auto")...)
	drop(p)
	p.start()
	if s := p.status(); s.Datapath != "user" || !strings.Contains(s.Reason, "CAP_BPF") || s.VNIs[0].Datapath != "user" {
		t.Errorf("datapath %q (%s)", s.Datapath, s.Reason)
	}
	upDatapath(t, "ebpf", b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24")
	ping(t, a.Namespace, inner4B, 3)
}

// What is not for the programs says why, and works.
func TestDatapathUnsuited(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		flags  []string
		reason string
	}{
		"IPv6":    {[]string{"--peer", "fd52::204"}, "IPv4"},
		"trunk":   {[]string{"--peer", "192.168.52.204", "--vlan-map", "5=4098"}, "trunk"},
		"packet":  {[]string{"--peer", "192.168.52.204", "--transport", "packet"}, "UDP sockets"},
		"offload": {[]string{"--peer", "192.168.52.204", "--offload", "off"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newHosts(t, "unsuited", 2, wiring{})[0]
			s := upDatapath(t, "auto", a.Namespace, append([]string{"--vni", "4097"}, tc.flags...)...).status()
			v := s.VNIs[0]
			if (v.Datapath == "ebpf") != (tc.reason == "") || !strings.Contains(v.Reason, tc.reason) {
				t.Errorf("datapath %q (%s)", v.Datapath, v.Reason)
			}
		})
	}
}

// Routes that change take the frames with them.
func TestDatapathFollowsRoutes(t *testing.T) {
	t.Parallel()
	a, b, pa, pb := acceleratedPair(t, "reroute")
	lab := a.lab
	must(t, lab.Veth(a.Namespace, "second", "192.168.53.203/24", b.Namespace, "second", "192.168.53.204/24", 1500))
	// The VTEPs' own addresses by the other wire, which takes the frames both ways.
	via := func(h *host, to, gw string) {
		must(t, h.Do(func() error {
			_, dst, err := net.ParseCIDR(to + "/32")
			if err != nil {
				return err
			}
			return netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: net.ParseIP(gw)})
		}))
	}
	via(a, b.ip4.String(), "192.168.53.204")
	via(b, a.ip4.String(), "192.168.53.203")
	ping(t, a.Namespace, inner4B, 3)
	for _, h := range []*host{a, b} {
		eventually(t, func() error {
			if n := programsOn(t, h.Namespace, "second", ebpf.AttachTCXIngress); n != 1 {
				return fmt.Errorf("%d programs on the second wire", n)
			}
			return nil
		})
	}
	eventually(t, func() (err error) {
		stopped(pa, pb, func() { err = pingOnce(a.Namespace, inner4B, 56) })
		return err
	})
	first := openPort(t, a.Namespace, underlayDevice, true)
	var err error
	stopped(pa, pb, func() { err = firstGood(5, func() error { return pingOnce(a.Namespace, inner4B, 56) }) })
	must(t, err)
	for f := first.recv(time.Time{}); f != nil; f = first.recv(time.Time{}) {
		// The host itself may have something to say there, by IPv6.
		if binary.BigEndian.Uint16(f[12:]) == unix.ETH_P_IP {
			t.Errorf("the first wire carries %x", f)
		}
	}
}

// What cannot be sent is the endpoint's matter, which says why, and that of the
// programs again when the link is back.
func TestDatapathLinkDown(t *testing.T) {
	t.Parallel()
	a, _, pa, pb := acceleratedPair(t, "linkdown")
	before := pa.counters()
	must(t, a.Do(func() error {
		d, err := netlink.LinkByName(underlayDevice)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(d)
	}))
	eventually(t, func() error {
		_ = pingOnce(a.Namespace, inner4B, 56)
		if pa.counters().TxDropUnreachable == before.TxDropUnreachable {
			return errors.New("no frame is counted as unreachable")
		}
		return nil
	})
	must(t, a.SetUp(underlayDevice))
	within(t, recovery, func() error { return pingOnce(a.Namespace, inner4B, 56) })
	eventually(t, func() (err error) {
		stopped(pa, pb, func() { err = pingOnce(a.Namespace, inner4B, 56) })
		return err
	})
}

// A device that takes less than before gets no more.
func TestDatapathFollowsMTU(t *testing.T) {
	t.Parallel()
	a, b, _, pb := acceleratedPair(t, "mtu")
	must(t, firstGood(3, func() error { return pingOnce(a.Namespace, inner4B, 1300) }))
	must(t, b.SetMTU(pb.device(), 1000))
	eventually(t, func() error {
		if err := pingOnce(a.Namespace, inner4B, 1300); err == nil {
			return errors.New("an echo request that is too long is answered")
		}
		if pb.counters().RxDropOversize == 0 {
			return errors.New("nothing is counted as too long")
		}
		return nil
	})
	must(t, b.SetMTU(pb.device(), 1450))
	eventually(t, func() error { return pingOnce(a.Namespace, inner4B, 1300) })
}

// What IPsec is to encrypt does not leave past it.
func TestDatapathKeepsOffIPsec(t *testing.T) {
	t.Parallel()
	a, b, pa, _ := acceleratedPair(t, "ipsec")
	policy := &netlink.XfrmPolicy{
		Src: &net.IPNet{IP: a.ip4.AsSlice(), Mask: net.CIDRMask(32, 32)}, Dst: &net.IPNet{IP: b.ip4.AsSlice(), Mask: net.CIDRMask(32, 32)},
		Proto: syscall.IPPROTO_UDP, DstPort: 4789, Dir: netlink.XFRM_DIR_OUT, Action: netlink.XFRM_POLICY_BLOCK,
	}
	set := func(change func(*netlink.XfrmPolicy) error) {
		t.Helper()
		must(t, a.Do(func() error { return change(policy) }))
	}
	set(netlink.XfrmPolicyAdd)
	eventually(t, func() error {
		if s := pa.status(); s.Datapath != "user" || !strings.Contains(s.Reason, "IPsec") || s.VNIs[0].Datapath != "user" {
			return fmt.Errorf("datapath %q (%s), of the VNI %q", s.Datapath, s.Reason, s.VNIs[0].Datapath)
		}
		return nil
	})
	if err := pingOnce(a.Namespace, inner4B, 56); err == nil {
		t.Error("packets leave that a policy blocks")
	}
	set(netlink.XfrmPolicyDel)
	eventually(t, func() error {
		if s := pa.status(); s.Datapath != "ebpf" || s.VNIs[0].Datapath != "ebpf" {
			return fmt.Errorf("datapath %q (%s)", s.Datapath, s.Reason)
		}
		return nil
	})
	eventually(t, func() error { return pingOnce(a.Namespace, inner4B, 56) })

	// And from the beginning.
	set(netlink.XfrmPolicyAdd)
	p := upDatapath(t, "auto", a.Namespace, "--port", "4790", "--vni", "5", "--peer", b.ip4.String())
	if s := p.status(); s.Datapath != "user" || !strings.Contains(s.Reason, "IPsec") {
		t.Errorf("datapath %q (%s)", s.Datapath, s.Reason)
	}
}

// A station stays in the table as long as it sends, also past the endpoint.
func TestDatapathKeepsAlive(t *testing.T) {
	t.Parallel()
	a, b, pa, _ := acceleratedPair(t, "alive", "--ageing", "3s")
	var mac string
	must(t, b.Do(func() error {
		d, err := net.InterfaceByName("vx4097")
		if err == nil {
			mac = d.HardwareAddr.String()
		}
		return err
	}))
	ended := make(chan error, 1)
	go func() {
		ended <- a.Command(context.Background(), "ping", "-n", "-q", "-i", "0.2", "-w", "8", inner4B.String()).Run()
	}()
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if pa.entry(mac) == nil {
			t.Fatal("the station has aged while it sent")
		}
	}
	if err := <-ended; err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	eventually(t, func() error {
		if pa.entry(mac) != nil {
			return errors.New("the station does not age")
		}
		return nil
	})
}
