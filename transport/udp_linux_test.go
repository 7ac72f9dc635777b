package transport

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var (
	loopback4 = netip.MustParseAddr("127.0.0.1")
	loopback6 = netip.MustParseAddr("::1")
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// listen opens a Conn on loopback, on a free port unless cfg has one.
func listen(t testing.TB, cfg UDPConfig) *udpConn {
	t.Helper()
	if cfg.Local == nil {
		cfg.Local = []netip.Addr{loopback4}
	}
	if cfg.Port == 0 {
		cfg.Port = freePort(t, cfg.Local[0])
	}
	c, err := ListenUDP(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c.(*udpConn)
}

// freePort is a port that nobody has, below the range of source ports.
func freePort(t testing.TB, at netip.Addr) uint16 {
	t.Helper()
	for port := uint16(20000); port < 30000; port++ {
		s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, port)))
		if err == nil {
			s.Close()
			return port
		}
	}
	t.Fatal("no UDP port is free")
	return 0
}

// to is where the Conn receives.
func (c *udpConn) to(family int) netip.AddrPort {
	for _, a := range c.locals {
		if (a.Addr().Is6()) == (family == 6) {
			return a
		}
	}
	return netip.AddrPort{}
}

// arrival is one datagram that arrived, with what its train said of it.
type arrival struct {
	b    []byte
	from netip.AddrPort
	tos  uint8
}

// collect receives want datagrams, or ends the test.
func collect(t testing.TB, r Receiver, c Conn, want int) []arrival {
	t.Helper()
	late := time.AfterFunc(patience, func() { c.Close() })
	defer late.Stop()
	var got []arrival
	trains := make([]Train, 128)
	for len(got) < want {
		n, err := r.Recv(trains)
		if err != nil {
			t.Fatalf("%d of %d datagrams arrived in %v: %v", len(got), want, patience, err)
		}
		for i := range n {
			tr := &trains[i]
			for k := range tr.Len() {
				got = append(got, arrival{bytes.Clone(tr.Datagram(k)), tr.Addr, tr.TOS})
			}
		}
	}
	return got
}

// train is count datagrams of stride bytes but the last, no two alike.
func train(to netip.AddrPort, count, stride, last int, tag byte) Train {
	buf := make([]byte, (count-1)*stride+last)
	for i := range buf {
		buf[i] = tag + byte(i/max(stride, 1)) + byte(i*7)
	}
	return Train{Buf: buf, Stride: stride, Addr: to, Hash: uint32(tag) << 24}
}

// same compares what arrived with the datagrams of trains, in their order.
func same(got []arrival, trains ...Train) error {
	i := 0
	for n := range trains {
		for k := range trains[n].Len() {
			want := trains[n].Datagram(k)
			if i >= len(got) {
				return fmt.Errorf("%d datagrams, want more", len(got))
			}
			if !bytes.Equal(got[i].b, want) {
				return fmt.Errorf("train %d (%d x %d): datagram %d has %d bytes and other content or place, want %d bytes",
					n, trains[n].Len(), trains[n].Stride, k, len(got[i].b), len(want))
			}
			i++
		}
	}
	if i != len(got) {
		return fmt.Errorf("%d datagrams, want %d", len(got), i)
	}
	return nil
}

func TestTrainsArriveWholeAndInOrder(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		strides := []int{1, 2, 3, 7, 8, 9, 22, 63, 64, 100, 511, 512, 999, 1000, 1472}
		counts := []int{1, 2, 3, 63, 64, 65, 127, 128}
		for _, local := range []netip.Addr{loopback4, loopback6} {
			for _, noGSO := range []bool{false, true} {
				for _, noGRO := range []bool{false, true} {
					t.Run(fmt.Sprintf("%v,NoGSO=%v,NoGRO=%v", local, noGSO, noGRO), func(t *testing.T) {
						c := k.listen(t, UDPConfig{Local: []netip.Addr{local}, NoGSO: noGSO, NoGRO: noGRO})
						s, r := c.NewSender(), c.Receivers()[0]
						if noGSO && c.Limits().Segments != 1 {
							t.Errorf("limits %+v without GSO, want 1 segment", c.Limits())
						}
						tag := byte(0)
						for _, stride := range strides {
							for _, count := range counts {
								for _, last := range []int{1, stride/2 + 1, stride} {
									if count*stride > MaxBytes || last > stride {
										continue
									}
									tag++
									tr := train(c.Locals()[0], count, stride, last, tag)
									if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
										t.Fatalf("%d x %d, last %d: sent %d, %v", count, stride, last, n, err)
									}
									if err := same(collect(t, r, c, tr.Len()), tr); err != nil {
										t.Fatal(err)
									}
								}
							}
						}
					})
				}
			}
		}
	})
}

// Several trains with one Send, of all shapes and flows: all arrive, and those
// of one flow in their order.
func TestManyTrainsWithOneSend(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{})
		s, r := c.NewSender(), c.Receivers()[0]
		for _, flows := range []int{1, 3, 1000} {
			var trains []Train
			total := 0
			for i := range 150 {
				tr := train(c.Locals()[0], 1+i*7%20, 10+i%90, 10, byte(i))
				tr.Hash = uint32(i%flows) * 0x9E3779B1
				tr.Buf[0], tr.Buf[1] = byte(i), byte(i>>8)
				trains = append(trains, tr)
				total += tr.Len()
			}
			if n, err := s.Send(trains); n != len(trains) || err != nil {
				t.Fatalf("%d flows: %d of %d trains sent, %v", flows, n, len(trains), err)
			}
			got := collect(t, r, c, total)
			byPort := make(map[uint16][]arrival)
			for _, a := range got {
				byPort[a.from.Port()] = append(byPort[a.from.Port()], a)
			}
			// Each flow's trains, in order, are what one of the ports sent.
			want := make(map[int][]Train)
			for i := range trains {
				slot := int(uint64(trains[i].Hash) * uint64(c.Limits().Flows) >> 32)
				want[slot] = append(want[slot], trains[i])
			}
			if len(byPort) != len(want) {
				t.Errorf("%d flows: %d source ports, want %d", flows, len(byPort), len(want))
			}
			for slot, trains := range want {
				port := portOf(c, slot)
				if err := same(byPort[port], trains...); err != nil {
					t.Errorf("%d flows, port %d: %v", flows, port, err)
				}
			}
		}
		if n, err := s.Send(nil); n != 0 || err != nil {
			t.Errorf("no trains: %d, %v", n, err)
		}
	})
}

// A train that is longer than the kernel's limit leaves in pieces.
func TestMoreSegmentsThanTheKernelTakes(t *testing.T) {
	c := listen(t, UDPConfig{})
	s, r := c.NewSender(), c.Receivers()[0]
	for _, limit := range []int32{2, 5, 64} {
		c.segments.Store(limit)
		trains := []Train{
			train(c.locals[0], 3, 50, 50, 1), train(c.locals[0], 128, 50, 20, 2), train(c.locals[0], 2, 50, 50, 3),
			train(c.locals[0], 65, 50, 50, 4), train(c.locals[0], 1, 50, 50, 5),
		}
		total := 0
		for i := range trains {
			trains[i].Hash = 0
			total += trains[i].Len()
		}
		if n, err := s.Send(trains); n != len(trains) || err != nil {
			t.Fatalf("limit %d: sent %d, %v", limit, n, err)
		}
		if err := same(collect(t, r, c, total), trains...); err != nil {
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

func TestTOSBothWays(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, local := range []netip.Addr{loopback4, loopback6} {
			for _, noGSO := range []bool{false, true} {
				c := k.listen(t, UDPConfig{Local: []netip.Addr{local}, NoGSO: noGSO})
				s, r := c.NewSender(), c.Receivers()[0]
				// Zero last: what was set for one train must not stay.
				for _, tos := range []uint8{0, 1, 2, 3, 0xB8, 0xBB, 0xFF, 0} {
					for _, count := range []int{1, 4} {
						tr := train(c.Locals()[0], count, 100, 100, tos)
						tr.TOS = tos
						if _, err := s.Send([]Train{tr}); err != nil {
							t.Fatal(err)
						}
						for _, a := range collect(t, r, c, count) {
							if a.tos != tos {
								t.Errorf("%v, train of %d: TOS %#x arrived, %#x was sent", local, count, a.tos, tos)
							}
						}
					}
				}
				// Different ones with one Send.
				var trains []Train
				for i := range 8 {
					tr := train(c.Locals()[0], 2, 100, 100, 0)
					tr.TOS = uint8(i % 4)
					trains = append(trains, tr)
				}
				if _, err := s.Send(trains); err != nil {
					t.Fatal(err)
				}
				for i, a := range collect(t, r, c, 16) {
					if a.tos != uint8(i/2%4) {
						t.Errorf("%v: datagram %d of the mixed send has TOS %d, want %d", local, i, a.tos, i/2%4)
					}
				}
			}
		}
	})
}

// Trains to and from both families on one Conn.
func TestBothFamilies(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{Local: []netip.Addr{loopback4, loopback6}})
		if len(c.Receivers()) != 2 {
			t.Fatalf("%d receivers, want one for each family", len(c.Receivers()))
		}
		s := c.NewSender()
		four, six := train(at(c, 4), 3, 50, 50, 1), train(at(c, 6), 3, 50, 50, 2)
		if n, err := s.Send([]Train{four, six, four, six}); n != 4 || err != nil {
			t.Fatalf("sent %d, %v", n, err)
		}
		for i, r := range c.Receivers() {
			want := []Train{four, six}[i]
			got := collect(t, r, c, 6)
			if err := same(got, want, want); err != nil {
				t.Errorf("receiver %d: %v", i, err)
			}
			if from := got[0].from.Addr(); from != c.Locals()[i].Addr() {
				t.Errorf("receiver %d: from %v, want our own %v", i, from, c.Locals()[i].Addr())
			}
		}
		// An IPv4 address in IPv6 clothes is IPv4.
		mapped := train(netip.AddrPortFrom(netip.AddrFrom16(loopback4.As16()), at(c, 4).Port()), 2, 50, 50, 3)
		mapped.TOS = 2
		if n, err := s.Send([]Train{mapped}); n != 1 || err != nil {
			t.Fatalf("to %v: %d, %v", mapped.Addr, n, err)
		}
		if got := collect(t, c.Receivers()[0], c, 2); same(got, mapped) != nil || got[0].tos != 2 {
			t.Errorf("to %v: %+v", mapped.Addr, got)
		}
	})
}

func TestSourcePorts(t *testing.T) {
	const lo, hi = 50000, 51000
	c := listen(t, UDPConfig{SourcePortLo: lo, SourcePortHi: hi})
	s, r := c.NewSender(), c.Receivers()[0]
	flows := c.Limits().Flows
	if flows != sourceSockets {
		t.Errorf("%d source ports of a free range of %d, want %d", flows, hi-lo+1, sourceSockets)
	}
	ports := make(map[uint64]uint16) // by what Limits promises
	seen := make(map[uint16]bool)
	for i := range 400 {
		hash := uint32(i) * 0x9E3779B1
		tr := train(c.locals[0], 1, 10, 10, 0)
		tr.Hash = hash
		if _, err := s.Send([]Train{tr}); err != nil {
			t.Fatal(err)
		}
		port := collect(t, r, c, 1)[0].from.Port()
		if port < lo || port > hi {
			t.Errorf("hash %x leaves from port %d, outside of %d-%d", hash, port, lo, hi)
		}
		slot := uint64(hash) * uint64(flows) >> 32
		if was, ok := ports[slot]; ok && was != port {
			t.Errorf("hash %x leaves from port %d, another of the same slot %d from %d", hash, port, slot, was)
		}
		ports[slot] = port
		seen[port] = true
	}
	if len(seen) != flows {
		t.Errorf("400 flows leave from %d ports, want all %d", len(seen), flows)
	}
	// Spread over the whole range: one in each sixteenth.
	const size = hi - lo + 1
	for i := range sourceSockets {
		first, end := lo+size*i/sourceSockets, lo+size*(i+1)/sourceSockets
		n := 0
		for port := range seen {
			if int(port) >= first && int(port) < end {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d source ports in %d-%d, want 1", n, first, end-1)
		}
	}
}

// The promise of Limits.Flows holds for both families, also where one of them
// found fewer ports free.
func TestFlowsWithPortsTaken(t *testing.T) {
	const lo, hi = 47000, 47015
	var taken []net.Conn
	for _, port := range []uint16{47001, 47002, 47007} {
		s, err := net.ListenUDP("udp6", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback6, port)))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		taken = append(taken, s)
	}
	c := listen(t, UDPConfig{Local: []netip.Addr{loopback4, loopback6}, SourcePortLo: lo, SourcePortHi: hi})
	s := c.NewSender()
	flows := uint64(c.Limits().Flows)
	for f, family := range []int{4, 6} {
		ports := make(map[uint64]uint16)
		seen := make(map[uint16]bool)
		for i := range 300 {
			tr := train(c.to(family), 1, 10, 10, 0)
			tr.Hash = uint32(i) * 0x9E3779B1
			if _, err := s.Send([]Train{tr}); err != nil {
				t.Fatal(err)
			}
			port := collect(t, c.Receivers()[f], c, 1)[0].from.Port()
			slot := uint64(tr.Hash) * flows >> 32
			if was, ok := ports[slot]; ok && was != port {
				t.Errorf("IPv%d: slot %d of %d leaves from ports %d and %d", family, slot, flows, was, port)
			}
			ports[slot] = port
			seen[port] = true
		}
		want := sourceSockets
		if family == 6 {
			want -= len(taken)
		}
		if len(seen) != want {
			t.Errorf("IPv%d: %d source ports, want %d", family, len(seen), want)
		}
	}
}

func TestSourcePortRanges(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		own := freePort(t, loopback4)
		for _, tc := range []struct {
			name   string
			lo, hi uint16
			want   int // ports
			has    uint16
		}{
			{"one port", 48000, 48000, 1, 48000},
			{"three ports", 48001, 48003, 3, 48002},
			{"our own port alone", own, own, 1, own},
			{"our own port among others", own - 1, own + 1, 3, own},
		} {
			t.Run(tc.name, func(t *testing.T) {
				c := k.listen(t, UDPConfig{Port: own, SourcePortLo: tc.lo, SourcePortHi: tc.hi})
				s, r := c.NewSender(), c.Receivers()[0]
				if c.Limits().Flows != tc.want {
					t.Errorf("limits %+v, want %d flows", c.Limits(), tc.want)
				}
				seen := make(map[uint16]bool)
				for i := range 50 {
					tr := train(c.Locals()[0], 2, 10, 10, byte(i))
					tr.Hash = uint32(i) * 0x9E3779B1
					if _, err := s.Send([]Train{tr}); err != nil {
						t.Fatal(err)
					}
					got := collect(t, r, c, 2)
					if err := same(got, tr); err != nil {
						t.Error(err)
					}
					seen[got[0].from.Port()] = true
				}
				if len(seen) != tc.want || !seen[tc.has] {
					t.Errorf("source ports %v, want %d, port %d among them", seen, tc.want, tc.has)
				}
			})
		}
	})
}

func TestListenUDPRefuses(t *testing.T) {
	port := freePort(t, loopback4)
	held, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, port)))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	free := freePort(t, loopback4)
	four := []netip.Addr{loopback4}
	for _, tc := range []struct {
		name string
		cfg  UDPConfig
		want error
	}{
		{"port in use", UDPConfig{Local: four, Port: port}, ErrPortInUse},
		{"port in use, several receivers", UDPConfig{Local: four, Port: port, Receivers: 2}, ErrPortInUse},
		{"address not here", UDPConfig{Local: []netip.Addr{netip.MustParseAddr("192.0.2.77")}, Port: free}, ErrNoAddress},
		{"IPv6 address not here", UDPConfig{Local: []netip.Addr{netip.MustParseAddr("2001:db8::77")}, Port: free}, ErrNoAddress},
		{"second address not here", UDPConfig{Local: []netip.Addr{loopback4, netip.MustParseAddr("2001:db8::77")}, Port: free}, ErrNoAddress},
		{"no source port free", UDPConfig{Local: four, Port: free, SourcePortLo: port, SourcePortHi: port}, ErrNoSourcePort},
		{"no address", UDPConfig{Port: free}, nil},
		{"no valid address", UDPConfig{Local: []netip.Addr{{}}, Port: free}, nil},
		{"two of one family", UDPConfig{Local: []netip.Addr{loopback4, netip.MustParseAddr("127.0.0.2")}, Port: free}, nil},
		{"range upside down", UDPConfig{Local: four, Port: free, SourcePortLo: 2000, SourcePortHi: 1000}, nil},
		{"TTL of 256", UDPConfig{Local: four, Port: free, TTL: 256}, unix.EINVAL},
		{"no such device", UDPConfig{Local: four, Port: free, Device: "no-such-dev"}, unix.ENODEV},
		{"no such namespace", UDPConfig{Local: four, Port: free, Netns: "no-such-namespace"}, nil},
	} {
		c, err := ListenUDP(tc.cfg)
		if err == nil {
			c.Close()
		}
		if err == nil || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	// Nothing of the failures stayed open.
	c := listen(t, UDPConfig{Port: free})
	_ = c
}

// SO_REUSEPORT is for our own receivers: a second VTEP on the port would take
// a part of the first one's packets.
func TestPortIsNotShared(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		for _, first := range []int{1, 2} {
			c := k.listen(t, UDPConfig{Receivers: first})
			for _, second := range []int{1, 2} {
				d, err := k.open(UDPConfig{Local: []netip.Addr{loopback4}, Port: c.Locals()[0].Port(), Receivers: second})
				if err == nil {
					d.Close()
				}
				if !errors.Is(err, ErrPortInUse) {
					t.Errorf("%d receivers, then %d: %v, want ErrPortInUse", first, second, err)
				}
			}
		}
	})
}

// Several receivers get everything between them, each flow at one of them.
func TestReceiversShareTheDatagrams(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{Receivers: 2})
		receivers := c.Receivers()
		if len(receivers) != 2 {
			t.Fatalf("%d receivers, want 2", len(receivers))
		}
		const count = 400
		s := c.NewSender()
		for i := range count {
			tr := train(c.Locals()[0], 1, 8, 8, 0)
			tr.Buf[0], tr.Buf[1] = byte(i), byte(i>>8)
			tr.Hash = uint32(i) * 0x9E3779B1
			if _, err := s.Send([]Train{tr}); err != nil {
				t.Fatal(err)
			}
		}
		type batch struct {
			receiver int
			got      []arrival
		}
		batches := make(chan batch)
		for i, r := range receivers {
			go func() {
				trains := make([]Train, 64)
				for {
					n, err := r.Recv(trains)
					b := batch{receiver: i}
					for k := range n {
						for d := range trains[k].Len() {
							b.got = append(b.got, arrival{b: bytes.Clone(trains[k].Datagram(d)), from: trains[k].Addr})
						}
					}
					batches <- b
					if err != nil {
						return
					}
				}
			}()
		}
		late := time.AfterFunc(patience, func() { c.Close() })
		defer late.Stop()
		seen := make(map[int]bool)
		at := make(map[uint16]int)
		parts := [2]int{}
		for len(seen) < count {
			b := <-batches
			if b.got == nil {
				t.Fatalf("%d of %d datagrams arrived in %v", len(seen), count, patience)
			}
			for _, a := range b.got {
				n := int(a.b[0]) | int(a.b[1])<<8
				if seen[n] {
					t.Errorf("datagram %d arrived twice", n)
				}
				seen[n] = true
				if was, ok := at[a.from.Port()]; ok && was != b.receiver {
					t.Errorf("port %d: at both receivers", a.from.Port())
				}
				at[a.from.Port()] = b.receiver
				parts[b.receiver]++
			}
		}
		c.Close()
		for range receivers {
			<-batches // each says net.ErrClosed once
		}
		if parts[0] == 0 || parts[1] == 0 {
			t.Errorf("the receivers got %v datagrams: one has nothing to do", parts)
		}
	})
}

// Whoever answers to a source port instead of ours does not fill its buffer.
func TestStrayDatagramsDoNotPileUp(t *testing.T) {
	for _, local := range []netip.Addr{loopback4, loopback6} {
		c := listen(t, UDPConfig{Local: []netip.Addr{local}})
		s, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, sender := range c.senders[family(local)] {
			for range 100 {
				if _, err := s.WriteToUDPAddrPort(make([]byte, 1000), netip.AddrPortFrom(local, sender.port)); err != nil {
					t.Fatal(err)
				}
			}
			if n := queued(t, sender); n != 0 {
				t.Errorf("%d bytes wait at source port %d", n, sender.port)
			}
		}
		// The count does count: the receiving socket keeps what comes.
		if _, err := s.WriteToUDPAddrPort(make([]byte, 1000), c.locals[0]); err != nil {
			t.Fatal(err)
		}
		if n := queued(t, c.receivers[0]); n == 0 {
			t.Error("a datagram to the receiver's port does not show in its queue")
		}
	}
}

// queued is what SIOCINQ says of a socket: the length of its first datagram.
func queued(t testing.TB, s *socket) (n int) {
	t.Helper()
	var failed error
	err := s.fd.Do(func(fd uintptr) { n, failed = unix.IoctlGetInt(int(fd), unix.SIOCINQ) })
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return n
}

func TestEmptyDatagramsAreIgnored(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{})
		s, err := net.ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, b := range []string{"", "one", "", "", "two"} {
			if _, err := s.WriteToUDPAddrPort([]byte(b), c.Locals()[0]); err != nil {
				t.Fatal(err)
			}
		}
		got := collect(t, c.Receivers()[0], c, 2)
		if len(got) != 2 || string(got[0].b) != "one" || string(got[1].b) != "two" {
			t.Errorf("received %+v", got)
		}
		if n := c.(Counting).Counters(); n != (Counters{RxBadPacket: 3}) {
			t.Errorf("counted %+v, want 3 without content", n)
		}
	})
}

func TestRecvOfNoTrains(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{})
		result := make(chan error)
		go func() {
			_, err := c.Receivers()[0].Recv(nil)
			result <- err
		}()
		select {
		case err := <-result:
			if err != nil {
				t.Errorf("error %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Recv without room for a train does not return")
		}
	})
}

func TestNoFamily(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{})
		good := train(c.Locals()[0], 2, 10, 10, 0)
		six := train(netip.AddrPortFrom(loopback6, 4789), 2, 10, 10, 0)
		if n, err := c.NewSender().Send([]Train{good, six, good}); n != 1 || !errors.Is(err, ErrNoFamily) {
			t.Errorf("sent %d, %v; want 1, ErrNoFamily", n, err)
		}
		collect(t, c.Receivers()[0], c, 2)
	})
}

func TestCloseInterruptsRecv(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{Local: []netip.Addr{loopback4, loopback6}, Receivers: 2})
		receivers := c.Receivers()
		result := make(chan error, len(receivers))
		for _, r := range receivers {
			go func() {
				_, err := r.Recv(make([]Train, 4))
				result <- err
			}()
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		for range receivers {
			select {
			case err := <-result:
				if err != net.ErrClosed {
					t.Errorf("Recv: %v, want net.ErrClosed", err)
				}
			case <-time.After(patience):
				t.Fatal("Recv goes on waiting after Close")
			}
		}
		if _, err := receivers[0].Recv(make([]Train, 4)); err != net.ErrClosed {
			t.Errorf("Recv after Close: %v, want net.ErrClosed", err)
		}
		if n, err := c.NewSender().Send([]Train{train(c.Locals()[0], 3, 10, 10, 0)}); n != 0 || err != net.ErrClosed {
			t.Errorf("Send after Close: %d, %v; want net.ErrClosed", n, err)
		}
	})
}

// refuse makes a sender's system calls fail as a kernel would that does not
// take some trains: those before are sent, the first refused one ends it.
func refuse(s *udpSender, errno unix.Errno, refused func(segments int, segmented bool) bool) {
	s.call = func(fd uintptr) bool {
		last := s.last
		for i := s.first; i < last; i++ {
			segmented := hasSegment(&s.msgs[i])
			size := int(s.iov[i].Len)
			stride := size
			if segmented {
				stride = segmentOf(&s.msgs[i])
			}
			if refused((size+stride-1)/stride, segmented) {
				s.last = i
				done := s.sendmmsg(fd)
				s.last = last
				if done && s.errno == 0 {
					s.errno = errno
				}
				return done
			}
		}
		return s.sendmmsg(fd)
	}
}

func hasSegment(m *mmsghdr) bool { return segmentOf(m) > 0 }

// segmentOf reads the UDP_SEGMENT of a message; it is written first.
func segmentOf(m *mmsghdr) int {
	if m.hdr.Control == nil {
		return 0
	}
	b := unsafe.Slice(m.hdr.Control, int(m.hdr.Controllen))
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		panic(err)
	}
	for _, c := range messages {
		if c.Header.Level == unix.SOL_UDP && c.Header.Type == unix.UDP_SEGMENT {
			return int(c.Data[0]) | int(c.Data[1])<<8
		}
	}
	return 0
}

// Trains around those that the kernel refuses are sent once each, in order.
func TestFallbacks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		errno   unix.Errno
		refused func(segments int, segmented bool) bool
		limit   int // Limits.Segments afterwards
	}{
		{"no checksum offload on the way", unix.EIO, func(_ int, segmented bool) bool { return segmented }, 1},
		{"kernel before 6.9", unix.EINVAL, func(n int, _ bool) bool { return n > 64 }, 64},
		{"trains are refused for no reason", unix.EINVAL, func(_ int, segmented bool) bool { return segmented }, 128},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := listen(t, UDPConfig{})
			if c.Limits().Segments != MaxSegments {
				t.Skipf("this kernel takes %d segments", c.Limits().Segments)
			}
			s, r := c.NewSender().(*udpSender), c.Receivers()[0]
			refuse(s, tc.errno, tc.refused)
			to := c.locals[0]
			trains := []Train{
				train(to, 1, 80, 80, 1), train(to, 3, 80, 80, 2), train(to, 128, 80, 10, 3), train(to, 1, 80, 80, 4),
				train(to, 65, 80, 80, 5), train(to, 64, 80, 80, 6), train(to, 1, 80, 80, 7),
			}
			total := 0
			for i := range trains {
				trains[i].Hash = 0
				total += trains[i].Len()
			}
			for range 2 {
				if n, err := s.Send(trains); n != len(trains) || err != nil {
					t.Fatalf("sent %d, %v", n, err)
				}
				if err := same(collect(t, r, c, total), trains...); err != nil {
					t.Error(err)
				}
			}
			if got := c.Limits().Segments; got != tc.limit {
				t.Errorf("limit %d afterwards, want %d", got, tc.limit)
			}
		})
	}
}

// An error that has nothing to do with segments is passed on and changes no
// limit: the address may come back.
func TestErrorsThatAreNoFallback(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.ENETUNREACH, unix.EPERM, unix.ENOBUFS, unix.EMSGSIZE} {
		c := listen(t, UDPConfig{})
		s := c.NewSender().(*udpSender)
		limit := c.Limits().Segments
		refuse(s, errno, func(int, bool) bool { return true })
		for _, count := range []int{1, 3, 100} {
			if n, err := s.Send([]Train{train(c.locals[0], count, 50, 50, 0)}); n != 0 || !errors.Is(err, errno) {
				t.Errorf("%v, train of %d: sent %d, %v", errno, count, n, err)
			}
		}
		if got := c.Limits().Segments; got != limit {
			t.Errorf("%v: limit is %d afterwards, was %d", errno, got, limit)
		}
	}
}

// The kernel itself refuses UDP_SEGMENT on a socket without checksums.
func TestKernelRefusesSegments(t *testing.T) {
	c := listen(t, UDPConfig{})
	for _, s := range c.senders[0] {
		var failed error
		if err := s.fd.Do(func(fd uintptr) {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
		}); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
	}
	s, r := c.NewSender(), c.Receivers()[0]
	tr := train(c.locals[0], 100, 60, 60, 1)
	if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
		t.Fatalf("sent %d, %v", n, err)
	}
	if err := same(collect(t, r, c, 100), tr); err != nil {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	n := probeGSO()
	if n != oldMaxSegments && n != MaxSegments {
		t.Fatalf("the kernel takes %d segments: want 64 or 128", n)
	}
	c := listen(t, UDPConfig{})
	if got := c.Limits().Segments; got != int(n) {
		t.Errorf("limit %d, want %d", got, n)
	}
	if !slices.Equal(c.Locals(), c.locals) {
		t.Errorf("locals %v", c.Locals())
	}
}

// TryRecv returns what is there, or nothing, into memory that receivers share.
func TestTryRecv(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		c := k.listen(t, UDPConfig{Receivers: 2})
		s, slab := c.NewSender(), NewSlab()
		trains := make([]Train, 8)
		receivers := c.Receivers()
		for _, r := range receivers {
			if n, err := r.(Pollable).TryRecv(trains, slab); n != 0 || err != nil {
				t.Fatalf("nothing was sent: %d, %v", n, err)
			}
		}
		for i := range 5 {
			tr := train(c.Locals()[0], 10, 100, 100, byte(i))
			if _, err := s.TrySend([]Train{tr}); err != nil {
				t.Fatal(err)
			}
			var poll []unix.PollFd
			for _, r := range receivers {
				poll = append(poll, unix.PollFd{Fd: int32(r.(Pollable).Descriptor()), Events: unix.POLLIN})
			}
			if n, err := unix.Poll(poll, int(patience.Milliseconds())); n < 1 || err != nil {
				t.Fatalf("poll: %d, %v", n, err)
			}
			var got []Train
			for k, r := range receivers {
				if poll[k].Revents == 0 {
					continue
				}
				for {
					n, err := r.(Pollable).TryRecv(trains, slab)
					if err != nil {
						t.Fatal(err)
					}
					if n == 0 {
						break
					}
					for _, tr := range trains[:n] {
						tr.Buf = slices.Clone(tr.Buf)
						got = append(got, tr)
					}
				}
			}
			var all []byte
			for _, tr := range got {
				all = append(all, tr.Buf...)
			}
			if !slices.Equal(all, tr.Buf) || k.name == "udp" && (len(got) != 1 || got[0].Stride != tr.Stride) {
				t.Errorf("round %d: %d trains", i, len(got))
			}
		}
		c.Close()
		if _, err := receivers[0].(Pollable).TryRecv(trains, slab); err != net.ErrClosed {
			t.Errorf("TryRecv after Close: %v, want net.ErrClosed", err)
		}
		if _, err := s.TrySend([]Train{train(c.Locals()[0], 1, 100, 100, 1)}); err != net.ErrClosed {
			t.Errorf("TrySend after Close: %v, want net.ErrClosed", err)
		}
	})
}

// TrySend stops where a full socket buffer would make Send wait, and goes on
// there: nothing is sent twice, whichever way trains leave.
func TestTrySendGoesOn(t *testing.T) {
	for name, prepare := range map[string]func(*udpConn){
		"trains": func(*udpConn) {},
		"pieces": func(c *udpConn) { c.segments.Store(4) },
		"singly": func(c *udpConn) { c.segments.Store(1) },
	} {
		t.Run(name, func(t *testing.T) {
			c := listen(t, UDPConfig{})
			prepare(c)
			s := newUDPSender(c)
			// The kernel is stood in for: every other call has no room, and
			// the rest take one message.
			var left [][]byte
			room := true
			s.try = func(uintptr) {
				if room = !room; !room {
					m := &s.msgs[s.first]
					left = append(left, slices.Clone(unsafe.Slice(m.hdr.Iov.Base, m.hdr.Iov.Len)))
					s.first++
				}
				s.full = s.first < s.last
			}
			trains := []Train{train(c.locals[0], 10, 100, 70, 1), train(c.locals[0], 1, 50, 50, 2), train(c.locals[0], 3, 80, 80, 3)}
			var want []byte
			for _, tr := range trains {
				want = append(want, tr.Buf...)
			}
			blocked := 0
			for rest := trains; len(rest) > 0; {
				n, err := s.TrySend(rest)
				rest = rest[n:]
				switch err {
				case nil:
				case ErrWouldBlock:
					blocked++
				default:
					t.Fatal(err)
				}
			}
			if got := slices.Concat(left...); !slices.Equal(got, want) {
				t.Errorf("%d bytes left in %d messages, want %d", len(got), len(left), len(want))
			}
			if blocked == 0 {
				t.Error("never blocked: not what was to be tested")
			}
		})
	}
}
