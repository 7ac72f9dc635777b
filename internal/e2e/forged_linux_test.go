package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/vtep"
	"golang.org/x/sys/unix"
)

// TestForgedTooBig: an ICMP error that quotes a packet of one of our own
// sockets to a real peer, but with an inner flow that was never sent, changes
// nothing. The same with the flow that was sent is believed.
func TestForgedTooBig(t *testing.T) {
	eachLone(t, "forged", func(t *testing.T, l *lone) {
		big := ipFrame(station(2), station(1), true, 0, [2]uint16{1000, 2000}, make([]byte, 1300))
		small := ipFrame(station(2), station(1), true, 0, [2]uint16{1000, 2000}, make([]byte, 100))
		l.device.send(big)
		var sent []byte // the outer packet
		for sent == nil {
			packet := l.wire.recv(deadline())
			if packet == nil {
				t.Fatal("nothing was sent")
			}
			if o, ok := parseOuter(packet); ok && bytes.HasSuffix(o.payload, big) {
				sent = bytes.Clone(packet[14:])
			}
		}
		outer := 20
		if l.v6 {
			outer = 40
		}
		tell := func(what string, quote []byte, done func(vtep.Status) bool) {
			t.Helper()
			must(t, l.icmp(quote[:outer+8+400], 1350))
			eventually(t, func() error {
				l.device.send(small) // sending hears
				l.heard()
				if s := l.program.status(); !done(s.Status) {
					return fmt.Errorf("%s: counters %+v, peers %+v", what, s.Counters, s.VNIs[0].Peers)
				}
				return nil
			})
		}
		forged := bytes.Clone(sent)
		forged[outer+8+8+14+40+1]++ // an inner port
		tell("forged", forged, func(s vtep.Status) bool { return s.Counters.PathMTUIgnored > 0 })
		if s := l.program.status(); s.VNIs[0].Peers[0].PathMTU != 0 || s.Counters.PathMTULowered != 0 || s.VNIs[0].MTU < 1430 {
			t.Fatalf("believed: %+v", s)
		}
		l.device.send(big)
		if o := l.heard(); !bytes.HasSuffix(o.payload, big) {
			t.Errorf("after the forged error: %d bytes sent", len(o.payload))
		}
		tell("true", sent, func(s vtep.Status) bool { return s.VNIs[0].Peers[0].PathMTU == 1350 })
		l.device.send(big)
		l.program.awaitCounters("answered", func(c vtep.Counters) bool { return c.TxTooBigAnswered == 1 && c.TxDropTooBig == 1 })
	})
}

// icmp sends a "fragmentation needed" or "packet too big" from the peer's host.
func (l *lone) icmp(quote []byte, mtu uint16) error { return tooBig(l.b, l.a.ip(l.v6), quote, mtu) }

// tooBig sends one from any host.
func tooBig(from *host, at netip.Addr, quote []byte, mtu uint16) error {
	domain, proto := unix.AF_INET, unix.IPPROTO_ICMP
	var to unix.Sockaddr
	b := append([]byte{3, 4, 0, 0, 0, 0, byte(mtu >> 8), byte(mtu)}, quote...)
	if at.Is4() {
		to = &unix.SockaddrInet4{Addr: at.As4()}
		binary.BigEndian.PutUint16(b[2:], checksum.Checksum(b, 0))
	} else {
		domain, proto, to = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{Addr: at.As16()}
		b[0], b[1] = 2, 0 // the kernel fills in the checksum
	}
	return from.Do(func() error {
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
		if err != nil {
			return err
		}
		return errors.Join(unix.Sendto(fd, b, 0, to), unix.Close(fd))
	})
}
