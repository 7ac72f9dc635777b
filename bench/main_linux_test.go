package bench

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/govxlan/govxlan/bench/traffic"
)

// TestMain lets the test binary be the program that makes the load.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == programName && len(os.Args) == 4 && os.Args[1] == "bench" && os.Args[2] == "traffic" {
		os.Exit(traffic.Main(os.Args[3], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}
