package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
)

// outerSeen is what the wire shows of the outer headers of one packet.
type outerSeen struct {
	tos, ttl uint8
	df       bool
	label    uint32
	port     uint16
	zero     bool // no UDP checksum
	length   int  // of the UDP payload
}

// outers are the headers of the packets on the wire since the last call.
func (h *hosts) outers(t *testing.T) []outerSeen {
	t.Helper()
	var all []outerSeen
	for _, p := range h.seen(t) {
		first := gopacket.LayerType(layers.LayerTypeIPv4)
		if p[0]>>4 == 6 {
			first = layers.LayerTypeIPv6
		}
		decoded := gopacket.NewPacket(p, first, gopacket.NoCopy)
		udp, ok := decoded.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok {
			t.Fatalf("no UDP directly behind IP: %x", p)
		}
		o := outerSeen{port: uint16(udp.SrcPort), zero: udp.Checksum == 0, length: len(udp.Payload)}
		switch ip := decoded.NetworkLayer().(type) {
		case *layers.IPv4:
			o.tos, o.ttl, o.df = ip.TOS, ip.TTL, ip.Flags&layers.IPv4DontFragment != 0
		case *layers.IPv6:
			o.tos, o.ttl, o.label = ip.TrafficClass, ip.HopLimit, ip.FlowLabel
		}
		all = append(all, o)
	}
	return all
}

// Each train leaves with the outer fields that it asks for, alone and beside
// others in one Send, and nothing of one stays for the next.
func TestOuterFieldsByTrain(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		for _, v6 := range []bool{false, true} {
			for _, noGSO := range []bool{false, true} {
				t.Run(fmt.Sprintf("v6=%v,NoGSO=%v", v6, noGSO), func(t *testing.T) {
					local, remote := h.a4, h.b4
					if v6 {
						local, remote = h.a6, h.b6
					}
					c := k.listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.a.Path(), NoGSO: noGSO, DontFragmentByTrain: true})
					d := k.listen(t, UDPConfig{Local: []netip.Addr{remote}, Port: wirePort, Netns: h.b.Path()})
					s, r := c.NewSender(), d.Receivers()[0]
					var trains []Train
					var want []outerSeen
					for i, f := range []Train{
						{}, {TTL: 1}, {TTL: 255}, {TTL: 64}, {}, {TOS: 0xB8, TTL: 9}, {DontFragment: true},
						{DontFragment: true, TTL: 3, TOS: 1}, {FlowLabel: 0xFFFFF}, {FlowLabel: 1, TOS: 3}, {},
					} {
						const count = 3
						tr := train(d.Locals()[0], count, 100, 50, byte(i))
						tr.Hash = 0 // one flow, one port
						tr.TOS, tr.TTL, tr.DontFragment, tr.FlowLabel = f.TOS, f.TTL, f.DontFragment, f.FlowLabel
						trains = append(trains, tr)
						o := outerSeen{tos: f.TOS, ttl: f.TTL, df: f.DontFragment && !v6, port: portOf(c, 0)}
						if o.ttl == 0 {
							o.ttl = 64
						}
						if v6 {
							o.label = f.FlowLabel
						}
						for k := range count {
							if o.length = 100; k == count-1 {
								o.length = 50
							}
							want = append(want, o)
						}
					}
					h.seen(t)
					if n, err := s.Send(trains); n != len(trains) || err != nil {
						t.Fatalf("sent %d, %v", n, err)
					}
					if err := same(collect(t, r, d, len(want)), trains...); err != nil {
						t.Error(err)
					}
					got := h.outers(t)
					if len(got) != len(want) {
						t.Fatalf("%d packets, want %d", len(got), len(want))
					}
					for i := range want {
						if got[i] != want[i] {
							t.Errorf("packet %d: %+v, want %+v", i, got[i], want[i])
						}
						// The Conn says the same of it as the wire.
						said := c.(OuterConn).Outer(&trains[i/3])
						if o := (outerSeen{said.TOS, said.TTL, said.DF, said.FlowLabel, said.SrcPort, said.ZeroChecksum, want[i].length}); o != want[i] {
							t.Errorf("packet %d: said to be %+v, is %+v", i, o, want[i])
						}
						if said.Src != local || said.Dst != remote || said.DstPort != wirePort {
							t.Errorf("packet %d: said to go from %v to %v port %d", i, said.Src, said.Dst, said.DstPort)
						}
					}
				})
			}
		}
	})
}

// What the Conn was told for all trains.
func TestOuterFieldsOfTheConn(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		if err := h.a.Sysctl("net.ipv4.ip_default_ttl", "99"); err != nil {
			t.Fatal(err)
		}
		if err := h.a.Sysctl("net.ipv6.conf.all.hop_limit", "98"); err != nil {
			t.Fatal(err)
		}
		if err := h.a.Sysctl("net.ipv6.conf.ens160.hop_limit", "98"); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			name   string
			config UDPConfig
			v6     bool
			want   outerSeen // tos, length and port aside
			label  bool      // some label
		}{
			{name: "TTL of the system", config: UDPConfig{TTL: TTLAuto}, want: outerSeen{ttl: 99}},
			{name: "hop limit of the system", config: UDPConfig{TTL: TTLAuto}, v6: true, want: outerSeen{ttl: 98}},
			{name: "TTL 7", config: UDPConfig{TTL: 7}, want: outerSeen{ttl: 7}},
			{name: "hop limit 7", config: UDPConfig{TTL: 7}, v6: true, want: outerSeen{ttl: 7}},
			{name: "no checksum", config: UDPConfig{ZeroChecksum4: true}, want: outerSeen{ttl: 64, zero: true}},
			{name: "checksum over IPv4 all the same", config: UDPConfig{ZeroChecksum6: true}, want: outerSeen{ttl: 64}},
			{name: "no checksum over IPv6", config: UDPConfig{ZeroChecksum6: true}, v6: true, want: outerSeen{ttl: 64, zero: true}},
			{name: "checksum over IPv6 all the same", config: UDPConfig{ZeroChecksum4: true}, v6: true, want: outerSeen{ttl: 64}},
			{name: "DF", config: UDPConfig{DontFragment: true, DontFragmentByTrain: true}, want: outerSeen{ttl: 64, df: true}},
			{name: "label of the system", config: UDPConfig{AutoFlowLabel: true}, v6: true, want: outerSeen{ttl: 64}, label: true},
		} {
			t.Run(tc.name, func(t *testing.T) {
				local, remote := h.a4, h.b4
				if tc.v6 {
					local, remote = h.a6, h.b6
				}
				tc.config.Local, tc.config.Port, tc.config.Netns = []netip.Addr{local}, wirePort, h.a.Path()
				c := k.listen(t, tc.config)
				d := k.listen(t, UDPConfig{Local: []netip.Addr{remote}, Port: wirePort, Netns: h.b.Path(), AcceptZeroChecksum6: true})
				if n := c.Limits().Segments; (n == 1) != tc.want.zero {
					t.Errorf("Limits.Segments is %d", n)
				}
				s, r := c.NewSender(), d.Receivers()[0]
				tr := train(d.Locals()[0], 4, 1000, 1000, 1)
				h.seen(t)
				if n, err := s.Send([]Train{tr}); n != 1 || err != nil {
					t.Fatalf("sent %d, %v", n, err)
				}
				if err := same(collect(t, r, d, 4), tr); err != nil {
					t.Error(err)
				}
				got := h.outers(t)
				if len(got) != 4 {
					t.Fatalf("%d packets, want 4", len(got))
				}
				// The Conn says the same of it, where it knows.
				said := c.(OuterConn).Outer(&tr)
				for _, o := range got {
					if said.TTL != o.ttl && said.TTL != 0 || said.DF != o.df || said.SrcPort != o.port || said.ZeroChecksum != o.zero ||
						said.FlowLabel != o.label && said.FlowLabel != 0 {
						t.Errorf("said to be %+v, is %+v", said, o)
					}
					o.port, o.length = 0, 0
					if (o.label != 0) != tc.label {
						t.Errorf("flow label %#x", o.label)
					}
					if o.label = 0; o != tc.want {
						t.Errorf("%+v, want %+v", o, tc.want)
					}
				}
			})
		}
	})
}

// RFC 6935 section 5: over IPv6 a datagram without a checksum is dropped unless
// the receiver said otherwise; over IPv4 it is always taken (RFC 7348 section
// 5).
func TestZeroChecksumReceived(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		h := newHosts(t, 1500)
		for _, tc := range []struct {
			v6, accept, arrives bool
		}{{false, false, true}, {true, false, false}, {true, true, true}} {
			local, remote := h.a4, h.b4
			if tc.v6 {
				local, remote = h.a6, h.b6
			}
			c := k.listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort, Netns: h.a.Path(), ZeroChecksum4: true, ZeroChecksum6: true})
			d := k.listen(t, UDPConfig{Local: []netip.Addr{remote}, Port: wirePort, Netns: h.b.Path(), AcceptZeroChecksum6: tc.accept})
			with := k.listen(t, UDPConfig{Local: []netip.Addr{local}, Port: wirePort + 1, Netns: h.a.Path()})
			zero, last := train(d.Locals()[0], 1, 100, 100, 1), train(d.Locals()[0], 1, 50, 50, 2)
			if _, err := c.NewSender().Send([]Train{zero}); err != nil {
				t.Fatal(err)
			}
			// Behind it on the same wire, one that arrives in any case.
			if _, err := with.NewSender().Send([]Train{last}); err != nil {
				t.Fatal(err)
			}
			want := []Train{last}
			if tc.arrives {
				want = []Train{zero, last}
			}
			if err := same(collect(t, d.Receivers()[0], d, len(want)), want...); err != nil {
				t.Errorf("%+v: %v", tc, err)
			}
			for _, conn := range []Conn{c, d, with} {
				conn.Close()
			}
		}
	})
}

// The second sockets have the ports of the first, which nobody else can have
// then, and take nothing that is sent to them.
func TestUnfragmentedSockets(t *testing.T) {
	c := listen(t, UDPConfig{DontFragmentByTrain: true})
	if len(c.unfragmented) != len(c.senders[0]) {
		t.Fatalf("%d sockets with DF, %d without", len(c.unfragmented), len(c.senders[0]))
	}
	for i, s := range c.senders[0] {
		twin := c.unfragmented[i]
		if twin == s || twin.port != s.port {
			t.Errorf("ports %d and %d", s.port, twin.port)
		}
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, s.port))
		for _, option := range []int{0, unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			if option != 0 {
				err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1)
			}
			if bound := unix.Bind(fd, &unix.SockaddrInet4{Port: at.Port, Addr: loopback4.As4()}); err != nil || !errors.Is(bound, unix.EADDRINUSE) {
				t.Errorf("a stranger got port %d: %v, %v", at.Port, err, bound)
			}
			unix.Close(fd)
		}
	}
	stray, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, c.senders[0][0].port)))
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	for range 10 {
		_, _ = stray.Write([]byte("stray"))
	}
	if n := queued(t, c.senders[0][0]) + queued(t, c.unfragmented[0]); n != 0 {
		t.Errorf("%d bytes wait on sockets that nobody reads", n)
	}

	// A range with the receiving port in it: that one has no second socket, and
	// goes on receiving.
	port := freePort(t, loopback4)
	c = listen(t, UDPConfig{Port: port, SourcePortLo: port, SourcePortHi: port + 1, DontFragmentByTrain: true})
	for _, twin := range c.unfragmented {
		if twin.port != port+1 {
			t.Errorf("a second socket on port %d", twin.port)
		}
	}
	tr := train(c.locals[0], 2, 100, 100, 1)
	if n, err := c.NewSender().Send([]Train{tr}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if err := same(collect(t, c.Receivers()[0], c, 2), tr); err != nil {
		t.Error(err)
	}
	if _, err := ListenUDP(UDPConfig{Local: []netip.Addr{loopback4}, Port: port + 2, SourcePortLo: port + 2, SourcePortHi: port + 2, DontFragmentByTrain: true}); !errors.Is(err, ErrSharedSourcePort) {
		t.Errorf("the receiving port as the only source port: %v", err)
	}
}
