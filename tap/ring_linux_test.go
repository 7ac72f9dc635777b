package tap

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/uring"
	"golang.org/x/sys/unix"
)

// newRing returns a ring for this goroutine, or ends the test as passed where
// the kernel has none: there nothing uses WriteRing.
func newRing(t testing.TB) *uring.Ring {
	t.Helper()
	runtime.LockOSThread()
	ring, err := uring.New(ringWrites, 2*ringWrites, uring.OpWritev)
	if errors.Is(err, uring.ErrUnsupported) {
		runtime.UnlockOSThread()
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		must(t, ring.Close())
		runtime.UnlockOSThread()
	})
	return ring
}

// What goes through a ring arrives as what goes without one: all of it, in its
// order, superframes and what the device has to be spared.
func TestWriteRing(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, w, ring := sniff(t, ns, "tap0"), d.NewWriter(0).(RingWriter), newRing(t)
		for _, count := range []int{1, 2, 63, 64, 65, 300} {
			var frames []Vector
			for i := range count {
				f := testFrame(60+i, i)
				parts := [][]byte{f}
				if i%3 == 1 {
					parts = [][]byte{f[:20], nil, f[20:]}
				}
				v := Vector{Parts: parts}
				if i%7 == 3 {
					// Plain devices have to be spared this: it is completed
					// by us, and in its turn.
					v.Header = Header{Flags: NeedsChecksum, ChecksumStart: 34, ChecksumOffset: 6}
				}
				frames = append(frames, v)
			}
			must(t, w.WriteRing(ring, frames, func(v *Vector, err error) { t.Errorf("failed: %v", err) }))
			for i := range count {
				got, want := s.receive(t), testFrame(60+i, i)
				if !bytes.Equal(got[:34], want[:34]) || len(got) != len(want) {
					t.Fatalf("%d frames, number %d:\n got %x\nwant %x", count, i, got, want)
				}
			}
		}
	})
}

// Frames that a device does not take are named, the others not.
func TestWriteRingFails(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, w, ring := sniff(t, ns, "tap0"), d.NewWriter(0).(RingWriter), newRing(t)
		frames := []Vector{
			{Parts: [][]byte{testFrame(60, 1)}},
			{Parts: [][]byte{testFrame(60, 2)[:5]}}, // shorter than a header
			{Parts: [][]byte{testFrame(60, 3)}},
		}
		var failed []*Vector
		must(t, w.WriteRing(ring, frames, func(v *Vector, err error) {
			failed = append(failed, v)
			if !errors.Is(err, syscall.EINVAL) {
				t.Errorf("a frame of 5 bytes: %v, want EINVAL", err)
			}
		}))
		if len(failed) != 1 || failed[0] != &frames[1] {
			t.Errorf("%d failed, want the second alone", len(failed))
		}
		for _, i := range []int{1, 3} {
			if got := s.receive(t); !bytes.Equal(got, testFrame(60, i)) {
				t.Errorf("frame %d: %x", i, got)
			}
		}

		// A superframe of a kind that is no kind is taken apart, or refused.
		odd := []Vector{{Header: Header{GSO: 77, SegmentBytes: 10}, Parts: [][]byte{testFrame(60, 4)}}, {Parts: [][]byte{testFrame(60, 5)}}}
		count := 0
		must(t, w.WriteRing(ring, odd, func(v *Vector, _ error) {
			if count++; v != &odd[0] {
				t.Error("the good frame failed")
			}
		}))
		if count != 1 {
			t.Errorf("%d failed, want the odd one", count)
		}
		if got := s.receive(t); !bytes.Equal(got, testFrame(60, 5)) {
			t.Errorf("the good frame: %x", got)
		}

		must(t, ns.SetDown("tap0"))
		count = 0
		must(t, w.WriteRing(ring, frames[:1], func(_ *Vector, err error) {
			if count++; !errors.Is(err, unix.EIO) {
				t.Errorf("device down: %v, want EIO", err)
			}
		}))
		if count != 1 {
			t.Error("a device that is down took a frame")
		}
	})
}

// Of a device that was closed all frames are named, each once.
func TestWriteRingOfClosedDevice(t *testing.T) {
	ns := namespace1(t)
	d := openIn(t, ns, Config{Name: "tap0"})
	w, ring := d.NewWriter(0).(RingWriter), newRing(t)
	must(t, d.Close())
	frames := make([]Vector, 100)
	for i := range frames {
		frames[i].Parts = [][]byte{testFrame(60, i)}
	}
	failed := make(map[*Vector]int)
	if err := w.WriteRing(ring, frames, func(v *Vector, _ error) { failed[v]++ }); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v", err)
	}
	for i := range frames {
		if n := failed[&frames[i]]; n != 1 {
			t.Errorf("frame %d failed %d times", i, n)
		}
	}
}

// Nothing is allocated per frame.
func TestWriteRingAllocatesNothing(t *testing.T) {
	ns := namespace1(t)
	d := openIn(t, ns, Config{Name: "tap0", Offload: AllFeatures})
	w, ring := d.NewWriter(0).(RingWriter), newRing(t)
	var frames []Vector
	for i := range 100 {
		frames = append(frames, Vector{Parts: [][]byte{testFrame(64, i)}})
	}
	failed := func(*Vector, error) { t.Error("failed") }
	if n := testing.AllocsPerRun(100, func() {
		if err := w.WriteRing(ring, frames, failed); err != nil {
			t.Error(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
