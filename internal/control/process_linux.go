package control

import (
	"bytes"
	"os"
	"strconv"

	"github.com/govxlan/govxlan/vtep"
	"golang.org/x/sys/unix"
)

// cost is the time that this process has spent, and its resident memory in bytes.
func cost() (cpu vtep.Seconds, memory uint64) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		cpu = vtep.Seconds(float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9)
	}
	// The second field of statm: resident pages (proc(5)).
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := bytes.Fields(statm); len(fields) > 1 {
			pages, _ := strconv.ParseUint(string(fields[1]), 10, 64)
			memory = pages * uint64(os.Getpagesize())
		}
	}
	return cpu, memory
}
