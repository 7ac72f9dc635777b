package vtep

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/transport"
	"golang.org/x/sys/unix"
)

// Groups come and go while workers serve them and others: what is sent to a
// group arrives while it is joined, and nothing hangs, whoever is in the middle
// of a batch when a group is left.
func TestGroupServedByWorkers(t *testing.T) {
	loopback := netip.MustParseAddr("127.0.0.1")
	eachWorker(t, func(t *testing.T, noRing bool) {
		conn, err := transport.ListenUDP(transport.UDPConfig{Local: []netip.Addr{loopback}, Port: 24789})
		if err != nil {
			t.Fatal(err)
		}
		e, err := New(Config{Conn: conn, NoRing: noRing})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		j := newJack(t)
		g := Group{Addr: netip.AddrPortFrom(groupOne.Addr(), 24789), Device: "lo"}
		if err := e.AddVNI(VNIConfig{VNI: 10, Device: j, Groups: []Group{g}}); err != nil {
			t.Fatal(err)
		}
		go func() { result <- e.Run(ctx) }()

		// From another address of this host, which our own does not own.
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		control, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := control.Control(func(fd uintptr) {
			if err := unix.SetsockoptIPMreqn(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: 1}); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Fatal(err)
		}
		datagram := encap(10, raw(broadcast, alice, 64))
		say := func() {
			t.Helper()
			if _, err := c.WriteTo(datagram, net.UDPAddrFromAddrPort(g.Addr)); err != nil {
				t.Fatal(err)
			}
		}
		for range 50 {
			before := j.vectors.Load()
			until(t, "what is sent to the group does not arrive", func() bool {
				say()
				return j.vectors.Load() > before
			})
			for range 100 { // the worker shall be busy
				say()
			}
			if err := e.DelGroup(10, g.Addr); err != nil {
				t.Fatal(err)
			}
			if err := e.AddGroup(10, g); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-result; err != nil {
			t.Error(err)
		}
	})
}
