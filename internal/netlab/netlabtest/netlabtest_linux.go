package netlabtest

import (
	"os"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

// SkipRoot is the environment variable that lets tests which need root be
// skipped where there is none. Without it they fail: a test that is skipped
// unasked hides what it would have found.
const SkipRoot = "GOVXLAN_SKIP_ROOT"

// Root ends the test unless it runs as root: skipped where SkipRoot is set,
// failed elsewhere.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv(SkipRoot) != "" {
		t.Skipf("needs root, and %s is set", SkipRoot)
	}
	t.Fatalf("this test makes network namespaces and needs root: run it with sudo, or set %s=1 to skip it", SkipRoot)
}

// New makes a lab that is removed when the test ends. A test that failed logs
// what was in the lab.
func New(t testing.TB, label string) *netlab.Lab {
	t.Helper()
	Root(t)
	lab, err := netlab.New(label)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var dump strings.Builder
			lab.DumpLinks(&dump)
			t.Logf("the lab:\n%s", dump.String())
		}
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// Namespace makes a namespace of the lab or ends the test.
func Namespace(t testing.TB, lab *netlab.Lab, label string) *netlab.Namespace {
	t.Helper()
	ns, err := lab.Namespace(label)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
