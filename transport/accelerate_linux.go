package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/govxlan/govxlan/internal/namespace"
	"golang.org/x/sys/unix"
)

var _ Accelerable = (*udpConn)(nil)

// Acceleration follows the ways to VTEPs for who sends beside a Conn.
type Acceleration struct {
	hops     *hops
	underlay Underlay
	end      int // an eventfd
	ended    sync.WaitGroup
}

// Accelerate begins to follow routes and neighbours.
func (c *udpConn) Accelerate(told func(NextHop), linked func(int)) (*Acceleration, error) {
	a := &Acceleration{underlay: Underlay{Netns: c.zones.netns, DontFragment: c.dontFragment}}
	var local [2]netip.Addr
	for _, at := range c.locals {
		local[family(at.Addr())] = at.Addr()
		if at.Addr().Is4() {
			a.underlay.Local = at
		}
	}
	if !local[0].IsValid() {
		return nil, errors.New("the underlay is not of IPv4")
	}
	for _, s := range c.senders[0] {
		a.underlay.SourcePorts = append(a.underlay.SourcePorts, s.port)
	}
	err := namespace.Do(c.zones.netns, func() (err error) {
		a.hops, err = newHops(local, c.groups.cfg.Device, &c.zones, func() {})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("follow routes: %w", err)
	}
	h := a.hops
	h.keeps, h.autoTTL = true, c.ttl == TTLAuto
	for f := range h.ttl {
		if h.ttl[f] = uint8(c.ttl); h.autoTTL {
			h.ttl[f] = 64
		}
	}
	if h.autoTTL {
		if h.ttl[0], err = defaultTTL(c.receivers[0], false, TTLAuto); err != nil {
			h.close()
			return nil, err
		}
	}
	if a.end, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		h.close()
		return nil, os.NewSyscallError("eventfd", err)
	}
	h.told = func(h *hop) { told(h.next()) }
	h.linked = linked
	h.start()
	a.ended.Go(func() { a.hear(c) })
	return a, nil
}

// Underlay is how the Conn sends.
func (a *Acceleration) Underlay() Underlay { return a.underlay }

// Follow begins to follow the way to a VTEP.
func (a *Acceleration) Follow(to netip.AddrPort) { a.hops.get(to) }

// Forget ends that.
func (a *Acceleration) Forget(to netip.AddrPort) {
	a.hops.mu.Lock()
	defer a.hops.mu.Unlock()
	a.hops.forget(func(h *hop) bool { return h.to == to })
}

// Close ends all of it.
func (a *Acceleration) Close() {
	a.hops.close()
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // above 0 in any byte order
	_, _ = unix.Write(a.end, one[:])
	a.ended.Wait()
	unix.Close(a.end)
}

// hear reads what routers say to the sending sockets. Otherwise that would wait
// for the next datagram that the Conn sends itself, which may be long in coming.
func (a *Acceleration) hear(c *udpConn) {
	s := c.NewSender().(*udpSender)
	polled := []unix.PollFd{{Fd: int32(a.end), Events: unix.POLLIN}}
	sockets := []*socket{nil}
	for _, set := range [][]*socket{c.senders[0], c.unfragmented} {
		for _, sock := range set {
			_ = sock.fd.Do(func(fd uintptr) { polled = append(polled, unix.PollFd{Fd: int32(fd)}) }) // POLLERR goes without saying
			sockets = append(sockets, sock)
		}
	}
	for {
		if _, err := unix.Poll(polled, -1); err != nil && err != unix.EINTR || polled[0].Revents != 0 {
			return
		}
		for i := range polled {
			if polled[i].Revents == 0 {
				continue
			}
			if polled[i].Revents&unix.POLLNVAL != 0 {
				return
			}
			s.sock = sockets[i]
			s.hearQueue(uintptr(polled[i].Fd))
			// What is left of it is of no use to anyone.
			_, _ = unix.GetsockoptInt(int(polled[i].Fd), unix.SOL_SOCKET, unix.SO_ERROR)
		}
	}
}

// next is what others may know of a hop.
func (h *hop) next() NextHop {
	s := h.state.Load()
	n := NextHop{To: h.to.Addr(), TTL: s.ttl}
	if s.err == nil && s.direct && s.paths == nil && s.via.Is4() {
		n.Device, n.Via, n.MTU = s.index, s.via, s.mtu
	}
	return n
}

// SetGRO switches UDP_GRO of the receiving sockets.
func (c *udpConn) SetGRO(on bool) {
	value := 0
	if on {
		value = 1
	}
	if c.groups.cfg.NoGRO {
		return
	}
	for _, s := range c.receivers {
		_ = s.fd.Do(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO, value) })
	}
}
