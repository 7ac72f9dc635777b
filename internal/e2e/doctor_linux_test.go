package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/doctor"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// ward is two hosts, A examined, B its peer, both with an endpoint unless a test
// wants otherwise.
type ward struct {
	t    *testing.T
	a, b *host
	// pa and pb may be nil. They are over UDP sockets, whose packets a firewall sees.
	pa, pb *program
}

// admit makes a ward with two endpoints that are well.
func admit(t *testing.T, label string, w wiring) *ward {
	t.Helper()
	hosts := newHosts(t, label, 2, w)
	hosts[0].quiet(t)
	hosts[1].quiet(t)
	return &ward{t: t, a: hosts[0], b: hosts[1]}
}

func (w *ward) startA(flags ...string) {
	w.pa = up(w.t, w.a.Namespace, append([]string{"--transport", "udp", "--vni", "4097", "--peer", w.b.ip4.String(), "--addr", "10.0.1.100/24"}, flags...)...)
}

func (w *ward) startB(flags ...string) {
	w.pb = up(w.t, w.b.Namespace, append([]string{"--transport", "udp", "--vni", "4097", "--peer", w.a.ip4.String(), "--addr", "10.0.1.103/24"}, flags...)...)
}

func (w *ward) both() {
	w.startA()
	w.startB()
}

// setMTU sets the MTU of A's device, and waits until the endpoint has noticed.
func (w *ward) setMTU(mtu int) {
	w.t.Helper()
	must(w.t, w.a.SetMTU("vx4097", mtu))
	eventually(w.t, func() error {
		if got := w.pa.status().VNIs[0].MTU; got != mtu {
			return fmt.Errorf("the endpoint has an MTU of %d", got)
		}
		return nil
	})
}

// examine runs doctor on A.
func (w *ward) examine(args ...string) doctor.Report {
	w.t.Helper()
	if w.pa != nil && !w.pa.ended {
		args = append(args, "--control", w.pa.control)
	}
	return examine(w.t, w.a.Command(w.t.Context(), govxlan, append([]string{"doctor", "--json"}, args...)...))
}

func examine(t *testing.T, cmd *netlab.Cmd) (r doctor.Report) {
	t.Helper()
	o := runCmd(t, cmd)
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, o.stdout, o.stderr)
	}
	fails, warns := 0, 0
	for _, f := range r.Findings {
		switch f.State {
		case doctor.Fail:
			fails++
		case doctor.Warn:
			warns++
		}
		if f.Text == "" || f.Check == "" {
			t.Errorf("%s: finding %+v says nothing", cmd, f)
		}
	}
	code := 0
	if fails > 0 {
		code = 1
	}
	if o.code != code || r.OK != (code == 0) || r.Failures != fails || r.Warnings != warns {
		t.Errorf("%s: exit status %d, ok %v, %d failures, %d warnings; counted %d and %d\n%s", cmd, o.code, r.OK, r.Failures, r.Warnings, fails, warns, o.stderr)
	}
	return r
}

// well wants no warning and no failure.
func well(t *testing.T, what string, r doctor.Report) {
	t.Helper()
	for _, f := range r.Findings {
		if f.State == doctor.Fail || f.State == doctor.Warn {
			t.Errorf("%s: %+v", what, f)
		}
	}
}

// sh runs a line of a shell on a host, as it stands in a finding: "govxlan" is the
// program under test, and asks that host's endpoint.
func (w *ward) sh(h *host, line string) {
	w.t.Helper()
	p := w.pa
	if h == w.b {
		p = w.pb
	}
	if strings.Contains(line, "<") {
		w.t.Fatalf("not to be run as it stands: %s", line)
	}
	parts := strings.Split(line, " && ")
	for i, part := range parts {
		if rest, ok := strings.CutPrefix(part, "govxlan "); ok {
			parts[i] = fmt.Sprintf("%s %s --control %s", govxlan, rest, p.control)
		}
	}
	if o := runCmd(w.t, h.Command(w.t.Context(), "sh", "-ec", strings.Join(parts, " && "))); o.code != 0 {
		w.t.Fatalf("%s: %+v", line, o)
	}
}

// fault is something to be found.
type fault struct {
	name   string
	wiring wiring
	// make makes it, and starts the endpoints.
	make func(*ward)
	args []string // of doctor
	// What is to be found.
	check string
	state doctor.State
	words string // in the text
	// command is what it begins with.
	command string
	onB     bool // it is for the peer
	// leave does not run the command: there is something in it to be filled in, or
	// it would end the test.
	leave bool
	// after is done when the command has been run. Then doctor is content with what
	// it found before, and with all if content is set.
	after   func(*ward)
	content bool
}

var ills = []fault{
	{name: "a process has the port", make: func(w *ward) {
		c, err := w.a.ListenPacket("udp", addrPort(w.a.ip4, 4789).String())
		must(w.t, err)
		w.t.Cleanup(func() { c.Close() })
	}, check: "port", state: doctor.Fail, words: "held by process", command: fmt.Sprintf("kill %d", os.Getpid()), leave: true},
	{name: "the kernel has the port", make: func(w *ward) {
		w.a.kernelVTEP(w.t, netlab.VXLANConfig{VNI: 5}, false, w.b)
	}, check: "port", state: doctor.Fail, words: "vxlan0", command: "ip link del vxlan0", content: true},
	{name: "another port than the kernel's here", make: func(w *ward) {
		w.a.kernelVTEP(w.t, netlab.VXLANConfig{VNI: 5, Port: 8472}, false, w.b)
	}, check: "port-mix", state: doctor.Warn, words: "8472", leave: true},
	{name: "port 8472 there", make: func(w *ward) {
		w.startA()
		w.b.kernelVTEP(w.t, netlab.VXLANConfig{VNI: 4097, Port: 8472}, false, w.a)
		must(w.t, w.b.AddAddr("vxlan0", "10.0.1.103/24"))
	}, check: "port-mix", state: doctor.Fail, words: "but not 8472", command: "govxlan peer del 192.168.52.204:4789 --vni 4097 && govxlan peer add 192.168.52.204:8472",
		after: func(w *ward) {
			// Its answers go to 8472 here, and are lost.
			w.pa.stop()
			w.startA("--port", "8472")
			run2(w.t, w.a.Namespace, "ping", "-c", "1", "-W", "5", "10.0.1.103")
		}, content: true},
	{name: "VNI on a kernel device too", make: func(w *ward) {
		w.both()
		must(w.t, w.a.VXLAN(netlab.VXLANConfig{Name: "vxlan9", VNI: 4097, Port: 8472, Local: w.a.ip4}))
	}, check: "duplicate-vni", state: doctor.Warn, words: "vxlan9", command: "ip link del vxlan9", content: true},
	{name: "VNI in another endpoint too", make: func(w *ward) {
		w.both()
		var path string
		must(w.t, w.a.Do(func() (err error) {
			path, err = control.DefaultPath(5000)
			return err
		}))
		second := up(w.t, w.a.Namespace, "--vni", "4097", "--name", "second", "--port", "5000", "--peer", w.b.ip4.String(), "--control", path)
		second.control = path
	}, check: "duplicate-vni", state: doctor.Warn, words: "second", command: "govxlan vni del 4097 --control /run/govxlan/5000-", leave: true},

	{name: "device down", make: func(w *ward) {
		w.both()
		must(w.t, w.a.SetDown("vx4097"))
	}, check: "device", state: doctor.Fail, words: "vx4097 is down", command: "ip link set dev vx4097 up", content: true},
	{name: "device without carrier", make: func(w *ward) {
		w.both()
		w.sh(w.a, "ip link set dev vx4097 carrier off")
	}, check: "device", state: doctor.Fail, words: "no carrier", command: "ip link set dev vx4097 carrier on", content: true},
	{name: "device of nobody", make: func(w *ward) {
		w.both()
		w.sh(w.a, "ip address flush dev vx4097")
	}, check: "device", state: doctor.Warn, words: "neither an address nor a bridge", command: "ip address add <address/bits> dev vx4097", leave: true},
	{name: "bridge down", make: func(w *ward) {
		must(w.t, w.a.Bridge("br0"))
		w.startA("--bridge", "br0")
		w.startB()
		must(w.t, w.a.SetDown("br0"))
	}, check: "device", state: doctor.Fail, words: "bridge br0", command: "ip link set dev br0 up", content: true},
	{name: "bridge with longer frames", make: func(w *ward) {
		must(w.t, w.a.Bridge("br0"))
		must(w.t, w.a.lab.Veth(w.a.Namespace, "port7", "", w.b.Namespace, "far7", "", 0))
		must(w.t, w.a.AttachToBridge("port7", "br0"))
		w.startA("--bridge", "br0")
		w.startB()
	}, check: "device", state: doctor.Warn, words: "port7", command: "ip link set dev port7 mtu 1450", content: true},

	{name: "no port of its bridge any more", make: func(w *ward) {
		must(w.t, w.a.Bridge("br0"))
		w.startA("--bridge", "br0")
		w.startB()
		w.sh(w.a, "ip link set dev vx4097 nomaster")
	}, check: "device", state: doctor.Fail, words: "no port of bridge br0", command: "ip link set dev vx4097 master br0", content: true},
	{name: "device down in another namespace", make: func(w *ward) {
		sandbox := netlabtest.Namespace(w.t, w.a.lab, "sandbox")
		w.startA("--netns", sandbox.Name())
		w.startB()
		must(w.t, sandbox.SetDown("vx4097"))
	}, check: "device", state: doctor.Fail, words: "vx4097 is down", command: "nsenter --net=/run/netns/", content: true},

	{name: "no route", make: func(w *ward) {
		w.both()
		w.sh(w.a, "ip route del 192.168.52.0/24 dev ens160")
	}, check: "route", state: doctor.Fail, words: "no route", command: "ip route replace 192.168.52.204 dev ens160", content: true},
	{name: "underlay down", make: func(w *ward) {
		w.both()
		must(w.t, w.a.SetDown(underlayDevice))
	}, check: "route", state: doctor.Fail, words: "is down", command: "ip link set dev ens160 up", content: true},
	{name: "route into the tunnel", make: func(w *ward) {
		w.both()
		w.sh(w.a, "ip route add 192.168.52.204 dev vx4097")
	}, check: "route", state: doctor.Fail, words: "into the tunnel", command: "ip route replace 192.168.52.204 dev ens160", content: true},
	{name: "own address gone", make: func(w *ward) {
		w.both()
		w.sh(w.a, "ip address add 192.168.52.99/24 dev ens160 && ip address del 192.168.52.203/24 dev ens160")
	}, check: "route", state: doctor.Fail, words: "own address 192.168.52.203", command: "ip address add 192.168.52.203/", leave: true},
	{name: "strict reverse path filter", make: func(w *ward) {
		w.both()
		must(w.t, w.a.lab.Veth(w.a.Namespace, "ens161", "192.168.60.1/24", w.b.Namespace, "ens161", "192.168.60.2/24", 0))
		must(w.t, w.a.Sysctl("net.ipv4.conf.ens160.rp_filter", "1"))
		must(w.t, w.a.Sysctl("net.ipv4.conf.all.rp_filter", "0"))
		must(w.t, w.b.Sysctl("net.ipv4.conf.all.rp_filter", "0"))
		w.sh(w.a, "ip route add 192.168.52.204 via 192.168.60.2 dev ens161")
	}, check: "route", state: doctor.Warn, words: "reverse-path filter", command: "sysctl -w net.ipv4.conf.ens160.rp_filter=2", content: true},

	{name: "overlay MTU above the device's", make: func(w *ward) {
		w.both()
		w.setMTU(1500)
	}, check: "mtu", state: doctor.Warn, words: "need packets of 1550 bytes", command: "ip link set dev vx4097 mtu 1450", content: true},

	{name: "nftables drops what comes", make: func(w *ward) {
		w.both()
		w.sh(w.a, `nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; policy drop; }; add rule inet guard in ct state established,related accept; add rule inet guard in icmp type echo-request accept'`)
	}, check: "firewall", state: doctor.Fail, words: "the policy of nftables chain inet guard in drops UDP port 4789 from 192.168.52.204", command: "nft insert rule inet guard in ip saddr 192.168.52.204 udp dport 4789 accept", content: true},
	{name: "nftables drops what goes", make: func(w *ward) {
		w.both()
		w.sh(w.a, `nft 'add table inet guard; add chain inet guard out { type filter hook output priority 0; }; add rule inet guard out udp dport 4789 reject'`)
	}, check: "firewall", state: doctor.Fail, words: "drops UDP port 4789 to 192.168.52.204", command: "nft insert rule inet guard out", content: true},
	{name: "iptables drops what comes", make: func(w *ward) {
		w.both()
		w.sh(w.a, "iptables -A INPUT -p udp --dport 4789 -j DROP")
	}, check: "firewall", state: doctor.Fail, words: "from 192.168.52.204", command: "iptables -I INPUT", content: true},
	{name: "legacy iptables drops what goes", make: func(w *ward) {
		w.both()
		w.sh(w.a, "iptables-legacy -P OUTPUT DROP")
	}, check: "firewall", state: doctor.Fail, words: "policy of iptables chain OUTPUT", command: "iptables-legacy -I OUTPUT", content: true},

	{name: "nobody there", make: func(w *ward) { w.startA() },
		check: "peer", state: doctor.Fail, words: "nobody listens", command: "govxlan up --vni 4097 --peer 192.168.52.203", onB: true, leave: true},
	{name: "not known there", make: func(w *ward) {
		w.startA()
		w.startB()
		w.sh(w.b, "govxlan peer del 192.168.52.203")
	}, check: "peer", state: doctor.Fail, words: "does not know 192.168.52.203", command: "govxlan peer add 192.168.52.203 --vni 4097", onB: true, content: true},
	{name: "not known here", make: func(w *ward) {
		w.startA()
		w.startB()
		w.sh(w.a, "govxlan peer del 192.168.52.204")
	}, args: []string{"--peer", "192.168.52.204"}, check: "peer", state: doctor.Fail, words: "is no peer of VNI 4097 here", command: "govxlan peer add 192.168.52.204 --vni 4097", content: true},
	{name: "no peer at all", make: func(w *ward) {
		w.pa = up(w.t, w.a.Namespace, "--vni", "4097", "--local", w.a.ip4.String(), "--addr", "10.0.1.100/24")
	}, check: "peer", state: doctor.Warn, words: "there is no peer", command: "govxlan peer add <address> --vni 4097", leave: true},
	{name: "no such VNI", make: func(w *ward) { w.both() }, args: []string{"--vni", "9"},
		check: "vni", state: doctor.Fail, words: "no VNI 9", command: "govxlan vni add 9", leave: true},
	{name: "host away", make: func(w *ward) {
		w.startA()
		must(w.t, w.b.SetDown(underlayDevice))
	}, check: "route", state: doctor.Fail, words: "no carrier", leave: true},
	{name: "half is lost", make: func(w *ward) {
		w.both()
		w.sh(w.b, `nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in udp dport 4789 numgen inc mod 2 0 drop'`)
	}, check: "peer", state: doctor.Warn, words: "were lost", command: "govxlan ping 192.168.52.204 --vni 4097 -c 200", leave: true},
	{name: "trains are cut", wiring: wiring{real: true}, make: func(w *ward) {
		w.both()
		// What is measured before it, two packets, passes.
		w.sh(w.b, `nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in udp dport 4789 udp length gt 1000 limit rate over 1/second burst 5 packets drop'`)
	}, check: "checksum", state: doctor.Fail, words: "frames in one train", command: "govxlan up <flags> --offload off", leave: true},

	{name: "a stranger speaks", make: func(w *ward) {
		w.startA()
		w.startB()
		must(w.t, w.b.AddAddr(underlayDevice, "192.168.52.205/24"))
		c, err := w.b.ListenPacket("udp", "192.168.52.205:50000")
		must(w.t, err)
		defer c.Close()
		_, err = c.WriteTo(slices.Concat(header(8, 0, 4097, 0), make([]byte, 60)), udpAddr(w.a.ip4, 4789))
		must(w.t, err)
		eventually(w.t, func() error {
			if s := w.pa.status().VNIs[0].Stranger; s == nil {
				return errFew
			}
			return nil
		})
	}, check: "drops", state: doctor.Warn, words: "the last from 192.168.52.205", command: "govxlan peer add 192.168.52.205 --vni 4097"},
	{name: "a VNI that is not here", make: func(w *ward) {
		w.startA()
		w.startB()
		other := up(w.t, w.b.Namespace, "--vni", "4098", "--port", "4790", "--peer", w.a.ip4.String()+":4789", "--addr", "10.0.2.103/24")
		run2(w.t, w.b.Namespace, "ping", "-c", "1", "-W", "1", "10.0.2.100")
		eventually(w.t, func() error {
			if w.pa.status().Counters.RxDropUnknownVNI == 0 {
				return errFew
			}
			return nil
		})
		other.stop()
	}, check: "drops", state: doctor.Warn, words: "VNI 4098 from 192.168.52.204", command: "govxlan vni add 4098 --peer 192.168.52.204"},
	{name: "a peer that makes bad frames", make: func(w *ward) {
		w.startA()
		w.startB()
		c, err := w.b.ListenPacket("udp", addrPort(w.b.ip4, 50001).String())
		must(w.t, err)
		done := make(chan struct{})
		w.t.Cleanup(func() {
			c.Close()
			<-done
		})
		go func() {
			defer close(done)
			// From a source MAC of zero, until the socket is closed.
			for {
				if _, err := c.WriteTo(slices.Concat(header(8, 0, 4097, 0), make([]byte, 60)), udpAddr(w.a.ip4, 4789)); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
		}()
	}, check: "drops", state: doctor.Warn, words: "rx_drop_invalid_source: The source MAC", command: "govxlan stats --watch", leave: true},
	{name: "wrong checksums", make: func(w *ward) {
		w.both()
		spoiled(w.t, w.b, w.a.ip4, 50)
	}, check: "checksum", state: doctor.Warn, words: "50 UDP datagrams came with a wrong checksum", command: "ethtool -K <device of the sender>", leave: true},
}

// spoiled sends VXLAN packets with a wrong UDP checksum.
func spoiled(t *testing.T, from *host, to netip.Addr, n int) {
	t.Helper()
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP(from.ip4.AsSlice()), DstIP: net.IP(to.AsSlice())}
	udp := &layers.UDP{SrcPort: 50000, DstPort: 4789, Checksum: 0x1234}
	buf := gopacket.NewSerializeBuffer()
	payload := gopacket.Payload(slices.Concat(header(8, 0, 4097, 0), make([]byte, 60)))
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, ip, udp, payload))
	must(t, from.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for range n {
			if err := unix.Sendto(fd, buf.Bytes(), 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
				return err
			}
		}
		return nil
	}))
}

// TestDoctorFindsFaults: each is found, under its name and with the command that
// mends it; the command is run, and then doctor is content.
func TestDoctorFindsFaults(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"nft", "iptables", "iptables-legacy", "sysctl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test wants %s: %v", program, err)
		}
	}
	for i, f := range ills {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := admit(t, fmt.Sprintf("ill%d", i), f.wiring)
			f.make(w)
			r := w.examine(f.args...)
			at := slices.IndexFunc(r.Findings, func(g doctor.Finding) bool {
				return g.Check == f.check && g.State == f.state && strings.Contains(g.Text, f.words)
			})
			if at < 0 {
				t.Fatalf("not found among %+v", r.Findings)
			}
			g := r.Findings[at]
			on := w.a
			if f.onB {
				on = w.b
			}
			if !strings.HasPrefix(g.Command, f.command) || g.On.IsValid() != f.onB || f.onB && g.On != w.b.ip4 {
				t.Errorf("command %q on %v, want %q on %v", g.Command, g.On, f.command, on.ip4)
			}
			if f.leave {
				return
			}
			w.sh(on, g.Command)
			if f.after != nil {
				f.after(w)
			}
			eventually(t, func() error {
				r = w.examine(f.args...)
				for _, g := range r.Findings {
					if g.State == doctor.Fail || g.State == doctor.Warn {
						if f.content || g.Check == f.check {
							return fmt.Errorf("after %q: %+v", g.Command, g)
						}
					}
				}
				return nil
			})
		})
	}
}

// TestDoctorOfHealthy: no warning, whatever the transport, the family and the
// peer.
func TestDoctorOfHealthy(t *testing.T) {
	t.Parallel()
	for _, v6 := range []bool{false, true} {
		for _, transport := range transports {
			hosts := newHosts(t, "hale", 2, wiring{})
			a, b := hosts[0], hosts[1]
			pa := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip(v6).String(), "--addr", "10.0.1.100/24", "--transport", transport)
			up(t, b.Namespace, "--vni", "4097", "--peer", a.ip(v6).String(), "--addr", "10.0.1.103/24", "--transport", transport)
			w := &ward{t: t, a: a, b: b, pa: pa}
			r := w.examine()
			well(t, fmt.Sprintf("IPv6 %v, %s", v6, transport), r)
			for _, check := range []string{"tun", "rights", "endpoint", "port", "duplicate-vni", "device", "route", "peer", "mtu", "checksum", "drops"} {
				if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == check && f.State == doctor.OK }) {
					t.Errorf("IPv6 %v, %s: %s is not ok: %+v", v6, transport, check, r.Findings)
				}
			}
		}
	}
	w := admit(t, "halek", wiring{})
	w.startA()
	w.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, w.a)
	must(t, w.b.AddAddr("vxlan0", "10.0.1.103/24"))
	run2(t, w.a.Namespace, "ping", "-c", "1", "-W", "5", "10.0.1.103")
	well(t, "the kernel's vxlan", w.examine())

	w = admit(t, "halen", wiring{})
	well(t, "without an endpoint", w.examine())
	w.startB()
	well(t, "without an endpoint, of a peer", w.examine("--peer", w.b.ip4.String(), "--vni", "4097"))

	// A peer without a port is at that of the endpoint.
	hosts := newHosts(t, "haleport", 2, wiring{})
	w = &ward{t: t, a: hosts[0], b: hosts[1]}
	w.pa = up(t, w.a.Namespace, "--vni", "4097", "--port", "5000", "--peer", w.b.ip4.String(), "--addr", "10.0.1.100/24")
	up(t, w.b.Namespace, "--vni", "4097", "--port", "5000", "--peer", w.a.ip4.String(), "--addr", "10.0.1.103/24")
	well(t, "on another port", w.examine("--peer", w.b.ip4.String()))
}

// TestDoctorFindsOneWayTraffic: what the far firewall drops shows here as frames
// that come and probes that are not answered, and there by its rule.
func TestDoctorFindsOneWayTraffic(t *testing.T) {
	t.Parallel()
	w := admit(t, "oneway", wiring{})
	w.both()
	well(t, "before", w.examine())
	w.sh(w.b, `nft 'add table inet guard; add chain inet guard in { type filter hook input priority 0; }; add rule inet guard in udp dport 4789 drop'`)
	run2(t, w.b.Namespace, "ping", "-c", "1", "-W", "1", "10.0.1.100")
	r := w.examine()
	at := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Check == "peer" && f.State == doctor.Fail && f.On == w.b.ip4 && strings.Contains(f.Text, "ours do not get there")
	})
	if at < 0 {
		t.Fatalf("not found among %+v", r.Findings)
	}
	words := strings.Fields(strings.TrimPrefix(r.Findings[at].Command, "govxlan "))
	there := examine(t, w.b.Command(t.Context(), govxlan, append(words, "--json", "--control", w.pb.control)...))
	if !slices.ContainsFunc(there.Findings, func(f doctor.Finding) bool {
		return f.Check == "firewall" && f.State == doctor.Fail && strings.HasPrefix(f.Command, "nft insert rule inet guard in")
	}) {
		t.Errorf("%s there: %+v", r.Findings[at].Command, there.Findings)
	}
}

// TestDoctorFindsNarrowPath: with routers that tell, and without.
func TestDoctorFindsNarrowPath(t *testing.T) {
	t.Parallel()
	n := newNarrow(t, "illpath")
	w := &ward{t: t, a: n.a, b: n.b}
	w.both()
	find := func(state doctor.State) doctor.Finding {
		t.Helper()
		r := w.examine()
		for _, f := range r.Findings {
			if f.Check == "mtu" && f.State == state && strings.Contains(f.Text, "1400 fit") {
				return f
			}
		}
		t.Fatalf("no %s of the MTU among %+v", state, r.Findings)
		return doctor.Finding{}
	}
	find(doctor.Warn)
	find(doctor.Warn)
	deaf(t, n.r1)
	f := find(doctor.Fail)
	if f.Command != "ip link set dev vx4097 mtu 1350" {
		t.Errorf("command %q", f.Command)
	}
	w.sh(w.a, f.Command)
	well(t, "after", w.examine())
}

// TestDoctorWithoutRights: what is missing is named, and nothing is taken for
// well that could not be looked at.
func TestDoctorWithoutRights(t *testing.T) {
	t.Parallel()
	w := admit(t, "illrights", wiring{})
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd := w.a.Command(t.Context(), govxlan, "doctor", "--json")
	cmd.SysProcAttr = nobody
	r := examine(t, cmd)
	if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
		return f.Check == "rights" && f.State == doctor.Fail && strings.Contains(f.Text, "CAP_NET_ADMIN")
	}) {
		t.Errorf("as nobody: %+v", r.Findings)
	}
	w.startA()
	cmd = w.a.Command(t.Context(), govxlan, "doctor", "--json", "--control", w.pa.control, "--peer", w.b.ip4.String())
	cmd.SysProcAttr = nobody
	r = examine(t, cmd)
	for check, state := range map[string]doctor.State{"endpoint": doctor.Fail, "firewall": doctor.Skip} {
		if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool { return f.Check == check && f.State == state }) {
			t.Errorf("as nobody, beside an endpoint of root: no %s of %s among %+v", state, check, r.Findings)
		}
	}
}

// TestDoctorWithoutTUN: in a container that was not given the device.
func TestDoctorWithoutTUN(t *testing.T) {
	t.Parallel()
	w := admit(t, "illtun", wiring{})
	for role, command := range map[string]string{"no /dev/net/tun": "mkdir -p /dev/net && mknod", "/dev/net/tun is another device": ""} {
		cmd := w.a.Command(t.Context(), "/proc/self/exe", govxlan, "doctor", "--json")
		cmd.Env = append(os.Environ(), roleVariable+"="+role)
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		r := examine(t, cmd)
		if len(r.Findings) == 0 || r.Findings[0].Check != "tun" || r.Findings[0].State != doctor.Fail || !strings.HasPrefix(r.Findings[0].Command, command) {
			t.Errorf("%s: %+v", role, r.Findings)
		}
	}
}

// TestDoctorForPeople: 80 columns, but for commands, which are to be copied.
func TestDoctorForPeople(t *testing.T) {
	t.Parallel()
	w := admit(t, "illtext", wiring{})
	w.startA()
	w.startB()
	w.setMTU(1500)
	o := run(t, w.a.Namespace, "doctor", "--control", w.pa.control)
	if o.code != 0 || !strings.Contains(o.stdout, "WARN  mtu") || !strings.Contains(o.stdout, "$ ip link set dev vx4097 mtu 1450\n") || !strings.HasSuffix(o.stdout, "0 failures, 1 warning\n") {
		t.Errorf("%+v", o)
	}
	for line := range strings.Lines(o.stdout) {
		if len(line) > 81 && !strings.Contains(line, "$ ") {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}

// TestDoctorIsInterrupted: it says so, and at once.
func TestDoctorIsInterrupted(t *testing.T) {
	t.Parallel()
	w := admit(t, "illint", wiring{})
	cmd := w.a.Command(t.Context(), govxlan, "doctor", "--peer", "192.168.52.99,192.168.52.98,192.168.52.97,192.168.52.96")
	stdout, stderr := newOutput(), newOutput()
	cmd.Stdout, cmd.Stderr = stdout, stderr
	must(t, cmd.Start())
	eventually(t, func() error { // it asks: then it heeds signals
		if !strings.Contains(snapshot(t, w.a.Namespace), "udp socket CB34A8C0:") {
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
	if code := exitCode(t, cmd.Wait()); code != 1 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}
