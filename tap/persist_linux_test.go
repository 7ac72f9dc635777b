package tap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A device that persists stays with its index, addresses and bridge, and the next
// one carries frames through it, whatever offloads either has.
func TestPersist(t *testing.T) {
	for _, c := range []struct{ first, next Features }{
		{AllFeatures, AllFeatures}, {AllFeatures, 0}, {0, AllFeatures}, {0, 0}, {AllFeatures, VnetHeader},
	} {
		for _, queues := range []int{1, 3} {
			t.Run(fmt.Sprintf("%v then %v, %d queues", c.first, c.next, queues), func(t *testing.T) {
				ns := namespace1(t)
				must(t, ns.Bridge("br0"))
				cfg := Config{
					Name: "tap0", Adopt: true, Queues: queues, MTU: 1400, Bridge: "br0", Offload: c.first,
					MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24")},
				}
				d := openIn(t, ns, cfg)
				must(t, d.Persist(true))
				index := d.index
				must(t, d.Close())
				must(t, ns.AddAddr("tap0", "10.0.1.101/24")) // somebody's own

				cfg.Offload = c.next
				d = openIn(t, ns, cfg)
				if d.index != index {
					t.Errorf("index %d, was %d", d.index, index)
				}
				link, err := ns.Link("tap0")
				must(t, err)
				if !link.Up || link.Bridge != "br0" || link.MTU != 1400 || link.MAC != "02:00:00:00:00:09" ||
					!slices.Contains(link.Addrs, "10.0.1.100/24") || !slices.Contains(link.Addrs, "10.0.1.101/24") {
					t.Errorf("link %+v", link)
				}
				carriesBothWays(t, ns, d)
				must(t, d.Close())
				if _, err := ns.Link("tap0"); err != nil {
					t.Errorf("after the second close: %v", err)
				}

				d = openIn(t, ns, cfg)
				must(t, d.Persist(false))
				must(t, d.Close())
				if _, err := ns.Link("tap0"); err == nil {
					t.Error("it is still there")
				}
			})
		}
	}
}

// carriesBothWays sends a large TCP segment's worth of bytes each way and looks
// at what comes: frames, and not the header in front of them.
func carriesBothWays(t *testing.T, ns *netlab.Namespace, d *linuxDevice) {
	t.Helper()
	s := sniff(t, ns, d.Name())
	frame := append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xB5}, make([]byte, 1000)...)
	for i := range frame[14:] {
		frame[14+i] = byte(i)
	}
	s.send(t, frame)
	found := false
	for range 100 {
		for _, r := range d.Readers() {
			var b Batch
			must(t, r.(Pollable).TryRead(&b))
			for _, f := range b.Frames {
				found = found || slices.Equal(f.Bytes, frame)
			}
		}
		if found {
			break
		}
	}
	if !found {
		t.Error("what the host sent does not come as it was sent")
	}
	if _, err := d.NewWriter(0).Write([]Vector{{Parts: [][]byte{frame}}}); err != nil {
		t.Error(err)
	}
}

// What is no device to go on with is refused, and left as it is.
func TestAdoptRefuses(t *testing.T) {
	ns := namespace1(t)
	must(t, ns.Bridge("br0"))
	must(t, ns.Do(func() error {
		for name, mode := range map[string]netlink.TuntapMode{"tun0": netlink.TUNTAP_MODE_TUN, "single": netlink.TUNTAP_MODE_TAP} {
			if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: mode, Flags: netlink.TUNTAP_NO_PI, Queues: 0}); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		return nil
	}))
	for _, queues := range []int{1, 2} {
		d := openIn(t, ns, Config{Name: fmt.Sprintf("open%d", queues), Adopt: true, Queues: queues})
		must(t, d.Persist(true))
	}
	for _, c := range []struct {
		name   string
		queues int
		want   error
	}{
		{"br0", 1, ErrForeign}, {"lo", 1, ErrForeign}, {"tun0", 1, ErrForeign}, {"single", 2, ErrForeign},
		{"open1", 1, ErrBusy}, {"open2", 1, ErrBusy}, {"open2", 2, ErrBusy},
	} {
		before, err := ns.Links()
		must(t, err)
		d, err := Open(Config{Name: c.name, Netns: ns.Path(), Adopt: true, Queues: c.queues, Offload: AllFeatures})
		if err == nil {
			d.Close()
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s with %d queues: %v, want %v", c.name, c.queues, err, c.want)
		}
		if c.name != "single" {
			if err := Remove(c.name, ns.Path()); !errors.Is(err, c.want) {
				t.Errorf("remove %s: %v, want %v", c.name, err, c.want)
			}
		}
		after, err := ns.Links()
		must(t, err)
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%s: before\n%+v\nafter\n%+v", c.name, before, after)
		}
	}
	if _, err := Open(Config{Name: "single", Netns: ns.Path()}); !errors.Is(err, ErrExists) {
		t.Errorf("without Adopt: %v", err)
	}
	must(t, Remove("single", ns.Path()))
	if _, err := ns.Link("single"); err == nil {
		t.Error("it was removed and is there")
	}
}

// A device is gone on with by copies of its descriptors: two have it open then,
// and it stays when one closes.
func TestInherit(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		cfg := Config{Name: "tap0", Netns: ns.Path(), Queues: 2, MTU: 1400, Offload: offload}
		first := openIn(t, ns, cfg)
		h, fds := first.HandOver()
		copies := func() (list []int) {
			for _, fd := range fds {
				n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
				must(t, err)
				list = append(list, n)
			}
			return list
		}
		other := cfg
		other.Offload = AllFeatures
		if offload != 0 {
			other.Offload = 0
		}
		named, fewer, elsewhere := cfg, cfg, cfg
		named.Name = "tap1"
		fewer.Queues = 1
		elsewhere.Netns = namespace1(t).Path()
		for what, c := range map[string]Config{"offload": other, "name": named, "queues": fewer, "namespace": elsewhere} {
			if d, err := Inherit(c, h, copies()); err == nil {
				d.Close()
				t.Errorf("another %s is accepted", what)
			}
		}
		cfg.MTU = 1300
		cfg.Addrs = []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24")}
		d, err := Inherit(cfg, h, copies())
		must(t, err)
		t.Cleanup(func() { d.Close() })
		if d.MTU() != 1300 || d.Features() != first.Features() || !slices.Equal(d.MAC(), first.MAC()) {
			t.Errorf("MTU %d, features %v, MAC %v", d.MTU(), d.Features(), d.MAC())
		}
		must(t, first.Close())
		carriesBothWays(t, ns, d.(*linuxDevice))
		must(t, d.Close())
		if _, err := ns.Link("tap0"); err == nil {
			t.Error("it is still there")
		}
	})
}
