package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// maker makes faults.
type maker struct {
	site    *site
	traffic *traffic
	churn   *churn
	random  *rand.Rand
	made    []fault
}

// kind is a kind of fault: it touches one host, and do makes and ends it.
type kind struct {
	name string
	// hosts that it may be made at.
	hosts []int
	// settle is how long after it something of it may still be under way.
	settle time.Duration
	// harmless: it may cost nothing at all.
	harmless bool
	do       func(ctx context.Context, m *maker, h *host) error
}

// lasts is how long a fault is there.
const lasts = 300 * time.Millisecond

// pause waits, unless everything ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

var kinds = []kind{
	{"the underlay's link is down", []int{0, 1, kernel}, 0, false, func(ctx context.Context, m *maker, h *host) error {
		err := h.SetDown(underlay)
		pause(ctx, lasts)
		return errors.Join(err, h.SetUp(underlay))
	}},
	{"the switch's port is down", []int{0, 1, kernel}, 0, false, func(ctx context.Context, m *maker, h *host) error {
		err := m.site.middle.SetDown(h.port)
		pause(ctx, lasts)
		return errors.Join(err, m.site.middle.SetUp(h.port))
	}},
	{"the link flaps ten times", []int{0, 1}, 0, false, func(ctx context.Context, m *maker, h *host) error {
		var errs []error
		for range 10 {
			errs = append(errs, h.SetDown(underlay), h.SetUp(underlay))
		}
		return errors.Join(errs...)
	}},
	{"the underlay's MTU is 1400", []int{0, 1}, 100 * time.Millisecond, false, func(ctx context.Context, m *maker, h *host) error {
		err := h.SetMTU(underlay, 1400)
		pause(ctx, lasts)
		return errors.Join(err, h.SetMTU(underlay, 1500))
	}},
	{"the endpoint is stopped (SIGSTOP)", []int{0, 1}, 100 * time.Millisecond, false, func(ctx context.Context, m *maker, h *host) error {
		e := h.endpoint()
		err := e.cmd.Process.Signal(syscall.SIGSTOP)
		pause(ctx, lasts)
		return errors.Join(err, e.cmd.Process.Signal(syscall.SIGCONT))
	}},
	{"the endpoint is killed and started again", []int{1}, 0, false, func(ctx context.Context, m *maker, h *host) error {
		e := h.endpoint()
		if err := e.cmd.Process.Kill(); err != nil {
			return err
		}
		if code, err := e.ended(); err != nil || code != -1 {
			return fmt.Errorf("killed, and ended with status %d: %w", code, err)
		}
		return m.site.start(ctx, h)
	}},
	{"the endpoint is replaced (--takeover)", []int{1}, 200 * time.Millisecond, false, func(ctx context.Context, m *maker, h *host) error {
		e := h.endpoint()
		if err := m.site.start(ctx, h, "--takeover"); err != nil {
			return err
		}
		if code, err := e.ended(); err != nil || code != 0 {
			return fmt.Errorf("taken over from, and ended with status %d: %w: %s", code, err, e.stderr)
		}
		return nil
	}},
	{"the kernel's device is deleted and made anew", []int{kernel}, 0, false, func(ctx context.Context, m *maker, h *host) error {
		return errors.Join(h.DelLink(h.device), m.site.startKernel(h))
	}},
	{"3,000 packets of garbage", []int{0, 1}, 0, true, func(ctx context.Context, m *maker, h *host) error {
		c, err := m.site.hosts[kernel].ListenPacket("udp", netip.AddrPortFrom(m.site.hosts[kernel].vtep, 0).String())
		if err != nil {
			return err
		}
		defer c.Close()
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(h.vtep, 4789))
		b := make([]byte, 1400)
		for i := range 3000 {
			for k := range b[:64] {
				b[k] = byte(m.random.Uint32())
			}
			if i%3 == 0 {
				copy(b, []byte{8, 0, 0, 0, 0, vni >> 8, vni & 0xFF, 0})
			}
			if _, err := c.WriteTo(b[:1+m.random.IntN(len(b))], to); err != nil {
				return err
			}
			if i%64 == 0 {
				pause(ctx, time.Millisecond)
			}
		}
		return nil
	}},
}

// run makes a fault every so often, each kind before any comes again.
func (m *maker) run(ctx context.Context, every time.Duration, told func(fault)) error {
	var order []int
	for {
		pause(ctx, every)
		if ctx.Err() != nil {
			return nil
		}
		if len(order) == 0 {
			order = m.random.Perm(len(kinds))
		}
		k := kinds[order[0]]
		order = order[1:]
		h := m.site.hosts[k.hosts[m.random.IntN(len(k.hosts))]]
		m.churn.busy[h.number] <- struct{}{}
		f := fault{name: fmt.Sprintf("host %s: %s", h.name(), k.name), hosts: []int{h.number}, begin: m.traffic.now(), settle: k.settle, harmless: k.harmless}
		// A fault is always ended: what it left would be the next one's.
		err := k.do(ctx, m, h)
		f.end = m.traffic.now()
		<-m.churn.busy[h.number]
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		m.made = append(m.made, f)
		told(f)
	}
}
