package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/rogpeppe/go-internal/testscript"
)

var updateScripts = flag.Bool("update-scripts", false, "write the outputs that scripts compare with anew")

// TestMain lets the test binary be the program itself, for scripts and for tests
// that need a process of their own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"govxlan": main})
}

// TestScripts runs the command lines in testdata/script, a file a story:
// "govxlan" in them is this program.
//
// Beside testscript's own commands and conditions there are
//
//	[root]       the test runs as root
//	status N cmd args...
//	             the command ends with exit status N
//	oneline      standard error of the last command is one line "govxlan: ..."
//	endpoint FILE VNI...
//	             an endpoint in memory, 192.168.52.203:4789, with these VNIs
//	             answers on the control socket FILE until the script ends
//	$CAPTURES    the captures of internal/explain
//
// Times are in UTC and a line has 80 columns.
func TestScripts(t *testing.T) {
	captures, err := filepath.Abs(filepath.Join("..", "..", "internal", "explain", "testdata"))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *updateScripts,
		Condition: func(cond string) (bool, error) {
			if cond == "root" {
				return os.Geteuid() == 0, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":   cmdStatus,
			"oneline":  cmdOneLine,
			"endpoint": cmdEndpoint,
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("CAPTURES", captures)
			env.Setenv("TZ", "UTC")
			env.Setenv("COLUMNS", "80")
			return nil
		},
	})
}

// cmdStatus runs a command and compares its exit status.
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N command [args...]")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		ts.Fatalf("status %q is no number", args[0])
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// cmdOneLine wants a failure to be told in one sentence.
func cmdOneLine(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: oneline")
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasSuffix(said, "\n") || !strings.HasPrefix(said, "govxlan: ") {
		ts.Fatalf("standard error is no single line \"govxlan: ...\": %q", said)
	}
}

// cmdEndpoint serves an endpoint in memory.
func cmdEndpoint(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: endpoint FILE VNI...")
	}
	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	ts.Check(err)
	e, err := vtep.New(vtep.Config{Conn: conn})
	ts.Check(err)
	for _, s := range args[1:] {
		v, err := vxlan.ParseVNI(s)
		ts.Check(err)
		dev := tap.NewMemory(tap.MemoryConfig{Name: "vx" + s, MAC: []byte{2, 0, 0, 0, 0, 1}})
		ts.Check(e.AddVNI(vtep.VNIConfig{VNI: v, Device: dev}))
	}
	server, err := control.Listen(ts.MkAbs(args[0]), e, "test")
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	ts.Defer(func() {
		cancel()
		if err := errors.Join(<-served, e.Close()); err != nil {
			fmt.Fprintln(os.Stderr, "endpoint of a script:", err)
		}
	})
}
