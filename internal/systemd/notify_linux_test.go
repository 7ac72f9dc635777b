package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 10 * time.Second

// manager listens as the service manager does, and closes what it gets.
func manager(t *testing.T) <-chan string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	told := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, k, _, _, err := conn.ReadMsgUnix(buf, oob)
			if err != nil {
				return
			}
			fds := 0
			messages, _ := unix.ParseSocketControlMessage(oob[:k])
			for i := range messages {
				rights, _ := unix.ParseUnixRights(&messages[i])
				for _, fd := range rights {
					unix.Close(fd)
					fds++
				}
			}
			told <- fmt.Sprintf("%s (%d)", strings.ReplaceAll(string(buf[:n]), "\n", ","), fds)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return told
}

func next(t *testing.T, told <-chan string) string {
	t.Helper()
	select {
	case s := <-told:
		return s
	case <-time.After(patience):
		t.Fatal("nothing is told")
		return ""
	}
}

// What is told is what sd_notify(3) has.
func TestNotify(t *testing.T) {
	told := manager(t)
	for _, c := range []struct {
		tell func() error
		want string
	}{
		{func() error { return Ready("two\nlines") }, "READY=1,STATUS=two lines (0)"},
		{func() error { return Status("fine") }, "STATUS=fine (0)"},
		{Stopping, "STOPPING=1 (0)"},
		{func() error { return Store("a", 0) }, "FDSTORE=1,FDPOLL=0,FDNAME=a (1)"},
		{func() error { Forget("a"); return nil }, "FDSTOREREMOVE=1,FDNAME=a (0)"},
		{func() error { return Barrier(patience) }, "BARRIER=1 (1)"},
	} {
		if err := c.tell(); err != nil {
			t.Errorf("%s: %v", c.want, err)
		}
		if got := next(t, told); got != c.want {
			t.Errorf("told %q, want %q", got, c.want)
		}
	}
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	if got := next(t, told); !strings.HasPrefix(got, "RELOADING=1,MONOTONIC_USEC=") || strings.HasSuffix(got, "=0 (0)") {
		t.Errorf("told %q", got)
	}
}

// Without a service manager nothing happens; with one that is gone there are
// errors.
func TestNobody(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := errors.Join(Ready(""), Stopping(), Reloading()); err != nil || Running() || Keeps() {
		t.Errorf("%v", err)
	}
	if Store("a", 0) == nil || Barrier(patience) == nil {
		t.Error("kept by nobody")
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if Store("a", 0) == nil || Ready("") == nil {
		t.Error("told to nobody")
	}
	if !Keeps() {
		t.Error("one that does not say whether it keeps is asked to")
	}
	t.Setenv("FDSTORE", "0")
	if Keeps() {
		t.Error("one that keeps nothing is asked to")
	}
}

// The watchdog hears of a service that is well, and of no other.
func TestWatch(t *testing.T) {
	told := manager(t)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "30000")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	well := make(chan bool)
	faults := make(chan error, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- Watch(ctx, func(ctx context.Context) error {
			select {
			case ok := <-well:
				if ok {
					return nil
				}
				return errors.New("ill")
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func(err error) { faults <- err })
	}()
	well <- true
	if got := next(t, told); got != "WATCHDOG=1 (0)" {
		t.Errorf("told %q", got)
	}
	if err := <-faults; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that hangs: %v", err)
	}
	cancel()
	go func() {
		for range faults {
		}
	}()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	select {
	case s := <-told:
		t.Errorf("told %q of one that hangs", s)
	default:
	}
	t.Setenv("WATCHDOG_USEC", "nonsense")
	if err := Watch(t.Context(), nil, nil); err == nil {
		t.Error("nonsense is taken")
	}
	t.Setenv("WATCHDOG_USEC", "")
	if err := Watch(t.Context(), nil, nil); err != nil {
		t.Errorf("without a watchdog: %v", err)
	}
}
