package wireguard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/goleak"
	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// checkSettings has the library take a configuration.
func checkSettings(t testing.TB, cfg *Config) {
	t.Helper()
	c := &Conn{cfg: *cfg, opt: Options{Port: vxlan.Port}}
	c.tun = newTunnel(c)
	binds := bindtest.NewChannelBinds()
	c.device = device.NewDevice(c.tun, binds[0], new(logger).of(Options{}))
	defer c.Close()
	if err := c.device.IpcSet(c.settings()); err != nil {
		t.Errorf("%v\n%s", err, c.settings())
	}
	got := c.Tunnel()
	if len(got.Peers) != len(cfg.Peers) || got.PublicKey != cfg.PrivateKey.Public().String() {
		t.Errorf("the library has %+v, of %+v", got, cfg)
	}
}

var (
	innerA, innerB   = netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")
	innerA6, innerB6 = netip.MustParseAddr("fd09::1"), netip.MustParseAddr("fd09::2")
)

// pair opens two ends on the loopback that know each other; b begins without
// knowing where a is. change may say otherwise.
func pair(t testing.TB, opt Options, change func(a, b *Config)) (a, b *Conn) {
	t.Helper()
	ka, kb, psk := NewPrivateKey(), NewPrivateKey(), NewPresharedKey()
	ca := Config{PrivateKey: ka, Addresses: []netip.Addr{innerA, innerA6}, MTU: 1440, Peers: []Peer{{
		PublicKey: kb.Public(), PresharedKey: psk, AllowedIPs: []netip.Prefix{netip.PrefixFrom(innerB, 32), netip.PrefixFrom(innerB6, 128)},
	}}}
	cb := Config{PrivateKey: kb, Addresses: []netip.Addr{innerB, innerB6}, MTU: 1440, Peers: []Peer{{
		PublicKey: ka.Public(), PresharedKey: psk, AllowedIPs: []netip.Prefix{netip.PrefixFrom(innerA, 32), netip.PrefixFrom(innerA6, 128)},
	}}}
	if change != nil {
		change(&ca, &cb)
	}
	var err error
	if b, err = Listen(cb, opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	ca.Peers[0].Addr = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.Tunnel().ListenPort)
	if a, err = Listen(ca, opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, b
}

func datagrams(n, stride, last int) []byte {
	b := make([]byte, (n-1)*stride+last)
	for i := range b {
		b[i] = byte(i * 7 / 3)
	}
	return b
}

// collect receives datagrams until there are so many bytes, or ctx is done.
func collect(ctx context.Context, t testing.TB, c *Conn, bytes int) (got []transport.Train) {
	t.Helper()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	var trains [3]transport.Train // fewer than come at once
	r := c.Receivers()[0]
	for bytes > 0 {
		n, err := r.Recv(trains[:])
		if err != nil {
			t.Fatalf("%v, with %d bytes to come", err, bytes)
		}
		for _, tr := range trains[:n] {
			tr.Buf = slices.Clone(tr.Buf)
			got = append(got, tr)
			bytes -= len(tr.Buf)
		}
	}
	return got
}

// TestTrains: what is sent arrives, in order, as it was, with its marks, both ways
// and over both families.
func TestTrains(t *testing.T) {
	for name, opt := range map[string]Options{
		"plain": {}, "no checksums": {ZeroChecksum4: true, ZeroChecksum6: true, AcceptZeroChecksum6: true},
		"label": {AutoFlowLabel: true, Port: 4790, SourcePorts: vxlan.PortRange{Lo: 5000, Hi: 5003}, DontFragment: true},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, opt, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for _, way := range []struct {
				from, to *Conn
				src, dst netip.Addr
			}{{a, b, innerA, innerB}, {b, a, innerB, innerA}, {a, b, innerA6, innerB6}, {b, a, innerB6, innerA6}} {
				s := way.from.NewSender()
				to := netip.AddrPortFrom(way.dst, way.from.opt.Port)
				sent := []transport.Train{
					{Buf: datagrams(47, 1390, 700), Stride: 1390, Addr: to, Hash: 1 << 31, TOS: 0xB9},
					{Buf: datagrams(1, 0, 1), Addr: to, Hash: 1},
					{Buf: datagrams(128, 64, 64), Stride: 64, Addr: to, Hash: 1, TTL: 3},
					{Buf: datagrams(1, 0, 1392), Addr: to},
				}
				var want []byte
				for _, tr := range sent {
					want = append(want, tr.Buf...)
				}
				if n, err := s.Send(sent); n != len(sent) || err != nil {
					t.Fatalf("sent %d: %v", n, err)
				}
				var got []byte
				trains := collect(ctx, t, way.to, len(want))
				for _, tr := range trains {
					got = append(got, tr.Buf...)
					if tr.Addr.Addr() != way.src {
						t.Fatalf("from %v, want %v", tr.Addr, way.src)
					}
				}
				if !bytes.Equal(got, want) {
					t.Fatal("other bytes than were sent")
				}
				first := trains[0]
				if o := way.from.Outer(&sent[0]); first.TOS != 0xB9 || first.Addr.Port() != o.SrcPort || o.Src != way.src || first.Stride != 1390 {
					t.Errorf("first train from %v, TOS %#x, stride %d; Outer has %+v", first.Addr, first.TOS, first.Stride, o)
				}
			}
			if c := b.Counters(); c != (transport.Counters{}) {
				t.Errorf("dropped %+v", c)
			}
		})
	}
}

// TestRefused: what cannot be sent is said, and what stands before it goes.
func TestRefused(t *testing.T) {
	a, b := pair(t, Options{}, func(a, _ *Config) { a.Addresses = a.Addresses[:1] })
	var heard []transport.TooBig
	a.HearTooBig(func(w *transport.TooBig) { heard = append(heard, *w) })
	to := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	good := transport.Train{Buf: []byte{1, 2, 3}, Addr: to("10.9.0.2:4789")}
	s := a.NewSender()
	for _, c := range []struct {
		train transport.Train
		want  error
	}{
		{transport.Train{Buf: []byte{1}, Addr: to("10.9.0.3:4789")}, ErrNoPeer},
		{transport.Train{Buf: []byte{1}, Addr: to("[fd09::2]:4789")}, transport.ErrNoFamily},
		{transport.Train{Buf: make([]byte, 1413), Addr: to("10.9.0.2:4789")}, transport.ErrTooLong},
		{transport.Train{Buf: make([]byte, 2826), Stride: 1413, Addr: to("10.9.0.2:4789")}, transport.ErrTooLong},
	} {
		if n, err := s.Send([]transport.Train{good, c.train, good}); n != 1 || !errors.Is(err, c.want) {
			t.Errorf("to %v: sent %d, %v; want 1, %v", c.train.Addr, n, err, c.want)
		}
	}
	if len(heard) != 2 || heard[0].MTU != 1440 || heard[0].To != good.Addr || heard[0].From.IsValid() {
		t.Errorf("heard %+v", heard)
	}
	a.SetMTU(1441)
	if err := a.Rebind(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Send([]transport.Train{{Buf: make([]byte, 1413), Addr: good.Addr}}); n != 1 || err != nil {
		t.Errorf("after SetMTU: sent %d, %v", n, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	collect(ctx, t, b, 4*3+1413)
}

// TestStrangers: packets in the tunnel that are none for the VTEP are counted.
func TestStrangers(t *testing.T) {
	c := &Conn{opt: Options{Port: 4789}}
	c.local = [2]netip.Addr{innerA, innerA6}
	r := newReceiver(make(chan struct{}))
	packet := func(change func(o *vxlan.Outer), spoil func(b []byte)) []byte {
		o := vxlan.Outer{Src: innerB, Dst: innerA, TTL: 9, SrcPort: 50000, DstPort: 4789, VNI: 7}
		if change != nil {
			change(&o)
		}
		b := append(make([]byte, 16-14+o.Len()), make([]byte, 64)...)
		if err := o.Put(b[2:]); err != nil {
			t.Fatal(err)
		}
		if spoil != nil {
			spoil(b[16:])
		}
		return b
	}
	v6 := func(o *vxlan.Outer) { o.Src, o.Dst = innerB6, innerA6 }
	for name, p := range map[string]struct {
		b             []byte
		bad, checksum uint64
	}{
		"good":          {packet(nil, nil), 0, 0},
		"good v6":       {packet(v6, nil), 0, 0},
		"no checksum":   {packet(func(o *vxlan.Outer) { o.ZeroChecksum = true }, nil), 0, 0},
		"none over v6":  {packet(func(o *vxlan.Outer) { v6(o); o.ZeroChecksum = true }, nil), 0, 1},
		"wrong":         {packet(nil, func(b []byte) { b[60] ^= 1 }), 0, 1},
		"other port":    {packet(func(o *vxlan.Outer) { o.DstPort = 53 }, nil), 1, 0},
		"other address": {packet(func(o *vxlan.Outer) { o.Dst = netip.MustParseAddr("10.9.0.9") }, nil), 1, 0},
		"no UDP":        {packet(nil, func(b []byte) { b[9] = 6 }), 1, 0},
		"short":         {make([]byte, 16+3), 1, 0},
		"empty":         {make([]byte, 16), 1, 0},
	} {
		before := c.Counters()
		if n, err := r.take(c, [][]byte{p.b}, 16); n != 1 || err != nil {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		after := c.Counters()
		if after.RxBadPacket-before.RxBadPacket != p.bad || after.RxChecksum-before.RxChecksum != p.checksum {
			t.Errorf("%s: counted %+v after %+v", name, after, before)
		}
		want := 1 - int(p.bad+p.checksum)
		if got := len(r.full); got != want {
			t.Errorf("%s: %d parcels, want %d", name, got, want)
		}
		for range want {
			r.free <- <-r.full
		}
	}
	if len(r.free) != parcels {
		t.Errorf("%d parcels left of %d", len(r.free), parcels)
	}
}

// TestWrongKey: nothing gets through to an end that has another key for us, and
// the state says that there was no handshake.
func TestWrongKey(t *testing.T) {
	a, b := pair(t, Options{}, func(_, b *Config) { b.Peers[0].PublicKey = NewPrivateKey().Public() })
	s := a.NewSender()
	if n, err := s.Send([]transport.Train{{Buf: []byte{1}, Addr: netip.AddrPortFrom(innerB, 4789)}}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	await(t, func() error {
		if p := a.Tunnel().Peers[0]; p.TxBytes == 0 || !p.LastHandshake.IsZero() || p.RxBytes != 0 {
			return fmt.Errorf("a's peer %+v", p)
		}
		return nil
	})
	if p := b.Tunnel().Peers[0]; p.RxBytes != 0 || !p.LastHandshake.IsZero() {
		t.Errorf("b's peer %+v", p)
	}
}

// TestInnerSource: what a peer sends from an address that is not its own does not
// arrive, and what it sends from its own does.
func TestInnerSource(t *testing.T) {
	a, b := pair(t, Options{}, func(a, _ *Config) { a.Addresses = []netip.Addr{netip.MustParseAddr("10.9.0.7"), innerA6} })
	s := a.NewSender()
	for _, to := range []netip.Addr{innerB, innerB6} {
		if n, err := s.Send([]transport.Train{{Buf: []byte{to.As16()[15]}, Addr: netip.AddrPortFrom(to, 4789)}}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if got := collect(ctx, t, b, 1); got[0].Addr.Addr() != innerA6 {
		t.Errorf("arrived from %v", got[0].Addr)
	}
}

func TestTunnelState(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	s := a.NewSender()
	if _, err := s.Send([]transport.Train{{Buf: []byte{1}, Addr: netip.AddrPortFrom(innerB, 4789)}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	collect(ctx, t, b, 1)
	got := b.Tunnel()
	if got.MTU != 1440 || got.ListenPort == 0 || got.PublicKey != b.cfg.PrivateKey.Public().String() || len(got.Peers) != 1 {
		t.Fatalf("%+v", got)
	}
	p := got.Peers[0]
	if p.PublicKey != a.Tunnel().PublicKey || p.Endpoint.Port() != a.Tunnel().ListenPort || p.RxBytes == 0 || p.TxBytes == 0 ||
		time.Since(p.LastHandshake).Abs() > time.Minute || !slices.Equal(p.AllowedIPs, []netip.Prefix{netip.PrefixFrom(innerA, 32), netip.PrefixFrom(innerA6, 128)}) {
		t.Errorf("%+v", p)
	}
}

func TestListenErrors(t *testing.T) {
	a, _ := pair(t, Options{}, nil)
	cfg := a.cfg
	cfg.ListenPort = a.Tunnel().ListenPort
	if c, err := Listen(cfg, Options{}); !errors.Is(err, ErrPortInUse) || !strings.Contains(err.Error(), fmt.Sprint(cfg.ListenPort)) {
		t.Errorf("%v, %v", c, err)
	}
	cfg.Addresses = nil
	if c, err := Listen(cfg, Options{}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("%v, %v", c, err)
	}
}

// TestClose: whoever waits is let go, with and without traffic, and a second
// Close does nothing.
func TestClose(t *testing.T) {
	a, b := pair(t, Options{}, nil)
	ended := make(chan error, 3)
	to := netip.AddrPortFrom(innerB, 4789)
	for range 2 {
		go func() {
			s := a.NewSender()
			buf := datagrams(40, 1390, 1390)
			for {
				if _, err := s.Send([]transport.Train{{Buf: buf, Stride: 1390, Addr: to}}); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	collect(ctx, t, b, 100*1390)
	go func() {
		var trains [8]transport.Train
		_, err := a.Receivers()[0].Recv(trains[:])
		ended <- err
	}()
	// b has nobody any more who receives: its parcels are all full soon.
	for _, c := range []*Conn{b, a, a} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 3 {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v, want net.ErrClosed", err)
		}
	}
}

// TestSendAllocs: sending and receiving allocate nothing on our side.
func TestSendAllocs(t *testing.T) {
	c := &Conn{opt: Options{Port: 4789, TTL: 64, SourcePorts: vxlan.PortRange{Lo: 49152, Hi: 65535}}}
	c.cfg.Peers = []Peer{{AllowedIPs: []netip.Prefix{netip.PrefixFrom(innerB, 32)}}}
	c.local = [2]netip.Addr{innerA, innerA6}
	c.mtu.Store(1440)
	c.tun = newTunnel(c)
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	s := newSender(c)
	trains := []transport.Train{{Buf: datagrams(47, 1390, 700), Stride: 1390, Addr: netip.AddrPortFrom(innerB, 4789)}}
	got := make([]transport.Train, 64)
	d := &Conn{opt: c.opt, local: [2]netip.Addr{innerB, innerB6}}
	r := newReceiver(make(chan struct{}))
	round := func() {
		w, err := s.way(&trains[0])
		if err != nil {
			t.Fatal(err)
		}
		s.request.ways = append(s.request.ways[:0], w)
		s.request.trains, s.request.train, s.request.next = trains, 0, 0
		n := s.request.fill(c.tun, bufs, sizes, 16)
		if n != 47 || !s.request.finished() {
			t.Fatalf("%d packets", n)
		}
		for i := range n {
			bufs[i] = bufs[i][:16+sizes[i]]
		}
		if _, err := r.take(d, bufs[:n], 16); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			bufs[i] = bufs[i][:cap(bufs[i])]
		}
		if n, err := r.Recv(got); n != 1 || err != nil || !bytes.Equal(got[0].Buf, trains[0].Buf) {
			t.Fatalf("%d trains, %v", n, err)
		}
	}
	for range parcels {
		round() // each gets its memory
	}
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations for 47 packets", n)
	}
}

func await(t testing.TB, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
