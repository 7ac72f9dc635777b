package traffic

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc: 100 on every
// architecture that Go knows.
const ticksPerSecond = 100

// ReadCPU returns the processor time that the machine and the given processes
// have used until now. Processes that are gone count nothing.
func ReadCPU(processes []int) (CPU, error) {
	var c CPU
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, err
	}
	if c.Machine, err = parseMachine(stat); err != nil {
		return c, err
	}
	for _, pid := range processes {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		s, err := parseProcess(stat)
		if err != nil {
			return c, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		c.Watched += s
	}
	return c, nil
}

// parseMachine adds up the first line of /proc/stat, proc_stat(5): user, nice,
// system, idle, iowait, irq, softirq, steal, and guest times that are part of
// user and nice. Waiting and what other machines stole is not our work.
func parseMachine(stat []byte) (float64, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat: first line is %q", line)
	}
	var ticks uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / ticksPerSecond, nil
}

// parseProcess adds up utime and stime, fields 14 and 15 of /proc/PID/stat. The
// second field, a name in parentheses, may hold anything: count from its end.
func parseProcess(stat []byte) (float64, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%q has too few fields", stat)
	}
	var ticks uint64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return float64(ticks) / ticksPerSecond, nil
}
