package namespace

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newNamespace(t *testing.T) *netlab.Namespace {
	t.Helper()
	return netlabtest.Namespace(t, netlabtest.New(t, "namespace"), "a")
}

// here is the identity of the calling thread's namespace.
func here(t *testing.T) string {
	t.Helper()
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return link
}

func TestDoIsInside(t *testing.T) {
	ns := newNamespace(t)
	home := here(t)
	var there string
	if err := ns.Do(func() error { there = here(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if there == home {
		t.Fatal("the namespace of the test is our own")
	}
	for _, name := range []string{ns.Name(), ns.Path()} {
		var got string
		if err := Do(name, func() error { got = here(t); return nil }); err != nil {
			t.Fatal(err)
		}
		if got != there {
			t.Errorf("%s: ran in %s, want %s", name, got, there)
		}
	}
	if got := here(t); got != home {
		t.Errorf("afterwards the caller is in %s", got)
	}
	// The empty name is the caller's own, on the caller's own thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	called := false
	if err := Do("", func() error { called = here(t) == home; return nil }); err != nil || !called {
		t.Errorf("empty name: %v, in the caller's namespace: %v", err, called)
	}
}

// No thread is left in another namespace, however many calls there are at once
// and whatever they return.
func TestNoThreadStaysBehind(t *testing.T) {
	ns := newNamespace(t)
	home := here(t)
	failed := errors.New("failed")
	var calls sync.WaitGroup
	for i := range 50 {
		calls.Go(func() {
			err := Do(ns.Path(), func() error {
				switch i % 3 {
				case 0:
					return failed
				case 1:
					runtime.Goexit()
				}
				return nil
			})
			if want := []error{failed, errExit, nil}[i%3]; !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", i, err, want)
			}
		})
	}
	calls.Wait()
	for range 50 {
		calls.Go(func() {
			if got := here(t); got != home {
				t.Errorf("a goroutine runs in %s", got)
			}
		})
	}
	calls.Wait()
}

func TestDoKeepsNoDescriptor(t *testing.T) {
	ns := newNamespace(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for range 10 {
		if err := Do(ns.Path(), func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if err := Do("/proc/self/exe", func() error { return nil }); err == nil {
			t.Error("entered a file that is no namespace")
		}
		if err := Do(ns.Path(), func() error { runtime.Goexit(); return nil }); err == nil {
			t.Error("no error from a function that did not return")
		}
		if n := count(); n != before {
			t.Fatalf("%d descriptors, %d before", n, before)
		}
	}
}

func TestDoWithoutNamespace(t *testing.T) {
	for _, name := range []string{"gvx-no-such", "/run/netns/gvx-no-such"} {
		err := Do(name, func() error { t.Error("called"); return nil })
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrNotFound with the name", name, err)
		}
	}
	err := Do("/proc/self/exe", func() error { t.Error("called"); return nil })
	if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "/proc/self/exe") || !strings.Contains(err.Error(), "none") {
		t.Errorf("a file that is no namespace: %v", err)
	}
}
