package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// govxlan is the program under test.
var govxlan string

// roleVariable makes the test binary do what is named in it instead of testing:
// for what has to be done between fork and exec.
const roleVariable = "GOVXLAN_E2E_ROLE"

var roles = map[string]func() error{}

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		fmt.Fprintln(os.Stderr, roles[role]())
		os.Exit(99)
	}
	code := testMain(m)
	os.RemoveAll(cnitoolDir)
	os.Exit(code)
}

func testMain(m *testing.M) int {
	parallel()
	if govxlan = os.Getenv("GOVXLAN_BINARY"); govxlan != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "govxlan-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		// One test runs the program as nobody.
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	govxlan = filepath.Join(dir, "govxlan")
	args := []string{"build", "-o", govxlan}
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=github.com/govxlan/govxlan/...")
	}
	build := exec.Command("go", append(args, "github.com/govxlan/govxlan/cmd/govxlan")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program under test: %v\n", err)
		return 1
	}
	return m.Run()
}

// parallel has two tests run at once for each core, where -parallel does not say
// otherwise: they wait for most of their time.
func parallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
}
