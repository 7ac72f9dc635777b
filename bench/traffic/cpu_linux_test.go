package traffic

import (
	"math"
	"os"
	"testing"
	"time"
)

func TestParseMachine(t *testing.T) {
	// user nice system idle iowait irq softirq steal guest guest_nice
	const stat = "cpu  1000 200 300 99999 88888 40 50 77777 600 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
	got, err := parseMachine([]byte(stat))
	if err != nil || math.Abs(got-15.9) > 1e-9 {
		t.Errorf("%v s, error %v, want 15.9", got, err)
	}
	for _, bad := range []string{"", "intr 5", "cpu  1 2 3\n", "cpu  a b c d e f g h\n"} {
		if _, err := parseMachine([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseProcess(t *testing.T) {
	// A name made to confuse; utime 150 and stime 50.
	const stat = "42 (a) S 1 (b) R 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 500 1000 10"
	got, err := parseProcess([]byte(stat))
	if err != nil || got != 2 {
		t.Errorf("%v s, error %v, want 2", got, err)
	}
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S 1 42 42 0 -1 4194304 100 0 0 0 one 50 0 0"} {
		if _, err := parseProcess([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestReadCPUOfThisProcess(t *testing.T) {
	before, err := ReadCPU([]int{os.Getpid(), 1 << 30}) // the second is nobody
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 300*time.Millisecond; {
	}
	after, err := ReadCPU([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	// A busy machine gives less than asked for, but something.
	if used := after.Sub(before); used.Watched < 0.03 || used.Machine < 0.03 || used.Watched > 60 {
		t.Errorf("300 ms of computing took %+v", used)
	}
}
