package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
)

var (
	left  = netip.MustParseAddrPort("192.168.52.203:4789")
	right = netip.MustParseAddrPort("192.168.52.204:4789")
)

// pair is two Conns of one network.
func pair(t testing.TB, cfg NetworkConfig) (*Network, Conn, Conn) {
	t.Helper()
	n := NewNetwork(cfg)
	a, err := n.Listen(left)
	if err != nil {
		t.Fatal(err)
	}
	b, err := n.Listen(right)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return n, a, b
}

// drain receives what is there and does not wait for more.
func drain(t testing.TB, c Conn) []Train {
	t.Helper()
	q := c.(*networkConn).queue
	var got []Train
	for len(q) > 0 {
		trains := make([]Train, 16)
		n, err := c.Receivers()[0].Recv(trains)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, trains[:n]...)
	}
	return got
}

func send(t testing.TB, c Conn, trains ...Train) {
	t.Helper()
	if n, err := c.NewSender().Send(trains); n != len(trains) || err != nil {
		t.Fatalf("%d of %d trains sent: %v", n, len(trains), err)
	}
}

func TestNetworkCarriesTrains(t *testing.T) {
	_, a, b := pair(t, NetworkConfig{})
	send(t, a,
		Train{Buf: []byte("onetwo3"), Stride: 3, Addr: right, TOS: 2},
		Train{Buf: []byte("last"), Addr: right},
		Train{Buf: []byte("nobody there"), Addr: netip.MustParseAddrPort("10.0.0.1:4789")},
		Train{Addr: right})
	want := []Train{
		{Buf: []byte("one"), Addr: left, TOS: 2}, {Buf: []byte("two"), Addr: left, TOS: 2},
		{Buf: []byte("3"), Addr: left, TOS: 2}, {Buf: []byte("last"), Addr: left},
	}
	got := drain(t, b)
	if len(got) != len(want) {
		t.Fatalf("%d datagrams arrived, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i].Buf, want[i].Buf) || got[i].Addr != want[i].Addr || got[i].TOS != want[i].TOS || got[i].Len() != 1 {
			t.Errorf("datagram %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	if got := drain(t, a); got != nil {
		t.Errorf("the sender got %d of its own datagrams", len(got))
	}
}

// Send keeps nothing of the trains, and what is received is the receiver's own.
func TestNetworkCopies(t *testing.T) {
	_, a, b := pair(t, NetworkConfig{Duplicate: 1})
	buf := []byte("before")
	send(t, a, Train{Buf: buf, Addr: right})
	copy(buf, "after!")
	got := drain(t, b)
	if len(got) != 2 {
		t.Fatalf("%d datagrams, want 2", len(got))
	}
	copy(got[0].Buf, "xxxxxx")
	if string(got[1].Buf) != "before" {
		t.Errorf("the second copy is %q", got[1].Buf)
	}
}

// statistics sends count numbered datagrams and says what became of them.
func statistics(t testing.TB, cfg NetworkConfig, count int) (order []uint32, damaged int) {
	_, a, b := pair(t, cfg)
	for i := range count {
		d := make([]byte, 16)
		binary.BigEndian.PutUint32(d, uint32(i))
		binary.BigEndian.PutUint32(d[4:], uint32(i))
		binary.BigEndian.PutUint64(d[8:], ^uint64(i))
		send(t, a, Train{Buf: d, Addr: right})
		for _, tr := range drain(t, b) {
			x, y, z := binary.BigEndian.Uint32(tr.Buf), binary.BigEndian.Uint32(tr.Buf[4:]), binary.BigEndian.Uint64(tr.Buf[8:])
			if x == y && z == ^uint64(x) {
				order = append(order, x)
				continue
			}
			damaged++
			// One bit of it, no more.
			if z == ^uint64(x) {
				y, x = x, y
			}
			if flips := bits.OnesCount32(x^y) + bits.OnesCount64(z^^uint64(y)); flips != 1 {
				t.Errorf("datagram %x: %d bits flipped, want 1", tr.Buf, flips)
			}
		}
	}
	return order, damaged
}

// near says whether n is what count tries of a probability give, within five
// standard deviations: with a fixed seed it is so always or never.
func near(n, count int, p float64) bool {
	return math.Abs(float64(n)-float64(count)*p) <= 5*math.Sqrt(float64(count)*p*(1-p))
}

func TestNetworkStatistics(t *testing.T) {
	const count = 5000
	inOrder := func(order []uint32) bool {
		for i := 1; i < len(order); i++ {
			if order[i] < order[i-1] {
				return false
			}
		}
		return true
	}
	t.Run("perfect", func(t *testing.T) {
		order, damaged := statistics(t, NetworkConfig{Seed: 1}, count)
		if len(order) != count || damaged != 0 || !inOrder(order) {
			t.Errorf("%d of %d arrived, %d damaged, in order %v", len(order), count, damaged, inOrder(order))
		}
	})
	t.Run("loss", func(t *testing.T) {
		order, damaged := statistics(t, NetworkConfig{Seed: 1, Loss: 0.2}, count)
		if !near(len(order), count, 0.8) || damaged != 0 || !inOrder(order) {
			t.Errorf("%d of %d arrived, %d damaged, in order %v", len(order), count, damaged, inOrder(order))
		}
	})
	t.Run("all lost", func(t *testing.T) {
		if order, _ := statistics(t, NetworkConfig{Seed: 1, Loss: 1}, 100); order != nil {
			t.Errorf("%d arrived", len(order))
		}
	})
	t.Run("duplicates", func(t *testing.T) {
		order, _ := statistics(t, NetworkConfig{Seed: 1, Duplicate: 0.1}, count)
		if !near(len(order)-count, count, 0.1) || !inOrder(order) {
			t.Errorf("%d more than were sent, in order %v", len(order)-count, inOrder(order))
		}
	})
	t.Run("reordering", func(t *testing.T) {
		order, _ := statistics(t, NetworkConfig{Seed: 1, Reorder: 0.1}, count)
		late := 0
		for i := 1; i < len(order); i++ {
			if order[i] < order[i-1] {
				late++
				if order[i] != order[i-1]-1 {
					t.Fatalf("%d arrived behind %d: further back than behind the next", order[i], order[i-1])
				}
			}
		}
		// One waits at the end, perhaps; and while one waits no other does.
		if len(order) < count-1 || !near(late, count, 0.1/1.1) {
			t.Errorf("%d of %d arrived, %d late", len(order), count, late)
		}
	})
	t.Run("corruption", func(t *testing.T) {
		order, damaged := statistics(t, NetworkConfig{Seed: 1, Corrupt: 0.1}, count)
		if len(order)+damaged != count || !near(damaged, count, 0.1) {
			t.Errorf("%d whole, %d damaged", len(order), damaged)
		}
	})
	t.Run("seed", func(t *testing.T) {
		cfg := NetworkConfig{Seed: 7, Loss: 0.3, Duplicate: 0.3, Reorder: 0.3}
		a, _ := statistics(t, cfg, 200)
		b, _ := statistics(t, cfg, 200)
		cfg.Seed = 8
		c, _ := statistics(t, cfg, 200)
		same := func(x, y []uint32) bool {
			if len(x) != len(y) {
				return false
			}
			for i := range x {
				if x[i] != y[i] {
					return false
				}
			}
			return true
		}
		if !same(a, b) {
			t.Error("the same seed gives another run")
		}
		if same(a, c) {
			t.Error("another seed gives the same run")
		}
	})
}

func TestNetworkMTU(t *testing.T) {
	n, a, b := pair(t, NetworkConfig{MTU: 100})
	s := a.NewSender()
	trains := []Train{
		{Buf: make([]byte, 100), Addr: right},
		{Buf: make([]byte, 150), Stride: 100, Addr: right},
		{Buf: make([]byte, 202), Stride: 101, Addr: right},
		{Buf: make([]byte, 10), Addr: right},
	}
	if sent, err := s.Send(trains); sent != 2 || !errors.Is(err, ErrTooLong) {
		t.Errorf("%d trains sent, %v; want 2, ErrTooLong", sent, err)
	}
	if got := drain(t, b); len(got) != 3 {
		t.Errorf("%d datagrams arrived, want 3", len(got))
	}
	n.SetConfig(NetworkConfig{})
	if sent, err := s.Send(trains); sent != 4 || err != nil {
		t.Errorf("without a limit %d trains sent, %v; want 4", sent, err)
	}
}

func TestNetworkAddresses(t *testing.T) {
	n, a, _ := pair(t, NetworkConfig{})
	if got := a.Locals(); len(got) != 1 || got[0] != left {
		t.Errorf("locals %v", got)
	}
	if _, err := n.Listen(left); !errors.Is(err, ErrPortInUse) {
		t.Errorf("second Listen: %v, want ErrPortInUse", err)
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	again, err := n.Listen(left)
	if err != nil {
		t.Fatalf("Listen after Close: %v", err)
	}
	again.Close()
}

// A Conn that nobody reads loses what does not fit, as a socket does.
func TestNetworkQueueIsBounded(t *testing.T) {
	_, a, b := pair(t, NetworkConfig{})
	for range networkQueue + 100 {
		send(t, a, Train{Buf: []byte{1}, Addr: right})
	}
	if got := drain(t, b); len(got) != networkQueue {
		t.Errorf("%d datagrams arrived, want %d", len(got), networkQueue)
	}
}

func TestNetworkClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := pair(t, NetworkConfig{})
		result := make(chan error)
		go func() {
			_, err := b.Receivers()[0].Recv(make([]Train, 4))
			result <- err
		}()
		synctest.Wait()
		b.Close()
		if err := <-result; err != net.ErrClosed {
			t.Errorf("Recv that waited: %v, want net.ErrClosed", err)
		}
		if n, err := b.NewSender().Send([]Train{{Buf: []byte{1}, Addr: left}}); n != 0 || err != net.ErrClosed {
			t.Errorf("Send after Close: %d, %v; want net.ErrClosed", n, err)
		}
		// With datagrams in the queue too.
		for range 20 {
			send(t, a, Train{Buf: []byte{1}, Addr: left})
		}
		r := a.Receivers()[0]
		if n, err := r.Recv(nil); n != 0 || err != nil {
			t.Errorf("Recv of no trains: %d, %v", n, err)
		}
		a.Close()
		if n, err := r.Recv(make([]Train, 4)); n != 0 || err != net.ErrClosed {
			t.Errorf("Recv after Close: %d, %v; want net.ErrClosed", n, err)
		}
	})
}

func TestNetworkPathMTU(t *testing.T) {
	_, a, b := pair(t, NetworkConfig{PathMTU: 1000})
	s := a.NewSender()
	long := Train{Buf: bytes.Repeat([]byte{7}, 2500), Stride: 1200, Addr: right}
	send(t, a, long) // nobody hears
	var words []TooBig
	a.(PathConn).HearTooBig(func(w *TooBig) { words = append(words, *w) })
	if n, err := s.Send([]Train{long}); n != 1 || err != nil {
		t.Errorf("%d sent, %v", n, err)
	}
	if len(words) != 2 || words[0].To != right || words[0].MTU != 1028 || !bytes.Equal(words[0].Datagram, long.Buf[:520]) || !words[0].From.IsValid() {
		t.Errorf("heard %+v", words)
	}
	if got := drain(t, b); len(got) != 2 { // the last of each train
		t.Errorf("%d datagrams arrived, want 2", len(got))
	}
}
