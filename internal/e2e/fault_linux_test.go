package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// faultScene is an endpoint on host a beside a peer on host b.
type faultScene struct {
	t     *testing.T
	a, b  *host
	link  *badLink
	p     *program
	peer  *program // nil: the kernel's vxlan device
	near  *packetPort
	moved bool        // the peer has its other address
	full  unix.Rlimit // what was in force before a fault took it away
}

func (s *faultScene) far() *packetPort {
	s.t.Helper()
	if s.peer != nil {
		return openPort(s.t, s.b.Namespace, s.peer.device(), false)
	}
	return openPort(s.t, s.b.Namespace, "vxlan0", false)
}

// startPeer runs an endpoint on the peer's host.
func (s *faultScene) startPeer() {
	s.t.Helper()
	s.peer = up(s.t, s.b.Namespace, "--vni", "4097", "--peer", s.a.ip4.String())
}

// limit sets a resource limit of the running endpoint.
func (s *faultScene) limit(resource int, most uint64) {
	s.t.Helper()
	must(s.t, unix.Prlimit(s.p.cmd.Process.Pid, resource, nil, &s.full))
	now := s.full
	now.Cur = most
	must(s.t, unix.Prlimit(s.p.cmd.Process.Pid, resource, &now, nil))
}

// unlimit gives back what limit took.
func (s *faultScene) unlimit(resource int) {
	s.t.Helper()
	must(s.t, unix.Prlimit(s.p.cmd.Process.Pid, resource, &s.full, nil))
}

// flush forgets what was learned.
func (s *faultScene) flush() {
	s.t.Helper()
	if o := s.p.ask("fdb", "flush", "--learned"); o.code != 0 {
		s.t.Errorf("flush: %+v", o)
	}
}

// underlay is a socket on the peer's host, and where the endpoint listens.
func (s *faultScene) underlay() (net.PacketConn, net.Addr) {
	s.t.Helper()
	c, err := s.b.ListenPacket("udp", addrPort(s.b.ip4, 0).String())
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	return c, udpAddr(s.a.ip4, 4789)
}

// strangers sends frames of so many stations.
func (s *faultScene) strangers(stations uint32) {
	s.t.Helper()
	c, to := s.underlay()
	packet := append(header(8, 0, 4097, 0), testFrame(station(3), station(0), nil, 60, 0)...)
	mac := packet[vxlan.HeaderLen+6:]
	mac[0], mac[1] = 0x06, 0
	for i := range stations {
		binary.BigEndian.PutUint32(mac[2:], i)
		_, err := c.WriteTo(packet, to)
		must(s.t, err)
	}
}

// kilobytes reads a line of /proc/PID/status.
func (s *faultScene) kilobytes(line string) uint64 {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.p.cmd.Process.Pid))
	must(s.t, err)
	_, rest, ok := strings.Cut(string(text), line+":")
	var kB uint64
	if _, err := fmt.Sscan(rest, &kB); !ok || err != nil {
		s.t.Fatalf("no %s in %s", line, text)
	}
	return kB
}

// fragment is the first of the two fragments of an outer packet, of which the other
// never comes.
func fragment(t *testing.T, from, to *host, id uint16) []byte {
	t.Helper()
	f := []byte{}
	for _, h := range []*host{to, from} {
		link, err := h.Link(underlayDevice)
		must(t, err)
		mac, err := net.ParseMAC(link.MAC)
		must(t, err)
		f = append(f, mac...)
	}
	const payload = 512
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0x20 /* more fragments */, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], 20+payload)
	binary.BigEndian.PutUint16(ip[4:], id)
	src, dst := from.ip4.As4(), to.ip4.As4()
	ip = append(append(ip, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip, 0))
	f = append(append(f, 0x08, 0x00), ip...)
	udp := make([]byte, payload)
	binary.BigEndian.PutUint16(udp[0:], 50000)
	binary.BigEndian.PutUint16(udp[2:], 4789)
	binary.BigEndian.PutUint16(udp[4:], 8+1000)
	return append(f, udp...)
}

// outages are what docs/reliability.md tells of. Each begins while traffic flows and
// is then finished.
var outages = []struct {
	name          string
	peer          bool // an endpoint is the far end, not the kernel's device
	begin, finish func(s *faultScene)
}{
	{"the peer is killed and started again", true, func(s *faultScene) {
		s.peer.signal(syscall.SIGKILL)
		s.peer.exit()
	}, (*faultScene).startPeer},
	{"the peer has another address", false, func(s *faultScene) {
		from, to := s.b.ip4.String(), "192.168.52.77"
		if s.moved {
			from, to = to, from
		} else {
			must(s.t, s.b.AddAddr(underlayDevice, to+"/24"))
		}
		s.moved = !s.moved
		must(s.t, s.b.DelLink("vxlan0"))
		h := *s.b
		h.ip4 = netip.MustParseAddr(to)
		h.kernelVTEP(s.t, netlab.VXLANConfig{VNI: 4097}, false, s.a)
		s.p.tell("peer", "add", to)
		s.p.tell("peer", "del", from)
	}, func(*faultScene) {}},
	{"silence", false, func(s *faultScene) {
		s.link.set(impairment{lose: 1})
		for i := range uint32(300) {
			s.near.send(testFrame(station(1), station(0), nil, 1000, i))
		}
		eventually(s.t, func() error {
			if did, _ := s.link.has(); did.lose < 100 {
				return fmt.Errorf("%v packets lost", did.lose)
			}
			return nil
		})
	}, func(s *faultScene) { s.link.set(impairment{}) }},
	{"the link flaps", false, func(s *faultScene) {
		for i := range uint32(20) {
			must(s.t, s.a.SetDown(underlayDevice))
			s.near.send(testFrame(station(1), station(0), nil, 100, i))
			must(s.t, s.a.SetUp(underlayDevice))
		}
	}, func(*faultScene) {}},
	{"the underlay's MTU goes down and up", false, func(s *faultScene) {
		before := s.p.counters().TxDropTooBig
		must(s.t, s.a.SetMTU(underlayDevice, 1300))
		eventually(s.t, func() error {
			// Either the endpoint drops it, or its device, whose MTU has followed, refuses it.
			if err := s.near.trySend(testFrame(broadcast, station(0), nil, 1400, 1)); errors.Is(err, unix.EMSGSIZE) {
				return nil
			} else if err != nil {
				return err
			}
			if c := s.p.counters(); c.TxDropTooBig == before {
				return fmt.Errorf("nothing is too big: %+v", c)
			}
			return nil
		})
	}, func(s *faultScene) {
		must(s.t, s.a.SetMTU(underlayDevice, 1500))
		long := testFrame(broadcast, station(0), nil, 1400, 2)
		far := s.far()
		eventually(s.t, func() error {
			if err := s.near.trySend(long); err != nil {
				return err
			}
			if far.recvTest(time.Now().Add(10*time.Millisecond)) == nil {
				return fmt.Errorf("what is long does not arrive")
			}
			return nil
		})
	}},
	{"no descriptor is left", false, func(s *faultScene) {
		s.limit(unix.RLIMIT_NOFILE, 3)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if st, err := control.NewClient(s.p.control).Status(ctx); err == nil {
			s.t.Errorf("who has no descriptor left answered: %+v", st)
		}
		passes(s.t, s.near, s.far(), recovery) // frames need none
	}, func(s *faultScene) { s.unlimit(unix.RLIMIT_NOFILE) }},
	{"the disk is full", false, func(s *faultScene) {
		cmd := s.a.Command(s.t.Context(), govxlan, "capture", "--control", s.p.control, "-w", "/dev/full")
		stderr := newOutput()
		cmd.Stderr = stderr
		must(s.t, cmd.Start())
		far := s.far()
		eventually(s.t, func() error {
			passes(s.t, s.near, far, recovery)
			select {
			case <-cmd.Exited():
				return nil
			default:
				return fmt.Errorf("capture goes on: %s", stderr)
			}
		})
		if code := exitCode(s.t, cmd.Wait()); code != 1 || !strings.Contains(stderr.String(), "no space left on device") {
			s.t.Errorf("exit status %d: %s", code, stderr)
		}
	}, func(*faultScene) {}},
	{"20,000 packets of garbage", false, func(s *faultScene) {
		c, to := s.underlay()
		random := rand.New(rand.NewPCG(1, 2))
		for i := range 20_000 {
			b := make([]byte, 1+random.IntN(1400))
			for i := range b {
				b[i] = byte(random.Uint32())
			}
			if i%2 == 0 && len(b) > vxlan.HeaderLen { // a good header before it
				copy(b, header(8, 0, 4097, 0))
			}
			_, err := c.WriteTo(b, to)
			must(s.t, err)
		}
		eventually(s.t, func() error {
			st := s.p.status()
			if e, v := st.Counters, st.VNIs[0].Counters; e.RxDropBadHeader < 100 || v.RxFrames+v.RxDropInvalidSource < 100 {
				return fmt.Errorf("not noticed: %+v %+v", e, v)
			}
			return nil
		})
	}, (*faultScene).flush},
	{"200,000 stations with little memory", false, func(s *faultScene) {
		const more = 64 << 20
		s.limit(unix.RLIMIT_DATA, s.kilobytes("VmData")<<10+more)
		s.strangers(200_000)
		s.p.counters() // it is there
	}, func(s *faultScene) {
		s.unlimit(unix.RLIMIT_DATA)
		s.flush()
	}},
	{"5,000 fragments without the rest", false, func(s *faultScene) {
		out := openPort(s.t, s.b.Namespace, underlayDevice, false)
		f := fragment(s.t, s.b, s.a, 0)
		ip := f[vxlan.EthernetLen : vxlan.EthernetLen+20]
		for id := range uint16(5000) {
			binary.BigEndian.PutUint16(ip[4:], id)
			binary.BigEndian.PutUint16(ip[10:], 0)
			binary.BigEndian.PutUint16(ip[10:], checksum.Checksum(ip, 0))
			out.send(f)
		}
	}, func(*faultScene) {}},
}

// TestFault: under each fault, and after it, twice: traffic resumes by itself, and the
// endpoint has no more of anything than after the first time.
func TestFault(t *testing.T) {
	t.Parallel()
	for _, f := range outages {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			link := newBadLink()
			hosts := newHosts(t, "fault", 2, wiring{real: true, bad: link})
			s := &faultScene{t: t, a: hosts[0], b: hosts[1], link: link}
			if f.peer {
				s.startPeer()
			} else {
				s.b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, s.a)
			}
			s.p = up(t, s.a.Namespace, "--vni", "4097", "--peer", s.b.ip4.String())
			s.near = openPort(t, s.a.Namespace, s.p.device(), false)
			passes(t, s.near, s.far(), patience)
			var before health
			for round := range 2 {
				f.begin(s)
				f.finish(s)
				took := passes(t, s.near, s.far(), recovery)
				if round == 0 {
					before = s.p.health()
				} else {
					s.p.compare(before, took)
				}
			}
		})
	}
}
