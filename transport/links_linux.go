package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// retryJoin is how long a membership waits that was refused for another reason
// than its device.
const retryJoin = 3 * time.Second

// link is an underlay device at one moment.
type link struct {
	index uint32 // 0 = it is not there
	err   error  // why nothing arrives by it
	own   []netip.Prefix
}

func (c *udpConn) inNamespace(f func() error) error { return namespace.Do(c.groups.cfg.Netns, f) }

// watchLinks begins to watch the devices, with the first group. groups.mu is
// held, and the thread is in the sockets' namespace.
func (c *udpConn) watchLinks() (err error) {
	if c.groups.events != nil {
		return nil
	}
	links, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		links.Close()
		return fmt.Errorf("watch the devices: %w", err)
	}
	// Both are of the library, which returns no error here.
	timeout := unix.NsecToTimeval(retryJoin.Nanoseconds())
	_ = events.SetReceiveTimeout(&timeout)
	c.groups.links, c.groups.events, c.groups.done = links, events, make(chan struct{})
	go c.watch(events, c.groups.done)
	return nil
}

// watch looks after the memberships until the Conn is closed. What the events
// say does not matter: they may be lost, and each is the occasion to look.
func (c *udpConn) watch(events *nl.NetlinkSocket, done chan<- struct{}) {
	defer close(done)
	for {
		_, _, err := events.Receive()
		if !c.checkGroups(errors.Is(err, unix.EAGAIN)) {
			return
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.ENOBUFS) {
			time.Sleep(100 * time.Millisecond) // unheard of; but do not spin
		}
	}
}

// checkGroups brings all memberships into line with their devices, or only
// those that wait to be tried again. It returns false when the Conn is closed.
func (c *udpConn) checkGroups(onlyWaiting bool) bool {
	type news struct {
		tell func(error)
		err  error
	}
	var told []news
	c.groups.mu.Lock()
	if c.groups.closed {
		c.groups.mu.Unlock()
		return false
	}
	seen := make(map[string]*link)
	look := func(device string) *link {
		if seen[device] == nil {
			seen[device] = c.look(device)
		}
		return seen[device]
	}
	if m := c.groups.known.Load(); m != nil {
		for _, g := range *m {
			if onlyWaiting && g.state.Err == nil {
				continue
			}
			if was := g.index.Load(); was != look(g.device).index {
				c.zones.forget()
			}
			if g.check(look(g.device)) && g.tell != nil {
				told = append(told, news{g.tell, g.state.Err})
			}
		}
	}
	if d := c.groups.cfg.Device; d != "" && !onlyWaiting {
		c.bindAgain(d, look(d).index)
	}
	c.groups.mu.Unlock()
	for _, n := range told {
		n.tell(n.err)
	}
	return true
}

// look asks about a device. groups.mu is held.
func (c *udpConn) look(device string) *link {
	found, err := c.groups.links.LinkByName(device)
	var missing netlink.LinkNotFoundError
	switch {
	case errors.As(err, &missing):
		return &link{err: ErrNoDevice}
	case err != nil:
		return &link{err: fmt.Errorf("underlay device %s: %w", device, err)}
	}
	l := &link{index: uint32(found.Attrs().Index)}
	const carrier = unix.IFF_UP | unix.IFF_LOWER_UP
	if found.Attrs().RawFlags&carrier != carrier {
		l.err = ErrDeviceDown
	}
	addrs, err := c.groups.links.AddrList(found, netlink.FAMILY_ALL)
	if err != nil {
		return l // gone this moment; another event follows
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			bits, _ := a.Mask.Size()
			l.own = append(l.own, netip.PrefixFrom(ip.Unmap(), bits))
		}
	}
	return l
}

// bindAgain binds the sockets to a device that was deleted and made anew.
func (c *udpConn) bindAgain(device string, index uint32) {
	if index == 0 {
		return
	}
	for _, s := range c.all {
		_ = s.fd.Do(func(fd uintptr) {
			if at, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX); err == nil && at != int(index) {
				// What cannot be bound goes on failing, and is counted.
				_ = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, device)
			}
		})
	}
}

// closeGroups ends all memberships and the watcher.
func (c *udpConn) closeGroups() {
	c.groups.mu.Lock()
	c.groups.closed = true
	if m := c.groups.known.Load(); m != nil {
		for _, g := range *m {
			g.sock.fd.Close()
		}
	}
	events, done := c.groups.events, c.groups.done
	if events != nil {
		events.Close()
		c.groups.links.Close()
	}
	c.groups.mu.Unlock()
	if done != nil {
		<-done
	}
}
