package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/transport/wireguard"
	"github.com/govxlan/govxlan/vtep"
)

const wireguardPort = 51820

// Addresses in the tunnel, of the first host and of the second.
var tunnelled = []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}

// wgKeys are one private key a host.
type wgKeys [2]wireguard.Key

func newKeys() wgKeys { return wgKeys{wireguard.NewPrivateKey(), wireguard.NewPrivateKey()} }

// config writes the file of one of two hosts. Without endpoint it waits for the
// other to come.
func (k wgKeys) config(t *testing.T, h *host, i int, endpoint netip.Addr, more ...string) (path string) {
	t.Helper()
	text := fmt.Sprintf("[Interface]\nPrivateKey = %v\nListenPort = %d\nAddress = %v/24\n%s\n[Peer]\nPublicKey = %v\nAllowedIPs = %v/32\n",
		k[i], wireguardPort, tunnelled[i], strings.Join(more, "\n"), k[1-i].Public(), tunnelled[1-i])
	if endpoint.IsValid() {
		text += fmt.Sprintf("Endpoint = %v\n", netip.AddrPortFrom(endpoint, wireguardPort))
	}
	path = filepath.Join(t.TempDir(), h.Label()+".conf")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// tunnelFlags are those of up for one of two hosts, whatever else tests are run
// with.
func tunnelFlags(i int, file string, more ...string) []string {
	return append([]string{
		"--transport", "udp", "--datapath", "auto", "--vni", "4097", "--wireguard", file, "--peer", tunnelled[1-i].String(),
		"--addr", []netip.Addr{inner4A, inner4B}[i].String() + "/24",
	}, more...)
}

// wgFar is a host of today: wireguard-go on a TUN, and the kernel's vxlan on that.
type wgFar struct {
	t    *testing.T
	h    *host
	dev  string
	sock string
	cmd  *netlab.Cmd
}

var wgDevices atomic.Uint32

// start runs wireguard-go with the keys; the other host is at endpoint, if that
// is known, and listens on port.
func (f *wgFar) start(k wgKeys, endpoint netip.Addr, mtu int) {
	f.t.Helper()
	// Its socket is named after the device alone, for all namespaces.
	f.dev = fmt.Sprintf("wg%dx%d", os.Getpid(), wgDevices.Add(1))
	f.sock = "/var/run/wireguard/" + f.dev + ".sock"
	f.cmd = f.h.Command(context.Background(), "wireguard-go", "-f", f.dev)
	must(f.t, f.cmd.Start())
	f.t.Cleanup(f.stop)
	eventually(f.t, func() error {
		_, err := os.Stat(f.sock)
		return err
	})
	settings := fmt.Sprintf("set=1\nprivate_key=%s\nlisten_port=%d\npublic_key=%s\nallowed_ip=%v/32\n",
		hex.EncodeToString(k[1][:]), wireguardPort, hexOf(k[0].Public()), tunnelled[0])
	if endpoint.IsValid() {
		settings += fmt.Sprintf("endpoint=%v\n", netip.AddrPortFrom(endpoint, wireguardPort))
	}
	eventually(f.t, func() error { return f.tell(settings) }) // the socket is there before it is listened to
	must(f.t, f.h.SetMTU(f.dev, mtu))
	must(f.t, f.h.AddAddr(f.dev, tunnelled[1].String()+"/24"))
	must(f.t, f.h.SetUp(f.dev))
}

func hexOf(k wireguard.Key) string {
	b, _ := base64.StdEncoding.DecodeString(k.String())
	return hex.EncodeToString(b)
}

// tell speaks the configuration protocol of wireguard-go.
func (f *wgFar) tell(settings string) error {
	c, err := net.Dial("unix", f.sock)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := errors.Join(c.SetDeadline(deadline())); err != nil {
		return err
	}
	if _, err := c.Write([]byte(settings + "\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && answer != "errno=0\n" {
		err = fmt.Errorf("%q to %s", answer, settings)
	}
	return err
}

func (f *wgFar) stop() {
	f.cmd.Stop()
	os.Remove(f.sock)
}

// kernelInTunnel makes one: govxlan on a, wireguard-go and the kernel's vxlan on b.
func kernelInTunnel(t *testing.T, v6 bool) (*tunnel, *wgFar, wgKeys) {
	t.Helper()
	if _, err := exec.LookPath("wireguard-go"); err != nil {
		t.Fatal("wireguard-go is not installed: 'make packages', or apt install wireguard-go")
	}
	hosts := newHosts(t, "wg", 2, wiring{real: true})
	k := newKeys()
	mtu := 1440
	if v6 {
		mtu = 1420
	}
	tn := &tunnel{a: hosts[0], b: hosts[1], mtu: mtu - 50}
	far := &wgFar{t: t, h: tn.b}
	far.start(k, tn.a.ip(v6), mtu)
	must(t, tn.b.VXLAN(netlab.VXLANConfig{Name: "vxlan0", VNI: 4097, Local: tunnelled[1], Remotes: tunnelled[:1], MTU: tn.mtu}))
	must(t, tn.b.AddAddr("vxlan0", inner4B.String()+"/24"))
	must(t, tn.b.AddAddr("vxlan0", inner6B.String()+"/64"))
	tn.program = up(t, tn.a.Namespace, tunnelFlags(0, k.config(t, tn.a, 0, tn.b.ip(v6)), "--addr", inner6A.String()+"/64")...)
	must(t, tn.a.AwaitAddr(inner6A))
	shaken(t, tn.a, inner4B)
	return tn, far, k
}

// shaken waits until a tunnel carries something. Where both ends begin a handshake
// at the same time, each takes the other's for its own answer, and the protocol
// tries again only after five seconds (RekeyTimeout), when ping has given up.
func shaken(t *testing.T, from *host, to netip.Addr) {
	t.Helper()
	eventually(t, func() error {
		return from.Command(t.Context(), "ping", "-n", "-q", "-c", "1", "-w", "1", to.String()).Run()
	})
}

// TestWireGuard: govxlan in its tunnel and the kernel's vxlan on a WireGuard device
// carry traffic of every kind, and none of it is seen on the underlay.
func TestWireGuard(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			tn, _, _ := kernelInTunnel(t, v6)
			wire := openPort(t, tn.b.Namespace, underlayDevice, true)
			if link, err := tn.a.Link(tn.program.device()); err != nil || link.MTU != tn.mtu {
				t.Errorf("MTU %d, want %d (%v)", link.MTU, tn.mtu, err)
			}
			t.Run("ping", tn.ping)
			secret := bytes.Repeat([]byte("nobody shall read this. "), 20)
			pattern := hex.EncodeToString(secret[:16])
			ping(t, tn.a.Namespace, inner4B, 3, "-s", "480", "-p", pattern)
			ping(t, tn.b.Namespace, inner4A, 3, "-s", "480", "-p", pattern)
			onlyWireGuard(t, wire, secret[:48])
			t.Run("TCP", tn.tcp)
			t.Run("UDP", tn.udp)
			t.Run("frames of every size", tn.frames)
			s := tn.program.status()
			if s.Transport != "wireguard" || s.Tunnel == nil || len(s.Tunnel.Peers) != 1 || s.Local != tunnelled[0].String() {
				t.Fatalf("status %+v", s)
			}
			p := s.Tunnel.Peers[0]
			if p.LastHandshake == nil || p.Endpoint != netip.AddrPortFrom(tn.b.ip(v6), wireguardPort).String() || p.RxBytes < 1<<20 || p.TxBytes < 1<<20 {
				t.Errorf("peer of the tunnel %+v", p)
			}
		})
	}
}

// onlyWireGuard looks at all that was on the wire so far: UDP from and to the port
// of the tunnel, and what hosts of a link say to find each other.
func onlyWireGuard(t *testing.T, wire *packetPort, secret []byte) {
	t.Helper()
	seen := 0
	for frame := wire.recv(time.Now()); frame != nil; frame = wire.recv(time.Now()) {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		if bytes.Contains(frame, secret) {
			t.Fatalf("in clear: %v", p)
		}
		udp, ok := p.TransportLayer().(*layers.UDP)
		switch {
		case ok && udp.SrcPort == wireguardPort && udp.DstPort == wireguardPort:
			seen++
		case p.Layer(layers.LayerTypeARP) != nil, p.Layer(layers.LayerTypeICMPv6) != nil:
		default:
			t.Fatalf("besides WireGuard: %v", p)
		}
	}
	if lost := wire.lost(); seen < 20 || lost != 0 {
		t.Errorf("%d packets of WireGuard seen, %d missed", seen, lost)
	}
}

// TestWireGuardAgain: the far end is started anew, and then moves to another
// address: the tunnel follows.
func TestWireGuardAgain(t *testing.T) {
	t.Parallel()
	tn, far, k := kernelInTunnel(t, false)
	ping(t, tn.a.Namespace, inner4B, 3)
	far.stop()
	eventually(t, func() error {
		if links, err := tn.b.Links(); err != nil || len(links) != 3 {
			return fmt.Errorf("%d links: %v", len(links), err)
		}
		return nil
	})
	// The new one knows nothing of the old one's keys, and begins.
	far = &wgFar{t: t, h: tn.b}
	far.start(k, tn.a.ip4, 1440)
	shaken(t, tn.b, inner4A)
	ping(t, tn.b.Namespace, inner4A, 3)
	ping(t, tn.a.Namespace, inner4B, 3)

	moved := netip.MustParseAddr("192.168.52.77")
	must(t, tn.b.DelAddr(underlayDevice, tn.b.ip4.String()+"/24"))
	must(t, tn.b.AddAddr(underlayDevice, moved.String()+"/24"))
	// It holds on to the address that it sent from; with another port it looks
	// for one.
	must(t, far.tell("set=1\nlisten_port=51821\n"))
	ping(t, tn.b.Namespace, inner4A, 3)
	want := netip.AddrPortFrom(moved, 51821).String()
	eventually(t, func() error {
		if got := tn.program.status().Tunnel.Peers[0].Endpoint; got != want {
			return fmt.Errorf("endpoint %s, want %s", got, want)
		}
		return nil
	})
	must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 2<<20))

	// And now it is our own address that changes.
	moved = netip.MustParseAddr("192.168.52.78")
	must(t, tn.a.DelAddr(underlayDevice, tn.a.ip4.String()+"/24"))
	must(t, tn.a.AddAddr(underlayDevice, moved.String()+"/24"))
	eventually(t, func() error {
		if !strings.Contains(tn.program.stderr.String(), "the tunnel follows") {
			return errors.New("the tunnel does not follow")
		}
		return nil
	})
	ping(t, tn.a.Namespace, inner4B, 3)
	must(t, transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 2<<20))
}

// TestWireGuardTwoEnds: two govxlan, one of which does not know where the other
// is, beside an endpoint in clear on the same hosts.
func TestWireGuardTwoEnds(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wg2", 2, wiring{})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	// The port of VXLAN is inside the tunnel.
	up(t, b.Namespace, "--vni", "5", "--peer", a.ip4.String())
	pb := up(t, b.Namespace, tunnelFlags(1, k.config(t, b, 1, netip.Addr{}, "MTU = 1400", "DNS = 10.9.0.53"))...)
	file := k.config(t, a, 0, b.ip4, "MTU = 1400")
	must(t, os.Chmod(file, 0o644))
	pa := up(t, a.Namespace, tunnelFlags(0, file)...)
	for p, words := range map[*program][]string{
		pa: {"chmod 600", file}, pb: {"wg-quick", "DNS"},
	} {
		for _, w := range words {
			if !strings.Contains(p.stderr.String(), w) {
				t.Errorf("no %q in %q", w, p.stderr)
			}
		}
	}
	// It is a that knows the way.
	shaken(t, a, inner4B)
	ping(t, a.Namespace, inner4B, 3, "-M", "do", "-s", "1322")
	ping(t, b.Namespace, inner4A, 3, "-M", "do", "-s", "1322")
	must(t, transfer(a.Namespace, b.Namespace, inner4B, 8<<20))
	if got := pb.status().Tunnel.Peers[0].Endpoint; got != netip.AddrPortFrom(a.ip4, wireguardPort).String() {
		t.Errorf("b's peer is at %s", got)
	}
	if o := run(t, a.Namespace, "doctor", "--control", pa.control); o.code != 0 || !strings.Contains(o.stdout, "UDP port 51820") {
		t.Errorf("doctor: %+v", o)
	}
	if s := pa.status(); s.Datapath != vtep.DatapathUser.String() || !strings.Contains(s.DatapathStatus.Reason, "UDP sockets") {
		t.Errorf("datapath %+v", s.DatapathStatus)
	}
}

// TestWireGuardMesh: three hosts, each with two peers in its tunnel: what is flooded
// reaches both, and each answers for itself.
func TestWireGuardMesh(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgmesh", 3, wiring{})
	address := func(kind string, i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(kind, i+1)) }
	var keys [3]wireguard.Key
	for i := range keys {
		keys[i] = wireguard.NewPrivateKey()
	}
	for i, h := range hosts {
		text := fmt.Sprintf("[Interface]\nPrivateKey = %v\nListenPort = %d\nAddress = %v\n", keys[i], wireguardPort, address("fd09::%d", i))
		flags := []string{"--transport", "udp", "--datapath", "auto", "--vni", "4097", "--addr", address("10.0.1.%d", i).String() + "/24"}
		for j, o := range hosts {
			if j != i {
				text += fmt.Sprintf("[Peer]\nPublicKey = %v\nAllowedIPs = %v\nEndpoint = %v:%d\n", keys[j].Public(), address("fd09::%d", j), o.ip4, wireguardPort)
				flags = append(flags, "--peer", address("fd09::%d", j).String())
			}
		}
		file := filepath.Join(t.TempDir(), h.Label()+".conf")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		p := up(t, h.Namespace, append(flags, "--wireguard", file)...)
		if link, err := h.Link(p.device()); err != nil || link.MTU != 1370 {
			t.Errorf("MTU %d, want 1370 (%v)", link.MTU, err)
		}
	}
	for i, h := range hosts {
		for j := range hosts {
			if j != i {
				shaken(t, h, address("10.0.1.%d", j))
				ping(t, h.Namespace, address("10.0.1.%d", j), 3, "-M", "do", "-s", "1342")
			}
		}
	}
	must(t, transfer(hosts[0].Namespace, hosts[2].Namespace, address("10.0.1.%d", 2), 2<<20))
}

// TestWireGuardPathMTU: a device that is wider than the tunnel: senders are told.
func TestWireGuardPathMTU(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgmtu", 2, wiring{})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	up(t, b.Namespace, tunnelFlags(1, k.config(t, b, 1, a.ip4), "--mtu", "1450")...)
	p := up(t, a.Namespace, tunnelFlags(0, k.config(t, a, 0, b.ip4), "--mtu", "1450")...)
	shaken(t, a, inner4B)
	must(t, transfer(a.Namespace, b.Namespace, inner4B, 2<<20))
	if c := p.counters(); c.TxDropTooBig == 0 || c.TxTooBigAnswered == 0 {
		t.Errorf("nobody was told: %+v", c)
	}
	// The underlay gets narrower, and the tunnel with it.
	must(t, a.SetMTU(underlayDevice, 1400))
	must(t, b.SetMTU(underlayDevice, 1400))
	eventually(t, func() error {
		if mtu := p.status().Tunnel.MTU; mtu != 1340 {
			return fmt.Errorf("MTU of the tunnel %d", mtu)
		}
		return nil
	})
	must(t, transfer(a.Namespace, b.Namespace, inner4B, 2<<20))
}

// TestWireGuardWrongKey: nothing gets through, and status says what to look at.
func TestWireGuardWrongKey(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgkey", 2, wiring{})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	pa := up(t, a.Namespace, tunnelFlags(0, k.config(t, a, 0, b.ip4))...)
	other := wgKeys{wireguard.NewPrivateKey(), k[1]}
	pb := up(t, b.Namespace, tunnelFlags(1, other.config(t, b, 1, netip.Addr{}))...)
	out, err := a.Command(t.Context(), "ping", "-n", "-c", "1", "-W", "1", inner4B.String()).CombinedOutput()
	if err == nil {
		t.Errorf("answered: %s", out)
	}
	for p, words := range map[*program][]string{
		pa: {"transport wireguard", "never", "has not answered", "public (and preshared)"},
		pb: {"has not come from anywhere yet"},
	} {
		o := run(t, p.ns, "status", "--control", p.control)
		text := strings.Join(strings.Fields(o.stdout), " ")
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in\n%s", w, o.stdout)
			}
		}
		for line := range strings.Lines(o.stdout) {
			if len([]rune(line)) > 81 {
				t.Errorf("%d columns: %s", len([]rune(line))-1, line)
			}
		}
	}
	o := run(t, a.Namespace, "doctor", "--control", pa.control)
	text := strings.Join(strings.Fields(o.stdout), " ")
	if o.code != 1 || !strings.Contains(text, "FAIL tunnel "+k[1].Public().String()) || !strings.Contains(text, "FAIL peer") || strings.Contains(text, "FAIL route") {
		t.Errorf("doctor: %+v", o)
	}
	if c := pb.counters(); c.RxFrames != 0 {
		t.Errorf("received %+v", c)
	}
}

// TestWireGuardRefused: what does not go together is said, and nothing is left.
func TestWireGuardRefused(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgno", 2, wiring{})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	file := k.config(t, a, 0, b.ip4)
	bad := filepath.Join(t.TempDir(), "bad.conf")
	must(t, os.WriteFile(bad, []byte("[Interface]\nPrivateKey = "+k[0].String()+"\nSpeed = 5\n"), 0o600))
	bare := filepath.Join(t.TempDir(), "bare.conf")
	must(t, os.WriteFile(bare, []byte("[Interface]\nPrivateKey = "+k[0].String()+"\n"), 0o600))
	nowhere := filepath.Join(t.TempDir(), "nowhere.conf")
	must(t, os.WriteFile(nowhere, []byte("[Interface]\nPrivateKey = "+k[0].String()+"\nAddress = 10.9.0.1\n[Peer]\nPublicKey = "+k[1].Public().String()+"\nEndpoint = nobody.invalid:5\nAllowedIPs = 10.9.0.2\n"), 0o600))
	vni := []string{"--vni", "4097", "--wireguard"}
	peer := []string{"--peer", tunnelled[1].String()}
	for _, c := range []struct {
		code  int
		args  []string
		words []string
	}{
		{2, append(vni, bad), []string{bad + ": line 3: ", "Speed"}},
		{2, append(vni, bare), []string{"Address", "--local"}},
		{2, append(vni, "/nowhere/wg0.conf"), []string{"--wireguard", "/nowhere/wg0.conf", "no such file"}},
		{2, append(vni, ""), []string{"--wireguard is empty"}},
		{2, append(vni, file, "--transport", "packet"), []string{"--transport packet"}},
		{2, append(vni, file, "--takeover"), []string{"--takeover with --wireguard"}},
		{2, append(vni, file, "--dev", underlayDevice), []string{"--dev " + underlayDevice}},
		{2, append(vni, file, "--local", "0.0.0.0"), []string{"in the tunnel"}},
		{2, append(vni, file, "--local", tunnelled[1].String()), []string{tunnelled[1].String(), "AllowedIPs"}},
		{1, append(append(vni, file), "--peer", "192.168.52.204"), []string{"192.168.52.204", "AllowedIPs", file}},
		{1, append(append(vni, file), "--peer", "fd09::2"), []string{"fd09::2", "Address"}},
		{1, append(append(vni, nowhere), peer...), []string{nowhere, "nobody.invalid"}},
		{1, append(append(append(vni, file), peer...), "--datapath", "ebpf"), []string{"--datapath ebpf: the transport is none of UDP sockets"}},
	} {
		refused(t, a.Namespace, c.code, c.words, c.args...)
	}
	taken, err := a.ListenPacket("udp", fmt.Sprintf(":%d", wireguardPort))
	must(t, err)
	defer taken.Close()
	refused(t, a.Namespace, 1, []string{"UDP port 51820 is held by", file}, append(append(vni, file), peer...)...)
}

// TestWireGuardReload: VNIs come and go; the tunnel itself needs a restart.
func TestWireGuardReload(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "wgre", 2, wiring{})
	a, b := hosts[0], hosts[1]
	k := newKeys()
	tunnelFile := k.config(t, a, 0, b.ip4)
	file := filepath.Join(t.TempDir(), "govxlan.yaml")
	write := func(vnis string) {
		must(t, os.WriteFile(file, []byte(fmt.Sprintf("wireguard: %s\npeers: [%v]\nvnis:\n%s", tunnelFile, tunnelled[1], vnis)), 0o600))
	}
	write(fmt.Sprintf("  - {vni: 4097, addr: [%v/24]}\n", inner4A))
	p := up(t, a.Namespace, "--config", file, "--transport", "udp", "--datapath", "auto")
	up(t, b.Namespace, tunnelFlags(1, k.config(t, b, 1, a.ip4))...)
	shaken(t, a, inner4B)
	ping(t, a.Namespace, inner4B, 2)
	write(fmt.Sprintf("  - {vni: 4097, addr: [%v/24]}\n  - vni: 4098\n", inner4A))
	if o := run(t, a.Namespace, "reload", "--control", p.control); o.code != 0 || len(p.status().VNIs) != 2 {
		t.Errorf("reload: %+v", o)
	}
	ping(t, a.Namespace, inner4B, 2)
	k[1] = wireguard.NewPrivateKey()
	text, err := os.ReadFile(k.config(t, a, 0, b.ip4))
	must(t, err)
	must(t, os.WriteFile(tunnelFile, text, 0o600))
	if o := run(t, a.Namespace, "reload", "--control", p.control); o.code != 1 || !strings.Contains(o.stderr, "wireguard") || !strings.Contains(o.stderr, "restart") {
		t.Errorf("reload with another tunnel: %+v", o)
	}
	ping(t, a.Namespace, inner4B, 2)
}
