//go:build !linux

package bench

import (
	"runtime"

	"github.com/govxlan/govxlan/bench/report"
)

// Machine describes the machine that this program runs on.
func Machine() report.Machine {
	return report.Machine{
		CPU: "processor", Cores: runtime.NumCPU(), System: runtime.GOOS,
		Go: runtime.Version(), Arch: runtime.GOARCH,
	}
}
