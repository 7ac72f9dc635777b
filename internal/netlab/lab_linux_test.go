package netlab_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// leftovers lists what is left of a lab by name.
func leftovers(t *testing.T, name string) []string {
	t.Helper()
	var left []string
	for _, pattern := range []string{"/run/netns/" + name + "-*", "/run/govxlan/labs/" + name} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, found...)
	}
	return left
}

// echo sends a line over TCP from one namespace to an address in the other.
func echo(t *testing.T, from, to *netlab.Namespace, address string) {
	t.Helper()
	l, err := to.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	}()
	conn, err := from.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const line = "from one host to the other"
	if _, err := io.WriteString(conn, line); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, len(line))
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != line {
		t.Fatalf("got %q back, %v", back, err)
	}
}

func TestTwoHosts(t *testing.T) {
	lab := netlabtest.New(t, "pair")
	a, b := netlabtest.Namespace(t, lab, "hostA"), netlabtest.Namespace(t, lab, "hostB")
	if want := lab.Name() + "-hostA"; a.Name() != want || a.Path() != "/run/netns/"+want || a.Label() != "hostA" {
		t.Errorf("names: %q %q %q", a.Name(), a.Path(), a.Label())
	}
	if err := lab.Veth(a, "ens160", "192.168.52.203/24", b, "ens160", "192.168.52.204/24", 1400); err != nil {
		t.Fatal(err)
	}
	for _, end := range []*netlab.Namespace{a, b} {
		link, err := end.Link("ens160")
		if err != nil {
			t.Fatal(err)
		}
		if link.MTU != 1400 || !link.Up || link.Kind != "veth" {
			t.Errorf("%s: %+v", end.Name(), link)
		}
	}
	echo(t, a, b, "192.168.52.204:0")
	// IPv6 is usable at once, without a wait for duplicate address detection.
	if err := a.AddAddr("ens160", "fd00::203/64"); err != nil {
		t.Fatal(err)
	}
	if err := b.AddAddr("ens160", "fd00::204/64"); err != nil {
		t.Fatal(err)
	}
	echo(t, a, b, "[fd00::204]:0")

	name := lab.Name()
	if err := lab.Close(); err != nil {
		t.Fatal(err)
	}
	if left := leftovers(t, name); left != nil {
		t.Errorf("left after Close: %v", left)
	}
	if err := lab.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := lab.Namespace("late"); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Namespace after Close: %v", err)
	}
}

func TestTwoLabsOfOneName(t *testing.T) {
	one, two := netlabtest.New(t, "same"), netlabtest.New(t, "same")
	if one.Name() == two.Name() {
		t.Fatalf("both are called %s", one.Name())
	}
	netlabtest.Namespace(t, one, "x")
	x := netlabtest.Namespace(t, two, "x")
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Link("lo"); err != nil {
		t.Errorf("closing one lab touched the other: %v", err)
	}
}

func TestLabels(t *testing.T) {
	netlabtest.Root(t)
	for _, label := range []string{"", "a-b", "../x", "a/b", strings.Repeat("x", 33)} {
		if lab, err := netlab.New(label); err == nil {
			lab.Close()
			t.Errorf("New(%q) made a lab", label)
		}
	}
	lab := netlabtest.New(t, "labels")
	if _, err := lab.Namespace("a b"); err == nil {
		t.Error("a namespace label with a space was taken")
	}
	netlabtest.Namespace(t, lab, "a")
	if _, err := lab.Namespace("a"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second namespace of one name: %v", err)
	}
	// The failure left the first one alone.
	if _, err := os.Stat("/run/netns/" + lab.Name() + "-a"); err != nil {
		t.Error(err)
	}
}

func TestDo(t *testing.T) {
	lab := netlabtest.New(t, "do")
	ns := netlabtest.Namespace(t, lab, "a")
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var there string
	if err := ns.Do(func() error {
		there, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if there == here || there == "" {
		t.Errorf("inside: %q, outside: %q", there, here)
	}

	wrong := errors.New("wrong")
	if err := ns.Do(func() error { return wrong }); err != wrong {
		t.Errorf("error: %v", err)
	}
	if err := ns.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("Goexit inside was no error")
	}
	func() {
		defer func() {
			if p := recover(); p != "loud" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = ns.Do(func() error { panic("loud") })
	}()
	// Threads come back and are used again, instead of ending each time.
	const calls = 50
	threads := make(map[int]bool)
	for range calls {
		if err := ns.Do(func() error { threads[unix.Gettid()] = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if len(threads) == calls {
		t.Errorf("%d calls took %d threads", calls, len(threads))
	}
	// None of it left a thread behind in the namespace.
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if where, err := os.Readlink(task); err == nil && where == there {
			t.Errorf("%s is still in %s", task, there)
		}
	}
}

func TestSysctl(t *testing.T) {
	lab := netlabtest.New(t, "sysctl")
	a, b := netlabtest.Namespace(t, lab, "a"), netlabtest.Namespace(t, lab, "b")
	if err := a.Sysctl("net.ipv4.ip_default_ttl", "77"); err != nil {
		t.Fatal(err)
	}
	read := func(ns *netlab.Namespace) (text string) {
		if err := ns.Do(func() error {
			value, err := os.ReadFile("/proc/sys/net/ipv4/ip_default_ttl")
			text = strings.TrimSpace(string(value))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return text
	}
	if got := read(a); got != "77" {
		t.Errorf("a: %s", got)
	}
	if got := read(b); got != "64" {
		t.Errorf("b: %s", got)
	}
	if err := a.Sysctl("net.no.such.key", "1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("unknown key: %v", err)
	}
}

func TestOffloads(t *testing.T) {
	lab := netlabtest.New(t, "offload")
	ns := netlabtest.Namespace(t, lab, "a")
	if err := lab.Veth(ns, "v0", "", ns, "v1", "", 0); err != nil {
		t.Fatal(err)
	}
	// What no wire could carry, by the kernel's names.
	names := []string{"tx-checksum-ip-generic", "tx-generic-segmentation", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation"}
	check := func(want bool) {
		t.Helper()
		features, err := ns.Features("v0")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got, ok := features[name]; !ok || got != want {
				t.Errorf("%s is %v (known: %v), want %v", name, got, ok, want)
			}
		}
	}
	check(true)
	if err := ns.SetOffloads("v0", false); err != nil {
		t.Fatal(err)
	}
	check(false)
	if err := ns.SetOffloads("v0", true); err != nil {
		t.Fatal(err)
	}
	check(true)

	if err := ns.SetFeatures("v0", map[string]bool{"tx-udp-segmentation": false}); err != nil {
		t.Fatal(err)
	}
	features, err := ns.Features("v0")
	if err != nil || features["tx-udp-segmentation"] || !features["tx-tcp-segmentation"] {
		t.Errorf("after one was turned off: udp %v, tcp %v, %v", features["tx-udp-segmentation"], features["tx-tcp-segmentation"], err)
	}
	if err := ns.SetFeatures("v0", map[string]bool{"no-such-feature": true}); err == nil {
		t.Error("an unknown feature was taken")
	}
	if err := ns.SetOffloads("nowhere", false); err == nil {
		t.Error("no device, no error")
	}
}

func TestDumpLinks(t *testing.T) {
	lab := netlabtest.New(t, "dump")
	ns := netlabtest.Namespace(t, lab, "a")
	for _, err := range []error{
		ns.Bridge("br0"),
		lab.Veth(ns, "v0", "", ns, "v1", "10.0.1.100/24", 1450),
		ns.AttachToBridge("v0", "br0"),
		ns.SetMAC("v1", "02:42:0a:00:01:64"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var dump strings.Builder
	lab.DumpLinks(&dump)
	for _, want := range []string{ns.Name() + "\n", " br0 bridge up mtu ", " v0 veth up mtu 1450 ", " bridge br0", " v1 veth up mtu 1450 02:42:0a:00:01:64 10.0.1.100/24"} {
		if !strings.Contains(dump.String(), want) {
			t.Errorf("no %q in\n%s", want, dump.String())
		}
	}
	if err := ns.DelLink("v0"); err != nil {
		t.Fatal(err)
	}
	links, err := ns.Links()
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(links, func(l netlab.Link) bool { return l.Kind == "veth" }) {
		t.Errorf("after the pair was deleted: %+v", links)
	}
}
