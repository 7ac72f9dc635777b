package bench

import (
	"os"
	"syscall"
	"testing"
)

func TestProcessesOfThisOne(t *testing.T) {
	group, err := processGroup(os.Getpid())
	if want := syscall.Getpgrp(); err != nil || group != want {
		t.Errorf("process group %d, error %v, want %d", group, err, want)
	}
	bytes, err := resident(os.Getpid())
	if err != nil || bytes < 1<<20 || bytes > 1<<34 {
		t.Errorf("resident memory %d, error %v", bytes, err)
	}
	before, err := wakeups(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Somebody of this process has to wait for each of these.
	for range 50 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		go w.Write([]byte{1})
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		w.Close()
	}
	after, err := wakeups(os.Getpid())
	if err != nil || after < before {
		t.Errorf("wake-ups %d, then %d, error %v", before, after, err)
	}
}

func TestStatusField(t *testing.T) {
	const status = "Name:\tVmRSS: 7\nVmRSS:\t    1234 kB\nvoluntary_ctxt_switches:\t56\n"
	for name, want := range map[string]uint64{"VmRSS": 1234, "voluntary_ctxt_switches": 56} {
		if got, err := statusField(status, name); err != nil || got != want {
			t.Errorf("%s = %d, error %v, want %d", name, got, err, want)
		}
	}
	if _, err := statusField(status, "VmSwap"); err == nil {
		t.Error("a field that is not there has a value")
	}
}

func TestVersionWord(t *testing.T) {
	for out, want := range map[string]string{
		"fastd v22\n": "v22",
		"OpenVPN 2.6.14 x86_64-pc-linux-gnu [SSL":  "2.6.14",
		"tinc version 1.0.36 (built Jan  1 1970":   "1.0.36",
		"ovs-vswitchd (Open vSwitch) 3.1.0\nDPDK":  "3.1.0",
		"wireguard-go v0.0.20250522\n\nUserspace":  "v0.0.20250522",
		"govxlan 0.1.0-dev go1.26.8 linux/amd64\n": "0.1.0-dev",
		"no number anywhere":                       "",
	} {
		if got := versionWord.FindString(out); got != want {
			t.Errorf("version of %q is %q, want %q", out, got, want)
		}
	}
}
