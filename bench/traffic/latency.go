package traffic

import (
	"math"
	"slices"
	"time"
)

// latency sums up the times of those that came back.
func latency(times []time.Duration, lost int) *Latency {
	l := &Latency{Count: len(times), Lost: lost}
	if len(times) == 0 {
		return l
	}
	slices.Sort(times)
	var sum float64
	for _, t := range times {
		sum += micros(t)
	}
	l.Mean = sum / float64(len(times))
	l.P50 = micros(percentile(times, 0.50))
	l.P99 = micros(percentile(times, 0.99))
	l.Max = micros(times[len(times)-1])
	return l
}

func micros(t time.Duration) float64 { return float64(t) / float64(time.Microsecond) }

// percentile is the smallest of the sorted times that at least the share p of
// them does not exceed (the nearest-rank definition).
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
