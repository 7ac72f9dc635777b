package traffic

import (
	"testing"
	"time"
)

func TestLatency(t *testing.T) {
	var times []time.Duration
	for i := 100; i >= 1; i-- {
		times = append(times, time.Duration(i)*time.Microsecond)
	}
	got := *latency(times, 3)
	want := Latency{Count: 100, Lost: 3, Mean: 50.5, P50: 50, P99: 99, Max: 100}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := *latency([]time.Duration{7 * time.Microsecond}, 0); got.P50 != 7 || got.P99 != 7 || got.Mean != 7 {
		t.Errorf("of one: %+v", got)
	}
	if got := *latency(nil, 2); got != (Latency{Lost: 2}) {
		t.Errorf("of none: %+v", got)
	}
}
