package tapswitch

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// cable is a device whose host side is a socket.
type cable struct {
	name string
	t    *testing.T
	host int // the network stack's end
	fd   int // the device's
	down bool
}

func newCable(t *testing.T, name string) *cable {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]) })
	return &cable{name, t, fds[0], fds[1], false}
}

func (c *cable) Name() string                        { return c.name }
func (c *cable) MTU() int                            { return 1450 }
func (c *cable) SetMTU(int) error                    { return errors.New("somebody else's") }
func (c *cable) MAC() net.HardwareAddr               { return nil }
func (c *cable) Features() tap.Features              { return tap.VnetHeader | tap.Checksum | tap.TSO4 }
func (c *cable) Readers() []tap.Reader               { return []tap.Reader{c} }
func (c *cable) NewWriter(int) tap.Writer            { return c }
func (c *cable) Close() error                        { return unix.Close(c.fd) }
func (c *cable) Read(*tap.Batch) error               { return errors.New("not waited for") }
func (c *cable) Descriptor() int                     { return c.fd }
func (c *cable) ReadLen() int                        { return 1 << 16 }
func (c *cable) Frame([]byte) (f tap.Frame, ok bool) { return f, false }

func (c *cable) TryRead(b *tap.Batch) error {
	b.Frames, b.Short = b.Frames[:0], 0
	for {
		buf := make([]byte, 2048)
		n, err := unix.Read(c.fd, buf)
		switch {
		case err == unix.EAGAIN:
			return nil
		case err != nil:
			return err
		case n == 0:
			return syscall.EBADFD // its host is gone
		}
		b.Frames = append(b.Frames, tap.Frame{Bytes: buf[:n]})
	}
}

func (c *cable) Write(frames []tap.Vector) (int, error) {
	for i, v := range frames {
		if c.down {
			return i, syscall.EIO
		}
		var b []byte
		for _, p := range v.Parts {
			b = append(b, p...)
		}
		if _, err := unix.Write(c.fd, b); err != nil {
			return i, err
		}
	}
	return len(frames), nil
}

// says has the host send a frame.
func (c *cable) says(to, from vxlan.MAC, text string) {
	c.t.Helper()
	if _, err := unix.Write(c.host, frame(to, from, text)); err != nil {
		c.t.Fatal(err)
	}
}

// hears is what has come to the host.
func (c *cable) hears() (texts []string) {
	buf := make([]byte, 2048)
	for {
		n, err := unix.Read(c.host, buf)
		if err != nil || n == 0 {
			return texts
		}
		texts = append(texts, string(buf[14:n]))
	}
}

func frame(to, from vxlan.MAC, text string) []byte {
	return append(slices.Concat(to[:], from[:], []byte{8, 0}), text...)
}

var (
	macA, macB, macC = vxlan.MAC{2, 0xA}, vxlan.MAC{2, 0xB}, vxlan.MAC{2, 0xC}
	inner, away      = vxlan.MAC{2, 1}, vxlan.MAC{2, 2}
)

// bench is a switch with three ports.
type bench struct {
	*Switch
	t       *testing.T
	a, b, c *cable
	ports   [3]*Port
	reader  tap.Pollable
	writer  tap.Writer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	s, err := New(Config{Name: "vx7", MAC: vxlan.MAC{2, 0xFF}, MTU: 1450})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b := &bench{Switch: s, t: t, a: newCable(t, "a"), b: newCable(t, "b"), c: newCable(t, "c"), writer: s.NewWriter(0)}
	b.reader = s.Readers()[0].(tap.Pollable)
	for i, c := range []*cable{b.a, b.b, b.c} {
		if b.ports[i], err = s.AddPort(c, []vxlan.MAC{macA, macB, macC}[i]); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// leaves is what goes to the VNI, once all ports were read.
func (b *bench) leaves() (texts []string) {
	b.t.Helper()
	var batch tap.Batch
	for range 4 { // two ports at once
		if err := b.reader.TryRead(&batch); err != nil {
			b.t.Fatal(err)
		}
		for _, f := range batch.Frames {
			texts = append(texts, string(f.Bytes[14:]))
		}
	}
	return texts
}

// arrives has the VNI receive frames, in two pieces each.
func (b *bench) arrives(frames ...[]byte) error {
	var vs []tap.Vector
	for _, f := range frames {
		vs = append(vs, tap.Vector{Parts: [][]byte{f[:14], f[14:]}})
	}
	n, err := b.writer.Write(vs)
	if err == nil && n != len(frames) {
		err = fmt.Errorf("%d of %d frames were taken", n, len(frames))
	}
	return err
}

// want compares what went to the VNI and came to each host.
func (b *bench) want(what string, left []string, heard ...[]string) {
	b.t.Helper()
	if got := b.leaves(); !slices.Equal(got, left) {
		b.t.Errorf("%s: %q went to the VNI, want %q", what, got, left)
	}
	for i, c := range []*cable{b.a, b.b, b.c} {
		if got := c.hears(); !slices.Equal(got, heard[i]) {
			b.t.Errorf("%s: host %s hears %q, want %q", what, c.name, got, heard[i])
		}
	}
}

func TestSwitch(t *testing.T) {
	b := newBench(t)
	b.a.says(macB, macA, "1")
	b.a.says(macB, macA, "2")
	b.a.says(macC, macA, "3")
	b.a.says(away, macA, "4")
	b.a.says(macA, macA, "5")
	b.want("unicast", []string{"4"}, nil, []string{"1", "2"}, []string{"3"})

	b.b.says(macA, macB, "1")
	b.b.says(vxlan.Broadcast, macB, "all")
	b.b.says(macA, macB, "2")
	b.want("broadcast", []string{"all"}, []string{"1", "all", "2"}, nil, []string{"all"})

	// A station behind a station.
	b.c.says(inner, macA, "before")
	b.want("before it spoke", []string{"before"}, nil, nil, nil)
	b.a.says(away, inner, "x")
	b.c.says(inner, macC, "to it")
	b.want("a MAC that was heard", []string{"x"}, []string{"to it"}, nil, nil)
	// A port's own cannot be taken over: "before" came with that of a.
	b.b.says(macA, macB, "still")
	b.want("a MAC that is a port's", nil, []string{"still"}, nil, nil)

	for _, f := range []struct {
		what   string
		frames [][]byte
		heard  [3][]string
	}{
		{"from the wire", [][]byte{frame(macA, away, "1"), frame(macA, away, "2"), frame(macB, away, "3")}, [3][]string{{"1", "2"}, {"3"}, nil}},
		{"from the wire, broadcast", [][]byte{frame(vxlan.Broadcast, away, "all"), frame(macC, away, "1")}, [3][]string{{"all"}, {"all"}, {"all", "1"}}},
		{"from the wire, unknown", [][]byte{frame(vxlan.MAC{2, 9}, away, "who")}, [3][]string{{"who"}, {"who"}, {"who"}}},
		{"the station has moved away", [][]byte{frame(vxlan.Broadcast, inner, "here")}, [3][]string{{"here"}, {"here"}, {"here"}}},
	} {
		if err := b.arrives(f.frames...); err != nil {
			t.Errorf("%s: %v", f.what, err)
		}
		b.want(f.what, nil, f.heard[0], f.heard[1], f.heard[2])
	}
	b.c.says(inner, macC, "after it")
	b.want("a MAC that has moved", []string{"after it"}, nil, nil, nil)
}

// Ports go: by removal, by the end of their host, or only for a while.
func TestSwitchPortsGo(t *testing.T) {
	b := newBench(t)
	b.c.down = true
	b.a.says(macC, macA, "lost")
	b.a.says(macB, macA, "1")
	b.want("a port that is down", nil, nil, []string{"1"}, nil)
	if err := b.arrives(frame(macC, away, "lost")); !errors.Is(err, syscall.EIO) {
		t.Errorf("to a port that is down: %v, want EIO", err)
	}
	if err := b.arrives(frame(vxlan.Broadcast, away, "all")); err != nil {
		t.Errorf("flooded while one port is down: %v", err)
	}
	b.want("flooded while one port is down", nil, []string{"all"}, []string{"all"}, nil)

	if err := unix.Shutdown(b.b.host, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	b.leaves()
	if !b.ports[1].Lost() || b.ports[0].Lost() {
		t.Error("the port whose device is gone is not given up, or another is")
	}
	b.a.says(macB, macA, "gone")
	b.want("to the MAC of a port that is gone", []string{"gone"}, nil, nil, nil)
	if err := b.RemovePort(b.ports[0]); err != nil || !b.ports[0].Lost() {
		t.Errorf("remove a port: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := b.AddPort(newCable(t, "d"), macA); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a port of a closed switch: %v", err)
	}
	var batch tap.Batch
	if err := b.reader.TryRead(&batch); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read a closed switch: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

// A goroutine may wait in Read, and Close ends it.
func TestSwitchWaits(t *testing.T) {
	b := newBench(t)
	got := make(chan string)
	ended := make(chan error)
	go func() {
		var batch tap.Batch
		for {
			if err := b.reader.Read(&batch); err != nil {
				ended <- err
				return
			}
			for _, f := range batch.Frames {
				got <- string(f.Bytes[14:])
			}
		}
	}()
	b.a.says(macB, macA, "stays here")
	b.a.says(away, macA, "leaves")
	if text := <-got; text != "leaves" {
		t.Errorf("read %q", text)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the wait ended with %v", err)
	}
}

// What is heard is bounded.
func TestSwitchHearsSoMany(t *testing.T) {
	b := newBench(t)
	for i := range mostHeard + 10 {
		b.hear(vxlan.MAC{2, 3, 4, 5, byte(i >> 8), byte(i)}, b.ports[0])
	}
	b.hear(vxlan.Broadcast, b.ports[0])
	if n := len(b.Switch.ports.Load().macs); n != mostHeard+3 {
		t.Errorf("%d MACs, want %d and those of 3 ports", n, mostHeard)
	}
	if f := b.Features(); f != tap.VnetHeader|tap.Checksum|tap.TSO4 {
		t.Errorf("features %v, want those of the ports", f)
	}
}
