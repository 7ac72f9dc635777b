package membership

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"github.com/hashicorp/memberlist"
)

// heard gathers what a handler is told.
type heard struct {
	mu      sync.Mutex
	changes []Change
}

func (h *heard) handle(c Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes = append(h.changes, c)
}

// last is what was heard of a VTEP last.
func (h *heard) last(v netip.AddrPort) (Change, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range slices.Backward(h.changes) {
		if c.Is != nil && c.Is.VTEP == v || c.Was != nil && c.Was.VTEP == v {
			return c, true
		}
	}
	return Change{}, false
}

// TestChanges: stations come, change and go, and so does their node.
func TestChanges(t *testing.T) {
	var h heard
	const v = vxlan.VNI(7)
	a := begin(t, Config{Key: key(1), Handler: h.handle}, nil)
	at := netip.MustParseAddrPort("192.0.2.2:4789")
	b := begin(t, Config{Name: "b", Key: key(1), VTEP: at, Join: []string{a.Addr().String()}}, nil)
	ip, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	if err := b.Announce(v, Endpoint{MAC: macOf(1)}); !errors.Is(err, ErrVNI) {
		t.Errorf("a station in a VNI that is not served: %v", err)
	}
	if err := errors.Join(b.AddVNI(v), b.AddVNI(8), b.Announce(v, Endpoint{MAC: macOf(1), IPs: []netip.Addr{ip}}, Endpoint{MAC: macOf(2)})); err != nil {
		t.Fatal(err)
	}
	is := func(so func(m *Member) bool) func() bool {
		return func() bool { c, ok := h.last(at); return ok && c.Is != nil && so(c.Is) }
	}
	eventually(t, "both stations are known", is(func(m *Member) bool {
		return m.Name == "b" && len(m.VNIs[v]) == 2 && slices.Equal(m.VNIs[v][0].IPs, []netip.Addr{ip})
	}))
	if got := a.VNIs(); !slices.Equal(got, []vxlan.VNI{7, 8}) {
		t.Errorf("VNIs in use: %v", got)
	}
	if err := errors.Join(b.Announce(v, Endpoint{MAC: macOf(1), IPs: []netip.Addr{other}}), b.Withdraw(v, macOf(2), macOf(3))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one has another address, one is gone", is(func(m *Member) bool {
		return len(m.VNIs[v]) == 1 && slices.Equal(m.VNIs[v][0].IPs, []netip.Addr{other})
	}))
	if err := b.DelVNI(v); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the VNI is gone", is(func(m *Member) bool { _, ok := m.VNIs[v]; return !ok && len(m.VNIs) == 1 }))
	if err := b.Leave(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the node left", func() bool { c, ok := h.last(at); return ok && c.Is == nil })
	eventually(t, "it is known to have left", func() bool { return a.Counters().Left == 1 })
	if err := b.AddVNI(v); !errors.Is(err, ErrClose) {
		t.Errorf("after it left: %v", err)
	}
}

// TestCrash: a node that stops without a word is gone in a while; one that comes at its
// address takes its place at once, with nothing of what the one before said.
func TestCrash(t *testing.T) {
	var h heard
	const v = vxlan.VNI(7)
	a := begin(t, Config{Key: key(1), Handler: h.handle}, nil)
	vtep := netip.MustParseAddrPort("192.0.2.2:4789")
	c := Config{Key: key(1), VTEP: vtep, Join: []string{a.Addr().String()}}
	b := begin(t, c, nil)
	if err := errors.Join(b.AddVNI(v), b.Announce(v, Endpoint{MAC: macOf(1)})); err != nil {
		t.Fatal(err)
	}
	known := func(stations int) func() bool {
		return func() bool { c, ok := h.last(vtep); return ok && c.Is != nil && len(c.Is.VNIs[v]) == stations }
	}
	eventually(t, "the station is known", known(1))
	c.Bind = b.Addr()
	b.Close()
	b = begin(t, c, nil)
	if err := b.AddVNI(v); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new one is known", func() bool {
		alive, stations := sees(a, v)
		return alive == 2 && stations == 0
	})
	b.Close()
	eventually(t, "the node is gone", func() bool { alive, _ := sees(a, v); return alive == 1 })
	if n := a.Counters(); n.Failed == 0 || n.Left != 0 {
		t.Errorf("counted %+v", n)
	}
}

// TestJoinLater: the first one need not be there yet, and it may be told to join itself.
func TestJoinLater(t *testing.T) {
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: loopback.AsSlice()})
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	join := []string{at.String()}
	early := begin(t, Config{Key: key(1), Join: join}, nil)
	eventually(t, "it says that nobody is there", func() bool {
		j := early.Joins()[0]
		return !j.Joined && strings.Contains(j.Err, "nobody listens")
	})
	first := begin(t, Config{Key: key(1), Bind: at, Join: join}, nil)
	eventually(t, "both are there", func() bool { n, _ := sees(first, 0); return n == 2 && early.Joins()[0].Joined })
	if j := first.Joins()[0]; !j.Joined {
		t.Errorf("itself: %+v", j)
	}
}

// TestWrongKey: who has another key is heard by nobody, and both sides say so.
func TestWrongKey(t *testing.T) {
	a := begin(t, Config{Key: key(1)}, nil)
	b := begin(t, Config{Key: key(2), Join: []string{a.Addr().String()}}, nil)
	c := begin(t, Config{Join: []string{a.Addr().String()}}, nil)
	eventually(t, "it is counted", func() bool { return a.Counters().WrongKey > 1 })
	for _, m := range []*Membership{b, c} {
		eventually(t, "it is said", func() bool { return strings.Contains(m.Joins()[0].Err, "another key") })
		if n, _ := sees(m, 0); n != 1 {
			t.Errorf("%d members", n)
		}
	}
	if n, _ := sees(a, 0); n != 1 {
		t.Errorf("%d members with the right key", n)
	}
}

// TestForeign: packets of others are counted, and do no harm.
func TestForeign(t *testing.T) {
	a := begin(t, Config{Key: key(1)}, nil)
	udp, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(a.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	for _, text := range []string{"x", "hello, is anybody there? some more bytes to be decrypted", "\xf4\x05other....................................................."} {
		if _, err := udp.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are counted", func() bool { return a.Counters().Foreign >= 3 })
}

// TestHostile: a member with the key that says nonsense is counted; what it says is
// not kept.
func TestHostile(t *testing.T) {
	a := begin(t, Config{Key: key(1)}, nil)
	b := begin(t, Config{Key: key(1), Join: []string{a.Addr().String()}}, nil)
	eventually(t, "both are there", func() bool { n, _ := sees(b, 0); return n == 2 })
	a.hear([]byte("nonsense"))
	many := binary.AppendUvarint([]byte{format, msgState}, 1<<40)
	a.hear(many)
	if n := a.Counters().Malformed; n != 2 {
		t.Errorf("%d malformed messages are counted", n)
	}
	// A node that says more than there is room for.
	s := nodeState{id: b.ID(), version: 1 << 40}
	for i := range MaxFacts {
		s.facts = append(s.facts, fact{place: place{vni: vxlan.VNI(i)}, version: 2})
	}
	a.hear((&message{kind: msgState, states: []nodeState{s}}).append(nil))
	a.hear((&message{kind: msgFacts, id: b.ID(), facts: []fact{{place: place{vni: 1, mac: macOf(1)}, version: 1<<40 + 1}}}).append(nil))
	if n := a.Counters().Refused; n != 1 {
		t.Errorf("%d facts are refused", n)
	}
	// Nodes that nobody knows are forgotten when there are too many.
	for i := range 2 * mostLost {
		a.hear((&message{kind: msgBye, id: "x"}).append(nil))
		id := string(binary.BigEndian.AppendUint32(nil, uint32(i)))
		a.hear((&message{kind: msgFacts, id: id, facts: []fact{{place: place{vni: 1}, version: 2}}}).append(nil))
	}
	a.mu.Lock()
	if n := len(a.nodes); n > mostLost+1 {
		t.Errorf("%d nodes are kept", n)
	}
	a.mu.Unlock()
	if err := (delegate{a}).NotifyAlive(&memberlist.Node{Name: "y", Addr: loopback.AsSlice(), Port: 1, Meta: []byte{1, 2}}); err == nil {
		t.Error("a member without a VTEP is accepted")
	}
}

func TestLimits(t *testing.T) {
	m := begin(t, Config{Key: key(1)}, nil)
	if err := m.AddVNI(1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		e    Endpoint
		want error
	}{
		{Endpoint{MAC: macOf(1), IPs: make([]netip.Addr, MaxIPs+1)}, ErrIPs},
		{Endpoint{}, ErrMAC},
		{Endpoint{MAC: vxlan.MAC{1}}, ErrMAC},
	} {
		if err := m.Announce(1, c.e); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.e, err)
		}
	}
	var all []Endpoint
	for i := range MaxFacts {
		all = append(all, Endpoint{MAC: macOf(i + 1)})
	}
	if err := m.Announce(1, all...); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	if err := m.Announce(1, all[1:]...); err != nil {
		t.Errorf("as many as there may be: %v", err)
	}
}

func TestConfig(t *testing.T) {
	good := Config{Bind: netip.AddrPortFrom(loopback, 0), VTEP: netip.MustParseAddrPort("192.0.2.1:4789")}
	for name, change := range map[string]func(*Config){
		"key":  func(c *Config) { c.Key = make([]byte, 16) },
		"name": func(c *Config) { c.Name = strings.Repeat("x", MaxName+1) },
		"bind": func(c *Config) { c.Bind = netip.MustParseAddrPort("0.0.0.0:7947") },
		"vtep": func(c *Config) { c.VTEP = netip.AddrPort{} },
		"join": func(c *Config) { c.Join = []string{"192.0.2.1:x"} },
	} {
		c := good
		change(&c)
		if m, err := Start(c); err == nil {
			m.Close()
			t.Errorf("%s: no error", name)
		}
	}
	for text, want := range map[string]string{
		"192.0.2.1": "192.0.2.1:7947", "fd00::1": "[fd00::1]:7947", "[fd00::1]:5": "[fd00::1]:5", "[fd00::1]": "[fd00::1]:7947", "a.example": "a.example:7947", "a:1": "a:1",
		"": "", "1.2.3": "", "a:0": "", "0.0.0.0": "", "-a": "", "a b": "",
	} {
		host, port, err := SplitJoin(text)
		got := ""
		if err == nil {
			got = net.JoinHostPort(host, itoa(port))
		}
		if got != want {
			t.Errorf("%q: %q, not %q (%v)", text, got, want, err)
		}
	}
}

func itoa(p uint16) string { return netip.AddrPortFrom(loopback, p).String()[len("127.0.0.1:"):] }
