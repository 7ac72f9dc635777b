package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// mostHops bounds the memory that forged sources of packets could take.
const mostHops = 1 << 16

// hops knows the next hop of each VTEP that was sent to, and follows what
// changes in links, addresses, routes and neighbours.
type hops struct {
	local      [2]netip.Addr // IPv4, IPv6
	deviceName string        // the only one, if not empty
	zones      *zones
	changed    func()     // after every change but those of neighbours
	told       func(*hop) // after every change of a hop; nil: nobody wants to know
	keeps      bool       // hops that were not used for a while
	linked     func(int)  // after every change of a device; nil: nobody wants to know
	ttl        [2]uint8
	autoTTL    bool // ttl is for routes that say nothing

	handle *netlink.Handle
	query  *nl.SocketHandle
	events *nl.NetlinkSocket
	done   chan struct{}
	ended  sync.WaitGroup

	mu     sync.Mutex
	device int // index of deviceName, 0 without
	table  map[netip.AddrPort]*hop
	links  map[int]linkState // devices as last heard of
}

// linkState is what matters of a device.
type linkState struct {
	flags uint32
	mtu   int
	mac   string
}

// newHops begins to follow the network namespace of the calling thread.
func newHops(local [2]netip.Addr, device string, z *zones, changed func()) (_ *hops, err error) {
	p := &hops{
		local: local, deviceName: device, zones: z, changed: changed,
		done:  make(chan struct{}),
		table: make(map[netip.AddrPort]*hop),
		links: make(map[int]linkState),
	}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	const timeout = 5 * time.Second // the kernel answers at once, or never
	if p.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err = p.handle.SetSocketTimeout(timeout); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	// A socket with no groups is one to ask through.
	socket, err := nl.Subscribe(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	p.query = &nl.SocketHandle{Socket: socket}
	limit := unix.NsecToTimeval(int64(timeout))
	for _, set := range []func(*unix.Timeval) error{socket.SetSendTimeout, socket.SetReceiveTimeout} {
		if err = set(&limit); err != nil {
			return nil, fmt.Errorf("netlink: %w", err)
		}
	}
	// Before anything is looked up, so that no change is missed.
	p.events, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP)
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of routes and neighbours: %w", err)
	}
	// Where it overflows all the same, everything is looked up again.
	_ = p.events.SetReceiveBufferSize(1<<20, true)
	p.findDevice()
	return p, nil
}

// start begins to follow changes.
func (p *hops) start() { p.ended.Go(p.watch) }

// get returns the next hop of a VTEP, looking it up at the first time.
func (p *hops) get(to netip.AddrPort) *hop {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.table[to]
	if h == nil {
		if len(p.table) >= mostHops {
			p.forget(func(*hop) bool { return true })
		}
		h = &hop{to: to}
		p.resolve(h)
		p.table[to] = h
	}
	h.used.Store(true)
	return h
}

// forget removes hops. p.mu is held.
func (p *hops) forget(which func(*hop) bool) {
	for to, h := range p.table {
		if which(h) {
			delete(p.table, to)
			h.dead.Store(true)
		}
	}
}

// refresh looks every next hop up again that was used since the last time.
func (p *hops) refresh() {
	p.mu.Lock()
	p.findDevice()
	p.forget(func(h *hop) bool { return !h.used.Swap(false) && !p.keeps })
	all := make([]*hop, 0, len(p.table))
	for _, h := range p.table {
		all = append(all, h)
	}
	p.mu.Unlock()
	p.changed()
	for _, h := range all {
		// Let senders in between that need a new one.
		p.mu.Lock()
		p.resolve(h)
		p.mu.Unlock()
	}
}

// findDevice finds the index of the device: it may be another one of that name
// by now. p.mu is held, or nobody else knows p yet.
func (p *hops) findDevice() {
	if p.deviceName == "" {
		return
	}
	if link, err := p.handle.LinkByName(p.deviceName); err == nil {
		p.device = link.Attrs().Index
	}
}

// watch follows the kernel's messages until close.
func (p *hops) watch() {
	var dirty bool
	var rested time.Time // when looking everything up is due again
	for {
		var timeout time.Duration
		if dirty {
			start := time.Now()
			if timeout = rested.Sub(start); timeout <= 0 {
				dirty = false
				p.refresh()
				// Routes may change all the time, with a routing daemon that has
				// many: a tenth of the time is enough for it.
				end := time.Now()
				rested = end.Add(9 * end.Sub(start))
				continue
			}
		}
		limit := unix.NsecToTimeval(int64(timeout)) // 0: none
		_ = p.events.SetReceiveTimeout(&limit)
		messages, from, err := p.events.Receive()
		select {
		case <-p.done:
			return
		default:
		}
		switch {
		case err == nil:
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
			continue
		default:
			// ENOBUFS: some were lost.
			dirty = true
			rested = time.Now().Add(10 * time.Millisecond)
			continue
		}
		if from.Pid != nl.PidKernel {
			continue
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
				if n, err := netlink.NeighDeserialize(m.Data); err == nil && (n.Family == unix.AF_INET || n.Family == unix.AF_INET6) {
					p.mu.Lock()
					p.hear(n, m.Header.Type == unix.RTM_DELNEIGH)
					p.mu.Unlock()
				}
			case unix.RTM_NEWLINK, unix.RTM_DELLINK:
				if p.linked != nil && len(m.Data) >= unix.SizeofIfInfomsg {
					p.linked(int(nl.DeserializeIfInfomsg(m.Data).Index))
				}
				dirty = p.linkChanged(m.Data, m.Header.Type == unix.RTM_DELLINK) || dirty
			default:
				dirty = true
			}
		}
	}
}

// linkChanged says whether something changed of a device that matters here:
// devices tell of themselves often.
func (p *hops) linkChanged(data []byte, gone bool) bool {
	link, err := netlink.LinkDeserialize(nil, data)
	if err != nil {
		return true
	}
	a := link.Attrs()
	now := linkState{flags: a.RawFlags & (unix.IFF_UP | unix.IFF_RUNNING), mtu: a.MTU, mac: string(a.HardwareAddr)}
	was, known := p.links[a.Index]
	if gone {
		delete(p.links, a.Index)
		return true
	}
	p.links[a.Index] = now
	return !known || was != now
}

// close ends watch and frees what newHops opened.
func (p *hops) close() {
	close(p.done)
	if p.events != nil {
		p.events.Close()
	}
	p.ended.Wait()
	if p.query != nil {
		p.query.Close()
	}
	if p.handle != nil {
		p.handle.Close()
	}
}
