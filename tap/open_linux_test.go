package tap

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestOpenConfigures(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		must(t, ns.Bridge("br0"))
		mac := net.HardwareAddr{2, 0x42, 1, 2, 3, 4}
		d := openIn(t, ns, Config{
			Name: "fifteen-letters", MTU: 1450, MAC: mac, Bridge: "br0", Queues: 2, Offload: offload,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24"), netip.MustParsePrefix("fd00:1::100/64")},
		})
		if d.Name() != "fifteen-letters" || d.MTU() != 1450 || !slices.Equal(d.MAC(), mac) || len(d.Readers()) != 2 {
			t.Errorf("device says name %q, MTU %d, MAC %v, %d queues", d.Name(), d.MTU(), d.MAC(), len(d.Readers()))
		}
		link, err := ns.Link("fifteen-letters")
		must(t, err)
		if link.Kind != "tuntap" && link.Kind != "tun" {
			t.Errorf("kind %q", link.Kind)
		}
		if link.MTU != 1450 || link.MAC != mac.String() || !link.Up || link.Bridge != "br0" {
			t.Errorf("link %+v", link)
		}
		for _, a := range []string{"10.0.1.100/24", "fd00:1::100/64"} {
			if !slices.Contains(link.Addrs, a) {
				t.Errorf("addresses %v, want %v among them", link.Addrs, a)
			}
		}
	})
}

func TestOpenDefaults(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		if d.MTU() != 1500 || len(d.MAC()) != 6 || d.MAC()[0]&1 != 0 || len(d.Readers()) != 1 {
			t.Errorf("MTU %d, MAC %v, %d queues", d.MTU(), d.MAC(), len(d.Readers()))
		}
		link, err := ns.Link("tap0")
		must(t, err)
		if !link.Up || link.Bridge != "" {
			t.Errorf("link %+v", link)
		}
	})
}

// A namespace can be named as under /run/netns too.
func TestOpenInNamedNamespace(t *testing.T) {
	ns := namespace1(t)
	d, err := Open(Config{Name: "tap0", Netns: ns.Name()})
	must(t, err)
	defer d.Close()
	if _, err := ns.Link("tap0"); err != nil {
		t.Error(err)
	}
	// The same name in another namespace is another device.
	other := namespace1(t)
	openIn(t, other, Config{Name: "tap0"})
}

func TestFeaturesInForce(t *testing.T) {
	ns := namespace1(t)
	for _, tc := range []struct{ want, got Features }{
		{0, 0},
		{AllFeatures, AllFeatures},
		{AllFeatures &^ USO, AllFeatures &^ USO},
		{VnetHeader | Checksum | TSO4, VnetHeader | Checksum | TSO4},
		{VnetHeader | Checksum, VnetHeader | Checksum},
		{Checksum, VnetHeader | Checksum},
		{VnetHeader, VnetHeader},
		{TSO4, VnetHeader}, // segmentation needs checksums
	} {
		d := openIn(t, ns, Config{Offload: tc.want})
		got := d.Features()
		// Kernels before 6.2 have no USO.
		if got != tc.got && got != tc.got&^USO {
			t.Errorf("wanted %b: %b in force, want %b", tc.want, got, tc.got)
		}
		if (got == 0) != (d.header == 0) {
			t.Errorf("wanted %b: header of %d bytes", tc.want, d.header)
		}
		must(t, d.Close())
	}
}

func TestOpenRefuses(t *testing.T) {
	ns := namespace1(t)
	must(t, ns.Bridge("br0"))
	taken := openIn(t, ns, Config{Name: "taken"})
	before, err := ns.Links()
	must(t, err)
	for _, tc := range []struct {
		name string
		cfg  Config
		want error
		says string
	}{
		{"name taken by a TAP", Config{Name: "taken"}, ErrExists, "taken"},
		{"name taken by a bridge", Config{Name: "br0"}, ErrExists, "br0"},
		{"name taken by the loopback", Config{Name: "lo"}, ErrExists, "lo"},
		{"no name", Config{Name: "-"}, nil, "1 to 15 bytes"},
		{"16 bytes", Config{Name: "sixteen-letters!"}, nil, "1 to 15 bytes"},
		{"slash", Config{Name: "a/b"}, nil, "a/b"},
		{"space", Config{Name: "a b"}, nil, "a b"},
		{"colon", Config{Name: "a:1"}, nil, "a:1"},
		{"template", Config{Name: "tap%d"}, nil, "tap%d"},
		{"NUL", Config{Name: "tap\x00a"}, nil, "1 to 15 bytes"},
		{"dots", Config{Name: ".."}, nil, ".."},
		{"no such bridge", Config{Bridge: "br7"}, ErrNoBridge, "br7"},
		{"bridge that is none", Config{Bridge: "taken"}, ErrNoBridge, "taken"},
		{"MTU too small", Config{MTU: 67}, unix.EINVAL, "67"},
		{"MTU too large", Config{MTU: 65536}, unix.EINVAL, "65536"},
		{"multicast MAC", Config{MAC: net.HardwareAddr{1, 0, 0, 0, 0, 1}}, unix.EADDRNOTAVAIL, "01:00:00:00:00:01"},
		{"address twice", Config{Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24"), netip.MustParsePrefix("10.0.0.1/24")}}, unix.EEXIST, "10.0.0.1/24"},
		{"IPv6 on a small MTU", Config{MTU: 1200, Addrs: []netip.Prefix{netip.MustParsePrefix("fd00::1/64")}}, nil, "1280"},
		{"no such namespace", Config{Netns: "gvx-no-such"}, namespace.ErrNotFound, "gvx-no-such"},
		{"no such path", Config{Netns: "/run/netns/gvx-no-such"}, namespace.ErrNotFound, "gvx-no-such"},
		{"no namespace", Config{Netns: "/proc/self/exe"}, nil, "/proc/self/exe"},
	} {
		eachMode(t, func(t *testing.T, offload Features) {
			for _, queues := range []int{1, 2} {
				cfg := tc.cfg
				cfg.Offload, cfg.Queues = offload, queues
				if cfg.Netns == "" {
					cfg.Netns = ns.Path()
				}
				switch cfg.Name {
				case "":
					cfg.Name = "tap9"
				case "-":
					cfg.Name = ""
				}
				files := openFiles(t)
				d, err := Open(cfg)
				if err == nil {
					d.Close()
					t.Errorf("%s: opened", tc.name)
					continue
				}
				if tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%s: %v; want %v, with %q", tc.name, err, tc.want, tc.says)
				}
				if d != nil {
					t.Errorf("%s: a device beside the error", tc.name)
				}
				after, err := ns.Links()
				must(t, err)
				if len(after) != len(before) {
					t.Errorf("%s: left behind: %+v", tc.name, after)
				}
				if n := openFiles(t); n != files {
					t.Errorf("%s: %d descriptors, %d before", tc.name, n, files)
				}
			}
		})
	}
	// The one that was there works on.
	s := sniff(t, ns, "taken")
	s.send(t, testFrame(60, 1))
	readFrames(t, taken, taken.Readers()[0], 1)
}

func TestOpenWithoutPermission(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		err := ns.Do(func() error {
			// This thread alone is without CAP_NET_ADMIN for a moment.
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var caps [2]unix.CapUserData
			if err := unix.Capget(&header, &caps[0]); err != nil {
				return err
			}
			less := caps
			less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
			if err := unix.Capset(&header, &less[0]); err != nil {
				return err
			}
			d, err := Open(Config{Name: "tap0", Offload: offload})
			if err := unix.Capset(&header, &caps[0]); err != nil {
				return err
			}
			if err == nil {
				d.Close()
			}
			if !errors.Is(err, ErrPermission) || !strings.Contains(err.Error(), "root") {
				t.Errorf("%v, want ErrPermission with what to do", err)
			}
			return nil
		})
		must(t, err)
		links, err := ns.Links()
		must(t, err)
		if len(links) != 1 {
			t.Errorf("left behind: %+v", links)
		}
	})
}

func TestCloseRemoves(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		files := openFiles(t)
		for range 3 {
			d := openIn(t, ns, Config{Name: "tap0", Queues: 3, Offload: offload})
			for range 2 {
				must(t, d.Close())
			}
			if _, err := ns.Link("tap0"); err == nil {
				t.Error("the device is there after Close")
			}
		}
		if n := openFiles(t); n != files {
			t.Errorf("%d descriptors, %d before", n, files)
		}
	})
}

func TestCloseInterruptsReads(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Queues: 3, Offload: offload})
		results := make(chan error)
		for _, r := range d.Readers() {
			go func() { results <- readUntilError(r) }()
		}
		w := d.NewWriter(0)
		if n, err := w.Write([]Vector{{Parts: [][]byte{testFrame(60, 1)}}}); n != 1 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		must(t, d.Close())
		for range d.Readers() {
			if err := errorWithin(t, "Read", func() error { return <-results }); err != net.ErrClosed {
				t.Errorf("Read: %v, want net.ErrClosed", err)
			}
		}
		if err := readUntilError(d.Readers()[0]); err != net.ErrClosed {
			t.Errorf("Read after Close: %v, want net.ErrClosed", err)
		}
		if n, err := w.Write([]Vector{{Parts: [][]byte{testFrame(60, 1)}}}); n != 0 || err != net.ErrClosed {
			t.Errorf("Write after Close: %d, %v; want net.ErrClosed", n, err)
		}
	})
}

func TestDeviceDown(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s := sniff(t, ns, "tap0")
		w := d.NewWriter(0)
		fl := flow{src: 1, dst: 2}
		h, big := super(t, fl, 0, 0, pattern(3000, 0), 1000)
		must(t, ns.SetDown("tap0"))
		for range 3 {
			// Plain, and as a superframe, which without offloads is taken apart.
			for _, v := range []Vector{{Parts: [][]byte{testFrame(60, 1)}}, {Header: h, Parts: [][]byte{big}}} {
				if n, err := w.Write([]Vector{v}); n != 0 || !errors.Is(err, unix.EIO) {
					t.Errorf("write to a device that is down: %d, %v; want EIO", n, err)
				}
			}
		}
		if got := d.Features(); (got != 0) != (offload != 0) {
			t.Errorf("features %v afterwards: the error was taken for something else", got)
		}
		must(t, ns.SetUp("tap0"))
		drainErrors(s)
		if n, err := w.Write([]Vector{{Parts: [][]byte{testFrame(60, 2)}}}); n != 1 || err != nil {
			t.Fatalf("write after the device came up: %d, %v", n, err)
		}
		if got := s.receive(t); !slices.Equal(got, testFrame(60, 2)) {
			t.Errorf("host got %x", got)
		}
		s.send(t, testFrame(60, 3))
		if got := readFrames(t, d, d.Readers()[0], 1); !slices.Equal(got[0], testFrame(60, 3)) {
			t.Errorf("read %x", got)
		}
	})
}

// drainErrors takes the error that a packet socket keeps when its device goes
// down.
func drainErrors(s *sniffer) { _, _ = unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR) }

// Somebody else deletes the device, or its namespace: every Read ends, and
// says that it was not Close.
func TestDeviceDeleted(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		for _, waiting := range []bool{true, false} {
			ns := namespace1(t)
			d := openIn(t, ns, Config{Name: "tap0", Queues: 2, Offload: offload})
			results := make(chan error)
			read := func() {
				for _, r := range d.Readers() {
					go func() { results <- readUntilError(r) }()
				}
			}
			if waiting {
				read()
			}
			must(t, ns.DelLink("tap0"))
			if !waiting {
				read()
			}
			for range 2 {
				if err := errorWithin(t, "Read", func() error { return <-results }); errors.Is(err, net.ErrClosed) || err == nil {
					t.Errorf("Read (waiting before: %v): %v, want an error that is not net.ErrClosed", waiting, err)
				}
			}
			n, err := d.NewWriter(0).Write([]Vector{{Parts: [][]byte{testFrame(60, 1)}}})
			if n != 0 || !is(err, unix.EBADFD, unix.EIO) {
				t.Errorf("write: %d, %v; want EBADFD", n, err)
			}
			must(t, d.Close())
		}
	})
}

// Read and TryRead take turns on one device; TryRead never waits.
func TestTryRead(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, r := sniff(t, ns, "tap0"), d.Readers()[0].(Pollable)
		var b Batch
		for i := range 5 {
			drainTry(t, r, &b) // what the host sends by itself
			if _, err := unix.Write(s.fd, testFrame(60, i)); err != nil {
				t.Fatalf("host sends: %v", err)
			}
			poll := []unix.PollFd{{Fd: int32(r.Descriptor()), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, 5000); n != 1 || err != nil {
				t.Fatalf("poll: %d, %v", n, err)
			}
			if i%2 == 0 {
				must(t, r.TryRead(&b))
			} else {
				must(t, r.Read(&b))
			}
			if !slices.ContainsFunc(b.Frames, func(f Frame) bool { return slices.Equal(f.Bytes, testFrame(60, i)) }) {
				t.Errorf("frame %d is not among %d frames", i, len(b.Frames))
			}
		}
		must(t, d.Close())
		if err := r.TryRead(&b); err != net.ErrClosed {
			t.Errorf("TryRead after Close: %v, want net.ErrClosed", err)
		}
	})
}

func drainTry(t *testing.T, r Pollable, b *Batch) {
	t.Helper()
	for {
		must(t, r.TryRead(b))
		if len(b.Frames) == 0 {
			return
		}
	}
}

// What read(2) returns becomes the frame that TryRead would return.
func TestFrameOfRead(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, r := sniff(t, ns, "tap0"), d.Readers()[0].(Pollable)
		var b Batch
		drainTry(t, r, &b)
		if _, err := unix.Write(s.fd, testFrame(100, 7)); err != nil {
			t.Fatal(err)
		}
		raw := make([]byte, r.ReadLen())
		for {
			n, err := unix.Read(r.Descriptor(), raw)
			if err != nil {
				t.Fatalf("the frame did not come: %v", err)
			}
			if f, ok := r.Frame(raw[:n]); ok && slices.Equal(f.Bytes, testFrame(100, 7)) {
				if f.Header != (Header{}) {
					t.Errorf("header %+v of a plain frame", f.Header)
				}
				break
			}
		}
		if _, ok := r.Frame(raw[:13]); ok {
			t.Error("13 bytes are no frame")
		}
	})
}

// SuperframeBytes is what the host's sockets see as gso_max_size; more than a
// frame can be is never asked for.
func TestSuperframeBytes(t *testing.T) {
	ns := namespace1(t)
	for bytes, want := range map[int]int{0: 65536, 20000: 20000, 65535: 65535, 1 << 20: 65536} {
		d := openIn(t, ns, Config{Name: "tap0", Offload: AllFeatures, SuperframeBytes: bytes})
		must(t, ns.Do(func() error {
			link, err := netlink.LinkByName("tap0")
			if err == nil && int(link.Attrs().GSOMaxSize) != want {
				t.Errorf("SuperframeBytes %d: gso_max_size is %d, want %d", bytes, link.Attrs().GSOMaxSize, want)
			}
			return err
		}))
		must(t, d.Close())
	}
}
