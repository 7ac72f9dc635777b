package privilege

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable has the test binary give up its privileges in the directory that it
// names, and tell what it may do then.
const roleVariable = "GOVXLAN_PRIVILEGE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleVariable); dir != "" {
		if err := confined(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const nobody = 65534

// report is what one thread may do.
type report struct {
	Thread int
	Done   map[string]string // by what it tried: "" or the error
}

// threads try at once: those that were there before, of which all are held.
const threads = 4

// confined gives up its privileges, tries on several threads that were there
// before, and prints a report for each.
func confined(dir string) error {
	begin, reports := make(chan struct{}), make(chan report)
	for i := range threads {
		ready := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(ready)
			<-begin
			reports <- report{unix.Gettid(), try(dir, i)}
		}()
		<-ready
	}
	port, err := free()
	if err != nil {
		return err
	}
	if err := Drop(Wish{
		User: &User{Name: "nobody", UID: nobody, GID: nobody}, Capabilities: []string{NetAdmin},
		Read:  []string{filepath.Join(dir, "read"), "/proc", filepath.Join(dir, "missing")},
		Write: []string{filepath.Join(dir, "write", "file")},
		Clear: []string{filepath.Join(dir, "clear")},
		Ports: []uint16{port},
	}); err != nil {
		return err
	}
	close(begin)
	var all []report
	for range threads {
		all = append(all, <-reports)
	}
	listened := bind(port)
	return json.NewEncoder(os.Stdout).Encode(struct {
		Reports []report
		Listen  string
		Status  Status
	}{all, text(listened), Current()})
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// free finds a TCP port.
func free() (uint16, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port), nil
}

// bind binds a TCP socket to a port.
func bind(port uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
}

// try tries what may and what may not be done, on the calling thread.
func try(dir string, i int) map[string]string {
	done := make(map[string]string)
	for name, f := range map[string]func() error{
		"read":                     func() error { return open(filepath.Join(dir, "read", "file"), unix.O_RDONLY) },
		"read elsewhere":           func() error { return open(filepath.Join(dir, "other", "file"), unix.O_RDONLY) },
		"write":                    func() error { return open(filepath.Join(dir, "write", "file"), unix.O_RDWR) },
		"write what is to be read": func() error { return open(filepath.Join(dir, "read", "file"), unix.O_WRONLY) },
		"write elsewhere":          func() error { return open(filepath.Join(dir, "other", "file"), unix.O_WRONLY) },
		"make":                     func() error { return open(filepath.Join(dir, "clear", "new"), unix.O_CREAT|unix.O_WRONLY) },
		"remove":                   func() error { return unix.Unlink(filepath.Join(dir, "clear", fmt.Sprint(i))) },
		"remove elsewhere":         func() error { return unix.Unlink(filepath.Join(dir, "other", fmt.Sprint(i))) },
		"run":                      func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
		"root":                     func() error { _, _, e := unix.RawSyscall(unix.SYS_SETUID, 0, 0, 0); return none(e) },
		"mount":                    func() error { return unix.Mount("none", dir, "tmpfs", 0, "") },
		"mark": func() error { // takes CAP_NET_ADMIN
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 1)
		},
		"raw": func() error {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err == nil {
				unix.Close(fd)
			}
			return err
		},
		"serve": func() error { return bind(1) },
	} {
		done[name] = text(f())
	}
	return done
}

func none(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func open(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o666)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// TestDrop: what was given up is refused on every thread, and the rest is not.
func TestDrop(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		if os.Getenv("GOVXLAN_SKIP_ROOT") != "" {
			t.Skip("needs root")
		}
		t.Fatal("needs root")
	}
	dir, err := os.MkdirTemp("", "govxlan-privilege-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Every user may do everything, as far as modes go.
	paths := []string{dir}
	for _, sub := range []string{"read", "write", "clear", "other"} {
		paths = append(paths, filepath.Join(dir, sub), filepath.Join(dir, sub, "file"))
		err = errors.Join(err, os.Mkdir(filepath.Join(dir, sub), 0o777), os.WriteFile(filepath.Join(dir, sub, "file"), nil, 0o666))
		for i := range threads {
			err = errors.Join(err, os.WriteFile(filepath.Join(dir, sub, fmt.Sprint(i)), nil, 0o666))
		}
	}
	for _, p := range paths {
		err = errors.Join(err, os.Chmod(p, 0o777))
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var got struct {
		Reports []report
		Listen  string
		Status  Status
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := got.Status
	if s.UID != nobody || s.GID != nobody || !slices.Equal(s.Capabilities, []string{NetAdmin}) || !s.NoNewPrivileges || s.Landlock == (s.LandlockReason != "") {
		t.Errorf("status: %+v", s)
	}
	if !s.Landlock {
		t.Logf("no Landlock here (%s): what it refuses is not tested", s.LandlockReason)
	}
	denied, forbidden := unix.EACCES.Error(), unix.EPERM.Error()
	want := map[string]string{
		"read": "", "write": "", "remove": "", "mark": "", "root": forbidden, "raw": forbidden, "mount": forbidden, "serve": denied,
		"read elsewhere": denied, "write elsewhere": denied, "write what is to be read": denied, "make": denied, "remove elsewhere": denied, "run": denied,
	}
	seen := make(map[int]bool)
	for _, r := range got.Reports {
		seen[r.Thread] = true
		for name, result := range r.Done {
			if want[name] != result && (s.Landlock || result != "") {
				t.Errorf("thread %d: %s: %q, want %q", r.Thread, name, result, want[name])
			}
		}
		if len(r.Done) != len(want) {
			t.Errorf("thread %d tried %d things, want %d", r.Thread, len(r.Done), len(want))
		}
	}
	if len(seen) != threads {
		t.Errorf("reports of %d threads, want %d", len(seen), threads)
	}
	if got.Listen != "" {
		t.Errorf("the port that it may listen on: %s", got.Listen)
	}
}

// TestDropUnknownCapability: what is misspelt gives up nothing.
func TestDropUnknownCapability(t *testing.T) {
	t.Parallel()
	before := Current()
	if err := Drop(Wish{Capabilities: []string{"cap_net_admn"}}); err == nil {
		t.Error("there is no cap_net_admn")
	}
	if after := Current(); !slices.Equal(after.Capabilities, before.Capabilities) || after.Landlock {
		t.Errorf("after an error: %+v, before %+v", after, before)
	}
}
