package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processGroup reads field 5 of /proc/PID/stat. The second field, a name in
// parentheses, may hold anything: count from its end.
func processGroup(pid int) (int, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 3 {
		return 0, fmt.Errorf("/proc/%d/stat: %q has too few fields", pid, stat)
	}
	return strconv.Atoi(fields[2])
}

// resident is the physical memory of a process in bytes.
func resident(pid int) (uint64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	kb, err := statusField(string(status), "VmRSS")
	return kb << 10, err
}

// wakeups counts how often the threads of a process have gone to sleep of their
// own accord, which is how often they woke up.
func wakeups(pid int) (uint64, error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, path := range threads {
		status, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that ended
		}
		n, err := statusField(string(status), "voluntary_ctxt_switches")
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// statusField reads a number of /proc/PID/status.
func statusField(status, name string) (uint64, error) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		if key == name {
			value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
			return strconv.ParseUint(value, 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in the status of a process", name)
}
