package tap

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// awaitMTU waits until the device says that its MTU is this.
func awaitMTU(t *testing.T, d Device, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for d.MTU() != want {
		if time.Now().After(deadline) {
			t.Fatalf("%s: MTU %d, want %d", d.Name(), d.MTU(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

// The MTU is what the device has now, whether we set it or somebody else, and
// there is one watch a namespace, however many devices, while there are some.
func TestMTUIsFollowed(t *testing.T) {
	host := namespace1(t)
	var devices []Device
	for i := range 3 {
		for _, offload := range []Features{0, AllFeatures} {
			d, err := Open(Config{Name: fmt.Sprintf("tap%d_%d", i, offload), Netns: host.Path(), MTU: 1450, Offload: offload})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { d.Close() })
			devices = append(devices, d)
		}
	}
	watches.mu.Lock()
	if n := len(watches.all); n != 1 {
		t.Errorf("%d watches for one namespace", n)
	}
	watches.mu.Unlock()
	for i, d := range devices {
		if d.MTU() != 1450 {
			t.Errorf("%s: MTU %d after opening, want 1450", d.Name(), d.MTU())
		}
		if err := host.SetMTU(d.Name(), 1300+i); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range devices {
		awaitMTU(t, d, 1300+i)
		if err := d.SetMTU(1400 + i); err != nil {
			t.Error(err)
		}
		link, err := host.Link(d.Name())
		if err != nil || link.MTU != 1400+i || d.MTU() != 1400+i {
			t.Errorf("%s: %+v, %v, and says %d, want %d", d.Name(), link, err, d.MTU(), 1400+i)
		}
		if err := d.SetMTU(10); err == nil {
			t.Errorf("%s: an MTU of 10 was taken", d.Name())
		}
		awaitMTU(t, d, 1400+i)
	}
	for _, d := range devices {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	watches.mu.Lock()
	defer watches.mu.Unlock()
	if n := len(watches.all); n != 0 {
		t.Errorf("%d watches without a device", n)
	}
	if err := devices[0].SetMTU(1300); err == nil {
		t.Error("a device that is gone took an MTU")
	}
}

// What is told about other devices, of their end, or of the time before ours was
// up, is of no interest.
func TestMTUOfOthers(t *testing.T) {
	var mtu atomic.Int32
	mtu.Store(1450)
	w := &linkWatch{mtus: map[int]*watchedMTU{7: {now: &mtu}}}
	flags := uint32(unix.IFF_UP)
	update := func(kind uint16, index, to int) {
		u := netlink.LinkUpdate{Link: &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index, MTU: to}}}
		u.Header.Type, u.IfInfomsg.Flags = kind, flags
		w.take(&u)
	}
	const newLink, delLink = 16, 17
	update(newLink, 8, 1000)
	update(delLink, 7, 1000)
	update(newLink, 7, 0)
	flags = 0
	update(newLink, 7, 1500)
	if mtu.Load() != 1450 {
		t.Errorf("MTU %d", mtu.Load())
	}
	for i, f := range []uint32{unix.IFF_UP, 0} {
		flags = f
		update(newLink, 7, 1000+i)
		if mtu.Load() != int32(1000+i) {
			t.Errorf("MTU %d, want %d", mtu.Load(), 1000+i)
		}
	}
}
