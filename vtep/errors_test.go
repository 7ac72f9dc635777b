package vtep

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// Only the trains that cannot be sent are lost, and each is counted for what
// stood in the way.
func TestSendErrorsAreCountedForWhatTheyAre(t *testing.T) {
	tooBig := func(c *Counters) uint64 { return c.TxDropTooBig }
	unreachable := func(c *Counters) uint64 { return c.TxDropUnreachable }
	noBuffer := func(c *Counters) uint64 { return c.TxDropNoBuffer }
	other := func(c *Counters) uint64 { return c.TxDropError }
	for _, tc := range []struct {
		err   error
		count func(*Counters) uint64
	}{
		{syscall.EMSGSIZE, tooBig},
		{transport.ErrTooLong, tooBig},
		{os.NewSyscallError("sendmmsg", syscall.EMSGSIZE), tooBig},
		{syscall.ENETUNREACH, unreachable},
		{syscall.EHOSTUNREACH, unreachable},
		{syscall.ENETDOWN, unreachable},
		{syscall.EADDRNOTAVAIL, unreachable},
		{syscall.EINVAL, unreachable},
		{fmt.Errorf("wrapped: %w", transport.ErrNoFamily), unreachable},
		{syscall.ENOBUFS, noBuffer},
		{syscall.ENOMEM, noBuffer},
		{syscall.EPERM, other},
		{syscall.EACCES, other},
		{net.ErrClosed, other},
		{errors.New("something else"), other},
	} {
		t.Run(tc.err.Error(), func(t *testing.T) {
			p := toAlice(t)
			// Three lengths that grow are three trains; the middle one fails.
			p.rig.wire.fail = func(tr *transport.Train) error {
				if tr.Stride == 8+100 {
					return tc.err
				}
				return nil
			}
			trains := p.send(raw(alice, host, 60), raw(alice, host, 60), raw(alice, host, 100), raw(alice, host, 100),
				raw(alice, host, 100), raw(alice, host, 200))
			if len(trains) != 2 || trains[0].Len() != 2 || trains[1].Len() != 1 {
				t.Errorf("%d trains left, want those before and after", len(trains))
			}
			c := p.counters()
			drops := c.TxDropTooBig + c.TxDropUnreachable + c.TxDropNoBuffer + c.TxDropError + c.TxDropBadFrame + c.TxDropNoDestination
			if n := tc.count(&c); n != 3 || drops != 3 || c.TxFrames != 3 || c.TxBytes != 320 {
				t.Errorf("counters %+v: want 3 frames of 320 bytes sent, 3 dropped under the right reason", c)
			}
			if peer := p.rig.e.Status().VNIs[0].Peers[0]; peer.TxFrames != 3 || peer.TxBytes != 320 {
				t.Errorf("peer: %d frames of %d bytes counted, want 3 of 320", peer.TxFrames, peer.TxBytes)
			}
		})
	}
}

// One peer that cannot be reached costs the others nothing.
func TestUnreachablePeerCostsOthersNothing(t *testing.T) {
	p := newRig(t).add(10, peers(vtepA, vtepB, vtepC))
	p.rig.wire.fail = func(tr *transport.Train) error {
		if tr.Addr == vtepB {
			return syscall.EHOSTUNREACH
		}
		return nil
	}
	if got := destinations(p.send(raw(broadcast, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepC}) {
		t.Errorf("copies for %v, want the two that can be reached", got)
	}
	if c := p.counters(); c.TxFrames != 2 || c.TxFlooded != 2 || c.TxDropUnreachable != 1 {
		t.Errorf("counters %+v, want 2 sent, 1 unreachable", c)
	}
}

// A train whose datagrams are too long may end in one that is not.
func TestShortEndOfATooLongTrain(t *testing.T) {
	p := toAlice(t)
	p.rig.wire.fail = func(tr *transport.Train) error {
		if len(tr.Datagram(0)) > 1000 {
			return syscall.EMSGSIZE
		}
		return nil
	}
	super := packet{dst: alice, src: host, tcp: true, payload: 5100}
	trains := p.carry(super.superframe(t, 1000))
	if len(trains) != 1 || trains[0].Len() != 1 || len(trains[0].Buf) != 8+54+100 {
		t.Errorf("%d trains left, want the last segment of 100 bytes", len(trains))
	}
	if c := p.counters(); c.TxDropTooBig != 5 || c.TxFrames != 1 || c.TxBytes != 154 {
		t.Errorf("counters %+v, want 5 too big, 1 sent of 154 bytes", c)
	}
}

// Nothing of a failed batch shows in the next one.
func TestRecoversAfterErrors(t *testing.T) {
	p := toAlice(t)
	p.rig.wire.fail = func(*transport.Train) error { return syscall.ENETDOWN }
	for range 3 {
		if got := p.send(raw(alice, host, 64), raw(bob, host, 64)); got != nil {
			t.Errorf("sent %v", destinations(got))
		}
	}
	p.rig.wire.fail = nil
	if got := destinations(p.send(raw(alice, host, 64), raw(bob, host, 64))); !slices.Equal(got, []netip.AddrPort{vtepA, vtepB}) {
		t.Errorf("sent to %v", got)
	}
	if c := p.counters(); c.TxDropUnreachable != 6 || c.TxFrames != 2 {
		t.Errorf("counters %+v, want 6 unreachable, 2 sent", c)
	}
}

func TestAddVNIRefuses(t *testing.T) {
	r := newRig(t)
	r.add(10, nil)
	for _, tc := range []struct {
		name string
		cfg  VNIConfig
		want error
	}{
		{"VNI of 25 bits", VNIConfig{VNI: 1 << 24, Device: newCard(t)}, vxlan.ErrVNI},
		{"no device", VNIConfig{VNI: 11}, nil},
		{"there already", VNIConfig{VNI: 10, Device: newCard(t)}, ErrVNIExists},
		{"peer twice", VNIConfig{VNI: 11, Device: newCard(t), Peers: []netip.AddrPort{vtepA, vtepA}}, ErrPeerExists},
		{"static entry of the zero MAC", VNIConfig{VNI: 11, Device: newCard(t), Static: []StaticEntry{{vxlan.MAC{}, vtepA}}}, nil},
	} {
		err := r.e.AddVNI(tc.cfg)
		if err == nil || (tc.want != nil && !errors.Is(err, tc.want)) {
			t.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
		}
		// On failure the caller still has the device.
		if c, ok := tc.cfg.Device.(*card); ok && c.closes.Load() != 0 {
			t.Errorf("%s: the device was closed", tc.name)
		}
	}
	if s := r.e.Status(); len(s.VNIs) != 1 {
		t.Errorf("%d VNIs, want 1", len(s.VNIs))
	}
	if err := r.e.DelVNI(11); !errors.Is(err, ErrNoVNI) {
		t.Errorf("delete of an unknown VNI: %v, want ErrNoVNI", err)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("New without a Conn succeeded")
	}
}
