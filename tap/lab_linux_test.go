package tap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// namespace is a namespace for one test.
func namespace1(t testing.TB) *netlab.Namespace {
	t.Helper()
	return netlabtest.Namespace(t, netlabtest.New(t, "tap"), "host")
}

// openIn opens a device in a namespace; the test closes it.
func openIn(t testing.TB, ns *netlab.Namespace, cfg Config) *linuxDevice {
	t.Helper()
	cfg.Netns = ns.Path()
	if cfg.Name == "" {
		cfg.Name = "tap0"
	}
	d, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d.(*linuxDevice)
}

// sniffer is an AF_PACKET socket on one device: the host's side of it, without
// the rest of the network stack.
type sniffer struct{ fd int }

func sniff(t testing.TB, ns *netlab.Namespace, dev string) *sniffer {
	t.Helper()
	s := &sniffer{fd: -1}
	err := ns.Do(func() error {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		tv := unix.NsecToTimeval(patience.Nanoseconds())
		if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
		all := binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL})
		return os.NewSyscallError("bind", unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// send has the host send a frame through the device.
func (s *sniffer) send(t testing.TB, f []byte) {
	t.Helper()
	for {
		_, err := unix.Write(s.fd, f)
		if err == unix.ENOBUFS {
			continue // the device's queue is full: its reader is behind
		}
		if err != nil {
			t.Fatalf("host sends %d bytes: %v", len(f), err)
		}
		return
	}
}

// receive returns the next frame of the tests that reaches the host.
func (s *sniffer) receive(t testing.TB) []byte {
	t.Helper()
	b := make([]byte, MaxFrame+100)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			t.Fatalf("nothing reached the host in %v: %v", patience, err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && isOurs(b[:n]) {
			return b[:n]
		}
	}
}

// ours is the EtherType for local experiments.
const ours = 0x88B5

// testFrame is a frame of the tests, size bytes long and not like any other.
func testFrame(size, tag int) []byte {
	f := pattern(max(size, 14), tag)
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, byte(tag >> 8), byte(tag)})
	binary.BigEndian.PutUint16(f[12:], ours)
	return f
}

func isOurs(f []byte) bool { return len(f) >= 14 && binary.BigEndian.Uint16(f[12:]) == ours }

// readFrames reads until it has want frames of the tests, and no longer than
// the test has patience.
func readFrames(t testing.TB, d Device, r Reader, want int) [][]byte {
	t.Helper()
	late := time.AfterFunc(patience, func() { d.Close() })
	defer late.Stop()
	var got [][]byte
	var b Batch
	for len(got) < want {
		if err := r.Read(&b); err != nil {
			t.Fatalf("%d of %d frames came: %v", len(got), want, err)
		}
		for _, f := range b.Frames {
			if isOurs(f.Bytes) {
				got = append(got, bytes.Clone(f.Bytes))
			}
		}
	}
	return got
}

// errorWithin returns the error that f ends with, or the test.
func errorWithin(t testing.TB, what string, f func() error) error {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-time.After(patience):
		t.Fatalf("%s does not end", what)
		return nil
	}
}

// readUntilError reads until it fails, passing over what the stack sends by
// itself.
func readUntilError(r Reader) error {
	var b Batch
	for {
		if err := r.Read(&b); err != nil {
			return err
		}
	}
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// must ends the test at an error that is not what it is about.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// modes are the two ways of opening a device.
var modes = []struct {
	name    string
	offload Features
}{{"plain", 0}, {"offload", AllFeatures}}

// eachMode runs a test both ways.
func eachMode(t *testing.T, f func(t *testing.T, offload Features)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { f(t, m.offload) })
	}
}

// is says whether err is one of several.
func is(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
