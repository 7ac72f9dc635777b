package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	knock "github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/vtep"
	"github.com/vishvananda/netlink"
)

// pinged runs "ping" with --json, and few probes unless args say otherwise.
func pinged(t *testing.T, ns *netlab.Namespace, code int, args ...string) (r reach.Report) {
	t.Helper()
	o := run(t, ns, append([]string{"ping", "--json", "-c", "3", "-i", "10ms", "-W", "300ms"}, args...)...)
	if o.code != code {
		t.Errorf("ping %v: exit status %d, want %d\n%s%s", args, o.code, code, o.stdout, o.stderr)
	}
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("ping %v: %v\n%s%s", args, err, o.stdout, o.stderr)
	}
	if r.Alive != (code == 0) || r.Verdict == "" {
		t.Errorf("ping %v: alive %v, %q, exit status %d", args, r.Alive, r.Verdict, code)
	}
	if code != 0 && !strings.Contains(o.stderr, r.Verdict) {
		t.Errorf("ping %v: standard error %q does not say %q", args, o.stderr, r.Verdict)
	}
	return r
}

// TestPingBetweenEndpoints: both transports and families; no frame of it reaches
// a device or a table.
func TestPingBetweenEndpoints(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, transport := range transports {
			hosts := newHosts(t, "ping", 2, wiring{})
			a, b := hosts[0], hosts[1]
			a.quiet(t)
			b.quiet(t)
			mtu := 1500
			pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip(v6).String(), "--transport", transport)
			pb := up(t, b.Namespace, "--vni", "4097", "--peer", a.ip(v6).String(), "--transport", transport)
			r := pinged(t, a.Namespace, 0, b.ip(v6).String(), "--control", pa.control, "--mtu", "-c", "20")
			if r.By != "endpoint" || r.Path.State != reach.Answers || r.UDP.State != knock.NotRefused || r.Probe.State != reach.Answers {
				t.Errorf("%s: %+v", transport, r)
			}
			if r.Probe.Sent != 20 || r.Probe.Received != 20 || r.Probe.Duplicates != 0 {
				t.Errorf("%s: %+v", transport, r.Probe.Summary)
			}
			if m := r.MTU; m == nil || m.There != mtu || m.Back != mtu || m.Needed != mtu || m.By != "probe" {
				t.Errorf("%s: MTU %+v", transport, m)
			}
			c := pb.counters()
			if c.RxFrames != 0 || c.TxFrames != 0 || c.RxProbes < 20 || c.TxProbes < 20 || c.RxDropProbe != 0 {
				t.Errorf("%s: the far end counted %+v", transport, c)
			}
			if pb.entry(probe.MAC.String()) != nil || pa.entry(probe.MAC.String()) != nil {
				t.Errorf("%s: the MAC of probes was learned", transport)
			}
			must(t, b.Do(func() error {
				link, err := netlink.LinkByName(pb.device())
				if err == nil && link.Attrs().Statistics.RxPackets != 0 {
					t.Errorf("%s: %d frames reached the far device", transport, link.Attrs().Statistics.RxPackets)
				}
				return err
			}))
			// Both answer at once.
			if r := pinged(t, b.Namespace, 0, a.ip(v6).String(), "--control", pb.control); r.Probe.Received != 3 {
				t.Errorf("%s, the other way: %+v", transport, r.Probe.Summary)
			}
		}
	}
}

func TestPingWithoutEndpoint(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pingalone", 2, wiring{})
	a, b := hosts[0], hosts[1]
	nobody := pinged(t, a.Namespace, 1, b.ip4.String(), "--vni", "4097")
	if nobody.UDP.State != knock.Refused || nobody.UDP.By != b.ip4 || nobody.Path.State != reach.Answers || nobody.By != "socket" {
		t.Errorf("where nobody listens: %+v", nobody)
	}
	up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String())
	if r := pinged(t, a.Namespace, 0, b.ip4.String(), "--vni", "4097", "--mtu"); r.Probe.Received != 3 || r.MTU == nil || r.MTU.There != 1500 || r.MTU.Back != 1500 {
		t.Errorf("known there: %+v", r)
	}
	if r := pinged(t, a.Namespace, 1, b.ip4.String()); r.Probe.State != reach.Untried || !strings.Contains(r.Verdict, "--vni") || r.UDP.State != knock.NotRefused {
		t.Errorf("without a VNI: %+v", r)
	}
	if r := pinged(t, a.Namespace, 1, b.ip4.String(), "--vni", "4098"); r.Probe.State != reach.Silent || !strings.Contains(r.Verdict, "has no VNI 4098") {
		t.Errorf("another VNI: %+v", r)
	}
	// The port is taken by somebody else.
	c, err := a.ListenPacket("udp", addrPort(a.ip4, 4789).String())
	must(t, err)
	defer c.Close()
	if r := pinged(t, a.Namespace, 1, b.ip4.String(), "--vni", "4097"); r.Probe.State != reach.Untried || !strings.Contains(r.Probe.Reason, "process") {
		t.Errorf("with the port taken: %+v", r)
	}
	if r := pinged(t, a.Namespace, 1, "192.168.52.99", "--vni", "4097"); r.Path.State == reach.Answers || r.Probe.State == reach.Answers {
		t.Errorf("nobody has the address: %+v", r)
	}
}

// TestPingIsHonest: what a peer does not say is not claimed.
func TestPingIsHonest(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pinghonest", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	to := []string{b.ip4.String(), "--control", pa.control}

	// Answers are switched off: then nothing is known but that the port is open.
	pb := up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--answer-probes=false")
	if r := pinged(t, a.Namespace, 1, to...); r.Probe.State != reach.Silent || r.UDP.State != knock.NotRefused {
		t.Errorf("switched off: %+v", r)
	}
	// Beside the three there is one that wants no answer.
	pb.awaitCounters("3 probes dropped, 1 taken", func(c vtep.Counters) bool { return c.RxDropProbe == 3 && c.RxProbes == 1 && c.TxProbes == 0 })
	pb.stop()

	// It does not know us.
	pb = up(t, b.Namespace, "--vni", "4097", "--peer", "192.168.52.99")
	if r := pinged(t, a.Namespace, 1, to...); r.Probe.State != reach.Silent || !strings.Contains(r.Verdict, "does not know 192.168.52.203") {
		t.Errorf("not known there: %+v", r)
	}
	if s := pb.status().VNIs[0].Stranger; s == nil || s.VTEP != a.ip4 {
		t.Errorf("the last stranger there is %+v, want %v", s, a.ip4)
	}
	pb.stop()

	// We do not know it.
	if r := pinged(t, a.Namespace, 1, "192.168.52.99", "--control", pa.control); r.Probe.State != reach.Untried || !strings.Contains(r.Probe.Reason, "govxlan peer add 192.168.52.99 --vni 4097") {
		t.Errorf("no peer: %+v", r)
	}
	if o := run(t, a.Namespace, "ping", "192.168.52.204", "--control", pa.control, "--vni", "5"); o.code != 1 || !strings.Contains(o.stderr, "VNI 5") {
		t.Errorf("no such VNI: %+v", o)
	}
}

// TestPingOfKernel: a vxlan device minds no probe, a station behind it answers.
func TestPingOfKernel(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pingkernel", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, Bridge: ""}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.103/24"))
	pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.100/24")
	to := []string{b.ip4.String(), "--control", pa.control}
	if r := pinged(t, a.Namespace, 1, to...); r.Probe.State != reach.Silent || r.Station.State != reach.Untried {
		t.Errorf("before any traffic: %+v", r)
	}
	if o := run2(t, a.Namespace, "ping", "-c", "1", "-W", "5", "10.0.1.103"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	r := pinged(t, a.Namespace, 0, append(to, "--mtu")...)
	if r.Station.State != reach.Answers || r.Station.Station == nil || r.Station.IP.String() != "10.0.1.103" {
		t.Errorf("station: %+v", r.Station)
	}
	if m := r.MTU; m == nil || m.There != 1500 || m.By != "icmp" {
		t.Errorf("MTU %+v", m)
	}
}

// TestProbesEndAtTheBridge: behind a VTEP that knows nothing of them, a probe
// reaches the bridge and no station.
func TestProbesEndAtTheBridge(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pingbridge", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	container := netlabtest.Namespace(t, a.lab, "container")
	must(t, container.Sysctl("net.ipv6.conf.default.disable_ipv6", "1"))
	must(t, b.Bridge("br0"))
	must(t, a.lab.Veth(b.Namespace, "port7", "", container, "eth0", "10.0.1.103/24", 0))
	must(t, b.AttachToBridge("port7", "br0"))
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097, Bridge: "br0"}, false, a)
	pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.100/24")
	seen := openPort(t, container, "eth0", false)
	pinged(t, a.Namespace, 1, b.ip4.String(), "--control", pa.control)
	// What comes behind the probes gets there: so they would have.
	if o := run2(t, a.Namespace, "ping", "-c", "1", "-W", "5", "10.0.1.103"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	frames := 0
	for f := seen.recv(time.Time{}); f != nil; f = seen.recv(time.Time{}) {
		frames++
		if bytes.Equal(f[:6], probe.MAC[:]) || bytes.Equal(f[6:12], probe.MAC[:]) {
			t.Errorf("a probe got to a station: %x", f)
		}
	}
	if frames == 0 {
		t.Error("nothing was seen at the station: not what was to be tested")
	}
	fdb, err := b.FDB("vxlan0")
	must(t, err)
	learned := 0
	for _, e := range fdb {
		if e.MAC == probe.MAC.String() && e.Bridge == "" {
			learned++
		}
	}
	if learned > 1 {
		t.Errorf("%d entries for the MAC of probes: %v", learned, fdb)
	}
}

// run2 runs a program to its end.
func run2(t *testing.T, ns *netlab.Namespace, name string, args ...string) outcome {
	t.Helper()
	return runCmd(t, ns.Command(t.Context(), name, args...))
}

// TestPingFindsNarrowPaths: where routers answer, and where they do not.
func TestPingFindsNarrowPaths(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		n := newNarrow(t, "pingnarrow")
		pa := up(t, n.a.Namespace, "--vni", "4097", "--peer", n.b.ip(v6).String())
		up(t, n.b.Namespace, "--vni", "4097", "--peer", n.a.ip(v6).String())
		for _, ns := range []*netlab.Namespace{nil, n.r1} {
			if ns != nil {
				deaf(t, ns)
			}
			r := pinged(t, n.a.Namespace, 0, n.b.ip(v6).String(), "--control", pa.control, "--mtu")
			if m := r.MTU; m == nil || m.There != 1400 || m.Back != 1400 || m.Needed != 1500 {
				t.Errorf("IPv6 %v, silent router %v: MTU %+v", v6, ns != nil, m)
			}
		}
	}
}

// TestPingUntilInterrupted: -c 0 ends with Ctrl-C, and says what it has.
func TestPingUntilInterrupted(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "pingint", 2, wiring{})
	a, b := hosts[0], hosts[1]
	pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String())
	cmd := a.Command(t.Context(), govxlan, "ping", b.ip4.String(), "--control", pa.control, "-c", "0", "-i", "20ms")
	stdout, stderr := newOutput(), newOutput()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	must(t, cmd.Start())
	eventually(t, func() error {
		if strings.Count(stdout.String(), "answer ") < 5 {
			return errFew
		}
		return nil
	})
	must(t, cmd.Process.Signal(syscall.SIGINT))
	select {
	case <-cmd.Exited():
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	if code := exitCode(t, cmd.Wait()); code != 0 || !strings.Contains(stdout.String(), "0 % lost") {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	// When the endpoint ends, so does ping, and does not call that well.
	cmd = a.Command(t.Context(), govxlan, "ping", b.ip4.String(), "--control", pa.control, "-c", "0", "-i", "20ms")
	stdout, stderr = newOutput(), newOutput()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	must(t, cmd.Start())
	<-stdout.line
	pa.stop()
	if code := exitCode(t, cmd.Wait()); code != 1 || !strings.Contains(stderr.String(), "the endpoint here has ended") {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
	pa = up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String())
	o := run(t, a.Namespace, "ping", b.ip4.String(), "--control", pa.control, "-c", "2")
	for line := range strings.Lines(o.stdout) {
		if len(line) > 81 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

var errFew = errors.New("too few answers yet")
