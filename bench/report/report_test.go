package report

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// example is a run of two rounds with three systems, one of which failed a test.
func example() *Report {
	r := &Report{
		Kind: "net", Version: "1.2.3", Began: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Took: 60,
		Command: []string{"govxlan", "bench", "net", "--with", "q2=--queues 2"},
		Machine: Machine{CPU: "Some CPU", Cores: 2, MemoryMB: 24105, Kernel: "6.18.0", System: "Some Linux", Go: "go1.26", Arch: "amd64"},
		Base:    "kernel", Rounds: 3, Seconds: 2, Generator: "builtin",
		Modes: []Mode{
			{Name: "offload", Title: "as it is", OffloadsOn: []string{"tx-tcp-segmentation"}},
			{Name: "wire", Title: "as on a wire", OffloadsOn: []string{}},
		},
		Systems: []System{
			{Name: "kernel", Title: "the kernel's", Version: "6.18.0", OverlayMTU: 1450, LargestPacket: map[string]int{"offload": 64424, "wire": 1514}},
			{Name: "govxlan", Title: "govxlan", Version: "1.2.3", Command: "govxlan up", OverlayMTU: 1450, LargestPacket: map[string]int{"offload": 64810, "wire": 1514}},
			{Name: "q2", Title: "govxlan --queues 2", With: "q2=--queues 2", OverlayMTU: 1450, LargestPacket: map[string]int{}},
		},
		Measures: []Measure{
			{ID: "tcp1", Test: "tcp1", Title: "TCP, 1 stream", Unit: "Gb/s", Better: Higher},
			{ID: "udp64.loss", Test: "udp64", Title: "  lost", Unit: "%", Better: Lower},
			{ID: "ping.p50", Test: "ping", Title: "ping, p50", Unit: "us", Better: Lower},
		},
		Skipped:  []Skipped{{Name: "fastd", Missing: "no fastd", Install: "apt install fastd"}},
		Failures: []Failure{{Round: 2, Mode: "wire", System: "q2", Test: "tcp1", Error: "nothing arrived"}},
	}
	add := func(mode, system, measure string, values ...float64) {
		for i, v := range values {
			r.Samples = append(r.Samples, Sample{Round: i + 1, Mode: mode, System: system, Measure: measure, Value: v})
		}
	}
	// The machine slows down: the medians alone would say 0.8, each round 0.5 to
	// 0.8.
	add("offload", "kernel", "tcp1", 20, 10, 4)
	add("offload", "govxlan", "tcp1", 10, 8, 2)
	add("offload", "kernel", "udp64.loss", 0, 0, 0)
	add("offload", "govxlan", "udp64.loss", 5, 6, 7)
	add("wire", "kernel", "ping.p50", 20, 30, 25)
	add("wire", "govxlan", "ping.p50", 60, 61, 62)
	r.Summarize()
	return r
}

func TestSummarize(t *testing.T) {
	half, one := 0.5, 1.0
	want := []Summary{
		{Mode: "offload", System: "kernel", Measure: "tcp1", Rounds: 3, Median: 10, Min: 4, Max: 20, Ratio: &one},
		{Mode: "offload", System: "govxlan", Measure: "tcp1", Rounds: 3, Median: 8, Min: 2, Max: 10, Ratio: &half},
		{Mode: "offload", System: "kernel", Measure: "udp64.loss", Rounds: 3},
		{Mode: "offload", System: "govxlan", Measure: "udp64.loss", Rounds: 3, Median: 6, Min: 5, Max: 7},
		{Mode: "wire", System: "kernel", Measure: "ping.p50", Rounds: 3, Median: 25, Min: 20, Max: 30, Ratio: &one},
		{Mode: "wire", System: "govxlan", Measure: "ping.p50", Rounds: 3, Median: 61, Min: 60, Max: 62},
	}
	// 60/20, 61/30, 62/25: the middle one is 2.48.
	middle := 62.0 / 25
	want[5].Ratio = &middle
	if got := example().Summary; !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// A round that one of the two has no figure of has no ratio.
func TestRatioTakesCommonRounds(t *testing.T) {
	got := ratio(map[int]float64{1: 10, 3: 30}, map[int]float64{2: 5, 3: 10})
	if got == nil || *got != 3 {
		t.Errorf("%v, want 3", got)
	}
	if got := ratio(map[int]float64{1: 10}, map[int]float64{2: 5}); got != nil {
		t.Errorf("%v of no common round", *got)
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3}, {[]float64{4, 1}, 2.5}, {[]float64{9, 1, 5}, 5}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		before := append([]float64(nil), c.values...)
		if got := Median(c.values); got != c.want {
			t.Errorf("of %v: %v, want %v", c.values, got, c.want)
		}
		if !reflect.DeepEqual(before, c.values) {
			t.Errorf("Median changed its argument to %v", c.values)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.00123: "0.0012", 0.0123: "0.0123", 0.123: "0.123", 1.234: "1.23", 9.999: "10.0", 12.34: "12.3",
		99.96: "100", 123.4: "123", 1234: "1230", 123456: "123000", -1.5: "-1.50", 1000: "1000", 999.6: "1000",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	for v, want := range map[float64]string{0: "0.00x", 0.0123: "0.012x", 0.5: "0.50x", 1: "1.00x", 12.34: "12.3x", 123.4: "123x"} {
		if got := times(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}

// The names in JSON are for good.
func TestJSONShape(t *testing.T) {
	text, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]any{
		"kind": "net", "version": "1.2.3", "began": "2026-03-04T05:06:07Z", "took_s": 60.0, "base": "kernel",
		"rounds": 3.0, "seconds": 2.0, "generator": "builtin", "load_before": 0.0,
		"machine.cpu": "Some CPU", "machine.cores": 2.0, "machine.memory_mb": 24105.0, "machine.kernel": "6.18.0",
		"modes.0.name": "offload", "modes.0.offloads_on.0": "tx-tcp-segmentation",
		"systems.1.name": "govxlan", "systems.1.overlay_mtu": 1450.0, "systems.1.largest_packet.wire": 1514.0,
		"measures.0.id": "tcp1", "measures.0.test": "tcp1", "measures.0.unit": "Gb/s", "measures.0.better": "higher",
		"samples.0.round": 1.0, "samples.0.mode": "offload", "samples.0.system": "kernel", "samples.0.measure": "tcp1", "samples.0.value": 20.0,
		"summary.1.median": 8.0, "summary.1.min": 2.0, "summary.1.max": 10.0, "summary.1.ratio": 0.5, "summary.1.rounds": 3.0,
		"failures.0.error": "nothing arrived", "skipped.0.install": "apt install fastd",
	} {
		if v := at(got, path); v != want {
			t.Errorf("%s = %v, want %v", path, v, want)
		}
	}
	// And back: a report that was read shows what was written.
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	again.Summarize()
	if second, err := json.Marshal(&again); err != nil || string(second) != string(text) {
		t.Errorf("read and written again: %s\nwant %s", second, text)
	}
}

// at finds a.0.b in what JSON became.
func at(v any, path string) any {
	for _, key := range strings.Split(path, ".") {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			n := int(key[0] - '0')
			if n >= len(in) {
				return nil
			}
			v = in[n]
		default:
			return nil
		}
	}
	return v
}
