package soak

import (
	"fmt"
	"slices"
)

// Sample is what a process has at one moment.
type Sample struct {
	At          float64 `json:"at_s"` // since the beginning
	PID         int     `json:"pid"`
	Memory      uint64  `json:"memory_bytes"` // resident
	Descriptors int     `json:"descriptors"`
	Goroutines  int     `json:"goroutines"`
}

// What a process may have more of, in the median of the last quarter of its time, than
// in that of the second quarter, when it is warm.
const (
	moreMemory      = 12 << 20
	moreDescriptors = 3
	moreGoroutines  = 4
)

// warmMemory is how many seconds a process must have lived before its memory can be
// judged: a heap has its size once everything has happened that happens.
const warmMemory = 120

// warmAll is the same for everything else.
const warmAll = 10

// leaks says what has grown that should not have, in the samples of one process.
func leaks(samples []Sample) (found []string) {
	n := len(samples)
	if n < 8 || samples[n-1].At-samples[0].At < warmAll {
		return nil
	}
	grown := func(what string, most float64, of func(Sample) float64, scale float64, unit string) {
		median := func(part []Sample) float64 {
			values := make([]float64, len(part))
			for i, s := range part {
				values[i] = of(s)
			}
			slices.Sort(values)
			return values[len(values)/2]
		}
		was, is := median(samples[n/4:n/2]), median(samples[n-n/4:])
		if is > was+most {
			found = append(found, fmt.Sprintf("%s: %.4g%s when warm, %.4g%s in the end", what, was/scale, unit, is/scale, unit))
		}
	}
	if samples[n-1].At-samples[0].At >= warmMemory {
		grown("memory", moreMemory, func(s Sample) float64 { return float64(s.Memory) }, 1e6, " MB")
	}
	grown("descriptors", moreDescriptors, func(s Sample) float64 { return float64(s.Descriptors) }, 1, "")
	grown("goroutines", moreGoroutines, func(s Sample) float64 { return float64(s.Goroutines) }, 1, "")
	return found
}
