package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/bench/report"
	"golang.org/x/sys/unix"
)

// Machine describes the machine that this program runs on.
func Machine() report.Machine {
	m := report.Machine{
		CPU: "unknown processor", Cores: runtime.NumCPU(), System: "unknown system",
		Go: runtime.Version(), Arch: runtime.GOARCH,
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, key := range []string{"model name", "Model", "cpu model", "uarch"} {
			if name := field(string(text), key, ":"); name != "" {
				m.CPU = name
				break
			}
		}
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		if name := strings.Trim(field(string(text), "PRETTY_NAME", "="), `"`); name != "" {
			m.System = name
		}
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kb int
		if _, err := fmt.Sscanf(field(string(text), "MemTotal", ":"), "%d", &kb); err == nil {
			m.MemoryMB = kb / 1024
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	return m
}

// loadAverage is that of the last minute.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// field finds the first line "key: value" of a text.
func field(text, key, separator string) string {
	for line := range strings.Lines(text) {
		k, v, ok := strings.Cut(line, separator)
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// toolDirs are where daemons live.
func toolDirs() []string {
	dirs := []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin"}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, home+"/go/bin")
	}
	return dirs
}
