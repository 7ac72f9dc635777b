package membership

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/hashicorp/memberlist"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(os.Stderr)
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("time.Sleep"))
}

const patience = 60 * time.Second // a hundred with the race detector on a loaded machine

var loopback = netip.MustParseAddr("127.0.0.1")

// key is a key of the tests.
func key(fill byte) []byte {
	k := make([]byte, KeyBytes)
	for i := range k {
		k[i] = fill
	}
	return k
}

// parts says in which part of a network that fell apart an address is.
type parts struct {
	mu sync.Mutex
	of map[string]int
}

func (p *parts) set(addr string, part int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[addr] = part
}

// cable lets members talk that are in one part.
type cable struct {
	memberlist.NodeAwareTransport
	self  string
	parts *parts
}

var errCut = errors.New("the cable is cut")

func (c *cable) open(addr string) bool {
	c.parts.mu.Lock()
	defer c.parts.mu.Unlock()
	return c.parts.of[addr] == c.parts.of[c.self]
}

func (c *cable) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	if !c.open(a.Addr) {
		return time.Now(), nil // lost
	}
	return c.NodeAwareTransport.WriteToAddress(b, a)
}

func (c *cable) WriteTo(b []byte, addr string) (time.Time, error) {
	return c.WriteToAddress(b, memberlist.Address{Addr: addr})
}

func (c *cable) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	if !c.open(a.Addr) {
		return nil, errCut
	}
	return c.NodeAwareTransport.DialAddressTimeout(a, d)
}

func (c *cable) DialTimeout(addr string, d time.Duration) (net.Conn, error) {
	return c.DialAddressTimeout(memberlist.Address{Addr: addr}, d)
}

// fast is the tempo of tests.
func fast(tune func(*memberlist.Config)) tempo {
	return tempo{rejoin: 300 * time.Millisecond, sync: 50 * time.Millisecond, first: 300 * time.Millisecond, again: 300 * time.Millisecond,
		tune: func(c *memberlist.Config) {
			c.ProbeInterval, c.ProbeTimeout = 300*time.Millisecond, 200*time.Millisecond
			c.GossipInterval = 50 * time.Millisecond
			c.PushPullInterval = time.Second
			if tune != nil {
				tune(c)
			}
		}}
}

// begin starts a member on loopback, on any port.
func begin(t *testing.T, c Config, tune func(*memberlist.Config)) *Membership {
	t.Helper()
	return beginAt(t, fast(tune), c)
}

func beginAt(t *testing.T, at tempo, c Config) *Membership {
	t.Helper()
	if !c.Bind.IsValid() {
		c.Bind = netip.AddrPortFrom(loopback, 0)
	}
	if !c.VTEP.IsValid() {
		c.VTEP = netip.MustParseAddrPort("192.0.2.1:4789")
	}
	m, err := start(c, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		m.wait()
	})
	return m
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// sees counts members that are alive, and their stations in a VNI.
func sees(m *Membership, v vxlan.VNI) (alive, stations int) {
	for _, n := range m.Members() {
		if n.State == Alive {
			alive++
			stations += len(n.VNIs[v])
		}
	}
	return alive, stations
}

func macOf(i int) vxlan.MAC { return vxlan.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)} }

// crowd starts members that join the first one, each with a station in a VNI.
func crowd(t *testing.T, members int, v vxlan.VNI, at tempo) []*Membership {
	t.Helper()
	all := make([]*Membership, members)
	var seed []string
	for i := range all {
		m := beginAt(t, at, Config{Name: fmt.Sprint("node", i), Key: key(1), Join: seed, VTEP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 4789)})
		if all[i] = m; i == 0 {
			seed = []string{m.Addr().String()}
		}
		if err := errors.Join(m.AddVNI(v), m.Announce(v, Endpoint{MAC: macOf(i), IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 1, byte(i)})}})); err != nil {
			t.Fatal(err)
		}
		if i%10 == 9 {
			// Not all in one moment, on two cores.
			eventually(t, "the first knows those that came", func() bool { n, _ := sees(all[0], v); return n == i+1 })
		}
	}
	return all
}

// all see so many members alive, with so many stations.
func all(list []*Membership, v vxlan.VNI, alive, stations int) func() bool {
	return func() bool {
		for _, m := range list {
			if a, n := sees(m, v); a != alive || n != stations {
				return false
			}
		}
		return true
	}
}

// TestHundred: a hundred members on one machine hear of each other and of each
// other's stations, also of what is new later.
func TestHundred(t *testing.T) {
	const members, v = 100, vxlan.VNI(4097)
	started := time.Now()
	at := usual // as fast as for real, but for what needs patience on a loaded machine
	at.tune = func(c *memberlist.Config) {
		c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = 5*time.Second, 4*time.Second, 10
	}
	list := crowd(t, members, v, at)
	eventually(t, "everybody knows all stations", all(list, v, members, members))
	t.Logf("%d members know all of each other's stations %v after the first began", members, time.Since(started).Round(10*time.Millisecond))
	began := time.Now()
	if err := list[7].Announce(v, Endpoint{MAC: macOf(1000)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "everybody hears of a new station", all(list, v, members, members+1))
	t.Logf("all hear of a new one in %v", time.Since(began).Round(time.Millisecond))
}

// TestSplitHeals: a network falls into two halves, which notice, and comes together
// again. What changed on one side meanwhile is known on both afterwards.
func TestSplitHeals(t *testing.T) {
	const members, v = 12, vxlan.VNI(4097)
	cut := &parts{of: make(map[string]int)}
	list := crowd(t, members, v, fast(func(c *memberlist.Config) {
		c.Transport = &cable{c.Transport.(*network), c.Transport.(*network).addr().String(), cut}
	}))
	eventually(t, "everybody knows all stations", all(list, v, members, members))
	for i, m := range list {
		cut.set(m.Addr().String(), i%2)
	}
	eventually(t, "both halves notice the split", all(list, v, members/2, members/2))
	for _, n := range list[0].Members() {
		if want := n.VTEP.Addr().As4()[3]%2 == 1; (n.State == Alive) != want || !want && n.State != Failed {
			t.Errorf("%v is %v at the first", n.VTEP, n.State)
		}
	}
	if err := list[7].Withdraw(v, macOf(7)); err != nil {
		t.Fatal(err)
	}
	if err := list[8].Announce(v, Endpoint{MAC: macOf(1001)}, Endpoint{MAC: macOf(1002)}); err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		cut.set(m.Addr().String(), 0)
	}
	eventually(t, "the split heals", all(list, v, members, members+1))
}
