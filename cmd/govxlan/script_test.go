package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

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
			"status":  cmdStatus,
			"oneline": cmdOneLine,
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
