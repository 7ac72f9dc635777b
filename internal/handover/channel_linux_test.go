package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// channels are the two ends of one.
func channels(t *testing.T) (a, b *Channel) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "door"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewChannel(one); err == nil {
		b, err = NewChannel(two)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

type message struct {
	Text string `json:"text"`
}

// pipes are descriptors to send: each end that is read gives its number.
func pipes(t *testing.T, n int) (fds []int) {
	t.Helper()
	for i := range n {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(w, i)
		w.Close()
		fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		fds = append(fds, fd)
	}
	return fds
}

// Messages of any size arrive, each with its descriptors, in their order.
func TestChannel(t *testing.T) {
	a, b := channels(t)
	for _, count := range []int{0, 1, mostRights, mostRights + 1, 3*mostRights + 7} {
		for _, size := range []int{0, 10, 1 << 20} {
			fds := pipes(t, count)
			want := message{strings.Repeat("x", size)}
			sent := make(chan error, 1)
			go func() { sent <- a.Send(want, fds, patience) }()
			var got message
			received, err := b.Receive(&got, patience)
			if err != nil {
				t.Fatalf("%d descriptors, %d bytes: %v", count, size, err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			CloseAll(fds) // the copies live on
			if got != want || len(received) != count {
				t.Fatalf("%d descriptors, %d bytes: %d and %d came", count, size, len(received), len(got.Text))
			}
			for i, fd := range received {
				flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
				if err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor %d: flags %d, %v", i, flags, err)
				}
				f := os.NewFile(uintptr(fd), "pipe")
				if text, err := io.ReadAll(f); err != nil || string(text) != fmt.Sprint(i) {
					t.Errorf("descriptor %d reads %q, %v", i, text, err)
				}
				f.Close()
			}
		}
	}
}

// What is no message is an error, and leaves no descriptor open.
func TestChannelRefuses(t *testing.T) {
	head := func(size, fds uint32) []byte {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, size), fds)
	}
	for name, c := range map[string]struct {
		bytes  []byte
		rights int
	}{
		"nothing":           {nil, 0},
		"half a head":       {head(5, 0)[:5], 0},
		"half a body":       {append(head(50, 0), `{"text"`...), 0},
		"too long":          {head(1<<31, 0), 0},
		"too many":          {append(head(2, 1<<30), `{}`...), 0},
		"no JSON":           {append(head(2, 0), `{]`...), 0},
		"missing":           {append(head(2, 3), `{}`...), 0},
		"fewer than told":   {append(head(2, 3), `{}`...), 1},
		"no JSON but some":  {append(head(2, 1), `{]`...), 1},
		"another JSON type": {append(head(2, 0), `[]`...), 0},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := channels(t)
			before := openFiles(t)
			raw := b.conn
			if _, err := raw.Write(c.bytes); err != nil {
				t.Fatal(err)
			}
			if c.rights > 0 {
				fds := pipes(t, c.rights)
				if _, _, err := raw.WriteMsgUnix([]byte{'d'}, unix.UnixRights(fds...), nil); err != nil {
					t.Fatal(err)
				}
				CloseAll(fds)
			}
			if err := raw.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var m message
			if fds, err := a.Receive(&m, patience); err == nil || len(fds) > 0 {
				t.Errorf("%d descriptors, %v", len(fds), err)
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d files are open, %d were", after, before)
			}
		})
	}
}

// openFiles counts the descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// Nobody who hangs is waited for.
func TestChannelTimes(t *testing.T) {
	a, b := channels(t)
	var m message
	if _, err := b.Receive(&m, time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("receive: %v", err)
	}
	if err := a.Send(message{strings.Repeat("x", 8<<20)}, nil, 20*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("send: %v", err)
	}
}

// What is kept comes back, in order, whatever the order in which it is handed
// over.
func TestKept(t *testing.T) {
	// Nobody runs this: nothing is kept, and nothing is there.
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Keep(message{}, nil); err == nil {
		t.Error("kept by nobody")
	}
	t.Setenv("LISTEN_FDS", "3")
	t.Setenv("LISTEN_PID", "1")
	var m message
	if fds, ok, err := Kept(&m); ok || err != nil || len(fds) > 0 {
		t.Errorf("what is another process's: %v %v %v", fds, ok, err)
	}
	file, err := memory(message{"state"})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := decode(file, &m); err != nil || !reflect.DeepEqual(m, message{"state"}) {
		t.Errorf("%+v %v", m, err)
	}
}
