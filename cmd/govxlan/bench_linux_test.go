package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/bench"
	"github.com/govxlan/govxlan/bench/report"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// benchLeftovers are the namespaces and records that a run of that process left.
func benchLeftovers(t *testing.T, pid int) []string {
	t.Helper()
	var found []string
	for _, dir := range []string{"/run/netns", "/run/govxlan/labs"} {
		paths, err := filepath.Glob(filepath.Join(dir, "gvx-"+bench.Label+"-"+strconv.Itoa(pid)+"*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, paths...)
	}
	return found
}

// benchNet prepares "govxlan bench net" in a process of its own.
func benchNet(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{"bench", "net"}, args...)...)
	cmd.Args[0] = "govxlan" // what TestMain runs as the program
	return cmd
}

func TestBenchNet(t *testing.T) {
	netlabtest.Root(t)
	var out, progress bytes.Buffer
	cmd := benchNet("--systems", "kernel,govxlan,govxlan-wireguard", "--with", "plain=--offload=off --metrics 127.0.0.1:9789", "--modes", "wire",
		"--tests", "tcp1,udp64,rr,memory", "--rounds", "1", "--seconds", "0.3", "--json")
	cmd.Stdout, cmd.Stderr = &out, &progress
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	if found := benchLeftovers(t, cmd.Process.Pid); found != nil {
		t.Errorf("left behind: %v", found)
	}
	var r report.Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	median := make(map[string]float64)
	for _, s := range r.Summary {
		median[s.System+" "+s.Measure] = s.Median
	}
	for _, system := range []string{"kernel", "govxlan", "govxlan-wireguard", "plain"} {
		for _, c := range []struct {
			measure     string
			least, most float64
		}{
			{"tcp1", 0.01, 1000}, {"tcp1.cpu", 0.01, 1000}, {"udp64", 0.1, 1e5}, {"udp64.loss", 0, 100},
			{"rr", 10, 1e6}, {"rr.p50", 1, 1e5},
		} {
			if v, ok := median[system+" "+c.measure]; !ok || v < c.least || v > c.most {
				t.Errorf("%s: %s = %v, want %v to %v", system, c.measure, v, c.least, c.most)
			}
		}
		least, most := 0.0, 0.0
		if system != "kernel" {
			least, most = 2, 1000 // MB, of a process
		}
		if v := median[system+" memory"]; v < least || v > most {
			t.Errorf("%s: memory %v MB", system, v)
		}
	}
	if v := median["govxlan tcp1.cpu-endpoints"]; v <= 0 {
		t.Errorf("processor time of the endpoints: %v s/GB", v)
	}
	if !strings.Contains(progress.String(), "wire, round 1, tcp1: kernel ") {
		t.Errorf("progress:\n%s", progress.String())
	}
}

// TestBenchNetInterrupted presses Ctrl-C in the first round.
func TestBenchNetInterrupted(t *testing.T) {
	netlabtest.Root(t)
	var out bytes.Buffer
	cmd := benchNet("--systems", "kernel,govxlan", "--modes", "offload", "--tests", "rr,tcp1", "--rounds", "1000", "--seconds", "0.2")
	cmd.Stdout = &out
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		// The line of a test is whole when the test is over.
		if strings.Contains(lines.Text(), "round 1, rr:") {
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	if status := cmd.ProcessState.ExitCode(); status != exitInterrupted {
		t.Errorf("status %d, want %d\n%s", status, exitInterrupted, said.String())
	}
	if !strings.Contains(out.String(), "The run was interrupted") || !strings.Contains(out.String(), "request/response") {
		t.Errorf("what was measured is not shown:\n%s", out.String())
	}
	if found := benchLeftovers(t, cmd.Process.Pid); found != nil {
		t.Errorf("left behind: %v", found)
	}
}

func TestBenchVariant(t *testing.T) {
	for s, want := range map[string]bench.Variant{
		"q2=--queues=2":        {Name: "q2", Flags: []string{"--queues=2"}},
		"q2=--queues 2":        {Name: "q2", Flags: []string{"--queues", "2"}},
		"old=/bin/true --x -y": {Name: "old", Program: "/bin/true", Flags: []string{"--x", "-y"}},
		"old=/bin/true":        {Name: "old", Program: "/bin/true", Flags: []string{}},
	} {
		got, err := benchVariant(s)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: %+v, error %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "x", "=x", "x=", "x= ", "x=/no/such/program"} {
		if got, err := benchVariant(s); err == nil {
			t.Errorf("%q: %+v, want an error", s, got)
		}
	}
}
