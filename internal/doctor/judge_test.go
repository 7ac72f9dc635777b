package doctor

import (
	"iter"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

func TestKernelsThatMangle(t *testing.T) {
	for release, want := range map[string]bool{
		"6.18.44":             false,
		"6.99.0-generic":      false,
		"7.0.0":               true,
		"7.0.0-12-generic":    true,
		"7.0.31":              true,
		"7.1":                 true,
		"7.1.0-rc3":           true,
		"7.1.4+deb14-amd64":   true,
		"7.1.5":               false,
		"7.1.50":              false,
		"7.2.0":               false,
		"8.0.0":               false,
		"5.15.0-1.el9.x86_64": false,
		"":                    false,
		"linux":               false,
	} {
		if got := mangles(release); got != want {
			t.Errorf("Linux %q: %v, want %v", release, got, want)
		}
	}
}

func TestConntrack(t *testing.T) {
	for name, tc := range map[string]struct {
		count, most int
		state       State
		command     string
		silent      bool
	}{
		"no table":    {0, 0, OK, "", true},
		"empty":       {0, 1000, OK, "", false},
		"almost full": {899, 1000, OK, "", false},
		"full":        {900, 1000, Warn, "sysctl -w net.netfilter.nf_conntrack_max=2000", false},
		"over":        {1001, 1000, Warn, "sysctl -w net.netfilter.nf_conntrack_max=2000", false},
	} {
		s, command, text := judgeConntrack(tc.count, tc.most)
		if s != tc.state || command != tc.command || (text == "") != tc.silent {
			t.Errorf("%s: %v %q %q", name, s, command, text)
		}
	}
}

func TestChecksums(t *testing.T) {
	for name, tc := range map[string]struct {
		before, now counts
		state       State
		words       string
	}{
		"none":            {counts{}, counts{received: 10}, OK, "all UDP checksums"},
		"a few, long ago": {counts{checksum: 5, received: 1e6}, counts{checksum: 5, received: 1e6}, OK, "5 of 1000005"},
		"many, long ago":  {counts{checksum: 50, received: 1e4}, counts{checksum: 50, received: 1e4}, Warn, "50 UDP datagrams"},
		"just now":        {counts{checksum: 5, received: 1e6}, counts{checksum: 6, received: 1e6}, Fail, "1 UDP datagrams came with a wrong checksum just now"},
	} {
		s, command, text := judgeChecksums(tc.before, tc.now)
		if s != tc.state || !strings.Contains(text, tc.words) || (s == OK) != (command == "") {
			t.Errorf("%s: %v %q %q", name, s, command, text)
		}
	}
}

func TestGrowingCounters(t *testing.T) {
	was := vtep.Counters{RxFrames: 5, RxDropECN: 3, TxDropNoDestination: 7}
	now := was
	now.RxFrames, now.TxDropNoDestination = 9, 12
	got := grown(was.Drops(), now.Drops())
	if len(got) != 1 || got["tx_drop_no_destination"] != 5 {
		t.Errorf("grew: %v", got)
	}
	if n := sum(now.Drops()); n != 15 {
		t.Errorf("%d drops, want 15", n)
	}
}

// Every drop is explained in one way or another, with a command.
func TestEveryDropIsExplained(t *testing.T) {
	v := &vtep.VNIStatus{VNI: vxlan.VNI(7), Device: "vx7"}
	for _, drops := range []iter.Seq2[string, uint64]{vtep.Counters{}.Drops(), vtep.EndpointCounters{}.Drops()} {
		for reason := range drops {
			text, command := explain(reason, 3, v)
			if !strings.Contains(text, "3 frames were dropped just now, counted as "+reason+": ") || command == "" {
				t.Errorf("%s: %q, %q", reason, text, command)
			}
		}
	}
	if _, command := explain("rx_drop_device", 1, v); command != "ip link set dev vx7 up" {
		t.Errorf("command %q", command)
	}
}
