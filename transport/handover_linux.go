package transport

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/govxlan/govxlan/internal/descriptor"
	"golang.org/x/sys/unix"
)

var _ Transferable = (*udpConn)(nil)

func (c *udpConn) HandOver() (Handover, []int) {
	h := Handover{Transport: c.String(), Config: c.groups.cfg, Locals: c.locals}
	var fds []int
	number := make(map[*socket]int)
	add := func(s *socket) int {
		i, ok := number[s]
		if !ok {
			i = len(fds)
			number[s] = i
			fds = append(fds, s.fd.Number())
			h.Sockets = append(h.Sockets, SocketHandover{Port: s.port, V6: s.v6})
		}
		return i
	}
	addAll := func(set []*socket) (list []int) {
		for _, s := range set {
			list = append(list, add(s))
		}
		return list
	}
	h.Receivers = addAll(c.receivers)
	h.Senders = [2][]int{addAll(c.senders[0]), addAll(c.senders[1])}
	h.Unfragmented = addAll(c.unfragmented)
	c.groups.mu.Lock()
	defer c.groups.mu.Unlock()
	if m := c.groups.known.Load(); m != nil {
		for a, g := range *m {
			h.Groups = append(h.Groups, GroupHandover{
				Group: a, Device: g.device, Socket: add(g.sock), Joined: g.joined, Joins: g.state.Joins,
			})
		}
	}
	slices.SortFunc(h.Groups, func(a, b GroupHandover) int { return a.Group.Compare(b.Group) })
	return h, fds
}

// InheritUDP is ListenUDP with the sockets of another process, by copies of its
// descriptors, which it takes over in any case: on failure they are closed. The
// other process may go on with its own until then. What arrives is queued in the
// sockets and belongs to whoever reads it.
//
// Errors: *DifferError when cfg asks for other sockets than these.
func InheritUDP(cfg UDPConfig, h Handover, fds []int) (_ Conn, err error) {
	if err := cfg.complete(); err != nil {
		closeAll(fds)
		return nil, err
	}
	c := newUDPConn(cfg)
	sockets := make([]*socket, len(fds))
	for i, fd := range fds {
		sockets[i] = &socket{fd: descriptor.New(fd, "udp"), zones: &c.zones}
	}
	c.all = sockets // for Close
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := h.check(len(fds)); err != nil {
		return nil, err
	}
	if err := differ(h.Config, c.groups.cfg); err != nil {
		return nil, err
	}
	c.locals = h.Locals
	pick := func(numbers []int) (set []*socket) {
		for _, n := range numbers {
			set = append(set, sockets[n])
		}
		return set
	}
	c.receivers = pick(h.Receivers)
	c.senders = [2][]*socket{pick(h.Senders[0]), pick(h.Senders[1])}
	c.unfragmented = pick(h.Unfragmented)
	c.inherited = make(map[netip.Addr]inheritedGroup)
	for _, g := range h.Groups {
		c.inherited[g.Group] = inheritedGroup{g, sockets[g.Socket]}
	}
	// Those of groups are theirs.
	c.all = nil
	for i, s := range sockets {
		if !slices.ContainsFunc(h.Groups, func(g GroupHandover) bool { return g.Socket == i }) {
			c.all = append(c.all, s)
		}
	}
	err = c.inNamespace(func() error {
		for i, s := range sockets {
			if err := c.prepareInherited(s, h.Sockets[i]); err != nil {
				return fmt.Errorf("socket of port %d: %w", h.Sockets[i].Port, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// check refuses a description that does not describe so many descriptors.
func (h *Handover) check(fds int) error {
	used := slices.Concat(h.Receivers, h.Senders[0], h.Senders[1], h.Unfragmented)
	for _, g := range h.Groups {
		used = append(used, g.Socket)
	}
	if len(h.Sockets) != fds || len(h.Locals) == 0 || len(h.Receivers) == 0 || len(used) == 0 ||
		slices.Min(used) < 0 || slices.Max(used) >= fds {
		return fmt.Errorf("%d descriptors came with a description of %d sockets", fds, len(h.Sockets))
	}
	if h.Transport != "udp" {
		return fmt.Errorf("the transport there is %q: %w", h.Transport, errors.ErrUnsupported)
	}
	return nil
}

// prepareInherited sets what this version wants of a socket, most of which is
// set already, and finds out what there is to know of it.
func (c *udpConn) prepareInherited(s *socket, h SocketHandover) (failed error) {
	s.port, s.v6 = h.Port, h.V6
	cfg := c.groups.cfg
	s.single = cfg.single(s.v6)
	if slices.Contains(c.unfragmented, s) {
		cfg.DontFragment = true
	}
	err := s.fd.Do(func(fd uintptr) {
		var port int
		if port, failed = boundTo(int(fd)); failed != nil {
			return
		}
		if port != int(h.Port) {
			failed = fmt.Errorf("it is bound to %d", port)
			return
		}
		failed = setOptions(int(fd), &cfg, s.v6, 0, true)
	})
	if err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	if slices.Contains(c.receivers, s) || c.inheritedBy(s) {
		return c.prepareReceiver(&cfg, s)
	}
	return refuseAll(s)
}

func (c *udpConn) inheritedBy(s *socket) bool {
	for _, g := range c.inherited {
		if g.sock == s {
			return true
		}
	}
	return false
}

// boundTo returns the port of a UDP socket.
func boundTo(fd int) (int, error) {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0, os.NewSyscallError("getsockopt SO_PROTOCOL", err)
	}
	if protocol != unix.IPPROTO_UDP {
		return 0, fmt.Errorf("it is of protocol %d and not UDP", protocol)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch a := at.(type) {
	case *unix.SockaddrInet4:
		return a.Port, nil
	case *unix.SockaddrInet6:
		return a.Port, nil
	}
	return 0, fmt.Errorf("its address is a %T", at)
}

// inheritedGroup is a membership that nobody has asked for yet.
type inheritedGroup struct {
	GroupHandover
	sock *socket
}

// take gives a membership that was inherited to whoever asks for it. groups.mu
// is held.
func (c *udpConn) take(group netip.Addr, device string) (inheritedGroup, bool) {
	g, ok := c.inherited[group]
	if !ok {
		return g, false
	}
	delete(c.inherited, group)
	if g.Device != device {
		g.sock.fd.Close()
		return g, false
	}
	return g, true
}

func (c *udpConn) Settle() {
	c.groups.mu.Lock()
	defer c.groups.mu.Unlock()
	for _, g := range c.inherited {
		g.sock.fd.Close()
	}
	clear(c.inherited)
}
