package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// churn changes what does not concern the traffic, many times a second.
type churn struct {
	site   *site
	random *rand.Rand
	// busy keeps an endpoint to a fault while that makes it deaf, or replaces it.
	busy    []chan struct{}
	changes atomic.Uint64
	refused atomic.Uint64 // by an endpoint that was being replaced
}

const churnEvery = 30 * time.Millisecond

func (c *churn) run(ctx context.Context) {
	tick := time.NewTicker(churnEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h := c.site.hosts[c.random.IntN(kernel)]
		select {
		case c.busy[h.number] <- struct{}{}:
		default:
			continue
		}
		err := c.one(ctx, h)
		<-c.busy[h.number]
		if err == nil {
			c.changes.Add(1)
		} else if ctx.Err() == nil {
			c.refused.Add(1)
		}
	}
}

// one makes one change, and takes it back at once or with the next of its kind.
func (c *churn) one(ctx context.Context, h *host) error {
	client := h.client
	n := c.random.Uint32()
	mac := vxlan.MAC{0x02, 0xAA, 0, byte(n >> 16), byte(n >> 8), byte(n)}
	absent := control.Destination{VTEP: netip.AddrFrom4([4]byte{192, 168, 52, 100 + byte(n%100)})}
	this := vxlan.VNI(vni)
	fdb := func(verb string, mac vxlan.MAC) error {
		_, err := client.ChangeFDB(ctx, control.FDBChange{Verb: verb, VNI: &this, MAC: mac, Destination: absent})
		return err
	}
	switch n >> 24 % 7 {
	case 0: // a VNI comes and goes
		v := vxlan.VNI(5000 + n%50)
		_, err := client.ChangeVNI(ctx, control.VNIWish{Verb: "add", Options: map[string][]string{
			"vni": {v.String()}, "peer": {c.site.hosts[kernel].vtep.String()},
		}})
		if err != nil {
			return err
		}
		_, err = client.ChangeVNI(ctx, control.VNIWish{Verb: "del", VNI: &v})
		return err
	case 1: // a peer that is not there
		return errors.Join(fdb("append", vxlan.MAC{}), fdb("del", vxlan.MAC{}))
	case 2: // an entry
		return errors.Join(fdb("add", mac), fdb("del", mac))
	case 3: // a neighbour
		ip := netip.AddrFrom4([4]byte{10, 0, 1, 200 + byte(n%50)})
		for _, verb := range []string{"replace", "del"} {
			if _, err := client.ChangeNeighbour(ctx, control.NeighbourChange{Verb: verb, VNI: &this, Neighbour: vtep.Neighbour{IP: ip, MAC: mac}}); err != nil {
				return err
			}
		}
		return nil
	case 4: // who asks
		_, err := client.Stats(ctx)
		return err
	case 5: // who watches
		stream, err := client.Capture(ctx, control.CaptureWish{Count: 5})
		if err != nil {
			return err
		}
		return stream.Close()
	default: // new stations
		return c.stations(h, mac)
	}
}

// stations has a host send frames of stations that nobody knows.
func (c *churn) stations(h *host, mac vxlan.MAC) error {
	return h.Do(func() error {
		link, err := net.InterfaceByName(h.device)
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := make([]byte, 64)
		for i := range 6 {
			frame[i] = 0xFF
		}
		frame[12], frame[13] = 0x88, 0xB5 // for experiments
		for i := range 20 {
			copy(frame[6:], mac[:])
			frame[11] += byte(i)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}); err != nil {
				return fmt.Errorf("send from a new station: %w", err)
			}
		}
		return nil
	})
}
