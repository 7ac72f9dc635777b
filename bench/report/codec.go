package report

import (
	"io"
	"slices"
	"strings"
	"time"
)

// Codec is everything about one run of the codec benchmarks. Fields may be added
// to its JSON form, but none renamed.
type Codec struct {
	Kind    string        `json:"kind"` // "codec"
	Version string        `json:"version"`
	Began   time.Time     `json:"began"`
	Took    float64       `json:"took_s"`
	Command []string      `json:"command"`
	Machine Machine       `json:"machine"`
	Rounds  int           `json:"rounds"`
	Results []CodecResult `json:"results"`
}

// CodecResult is one case.
type CodecResult struct {
	Group string `json:"group"`
	Name  string `json:"name"`
	// Nanoseconds of one operation: median, extremes, and every round.
	Median float64   `json:"ns"`
	Min    float64   `json:"ns_min"`
	Max    float64   `json:"ns_max"`
	Rounds []float64 `json:"ns_rounds"`
	// Allocations of one operation, the most of any round.
	Allocations float64 `json:"allocs"`
	// Bytes of one operation, and the gigabytes a second that makes; 0 where it
	// means nothing.
	Bytes int     `json:"bytes,omitempty"`
	Rate  float64 `json:"gb_per_s,omitempty"`
}

// NewCodecResult sums up the rounds of a case: nanoseconds and allocations.
func NewCodecResult(group, name string, bytes int, ns, allocs []float64) CodecResult {
	r := CodecResult{
		Group: group, Name: name, Bytes: bytes, Rounds: ns,
		Median: Median(ns), Min: slices.Min(ns), Max: slices.Max(ns), Allocations: slices.Max(allocs),
	}
	if r.Allocations < 0.01 {
		// The runtime's own, spread over millions of operations.
		r.Allocations = 0
	}
	if bytes > 0 {
		r.Rate = float64(bytes) / r.Median
	}
	return r
}

// WriteTable writes a line for each case.
func (c *Codec) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.printf("%s\n", c.Machine.Line())
	p.printf("govxlan %s, %s, median of %d rounds, one core\n", c.Version, c.Began.Format("2006-01-02 15:04 MST"), c.Rounds)
	group := ""
	for _, r := range c.Results {
		if r.Group != group {
			group = r.Group
			p.printf("\n%s%s%s%s%s\n", pad(group, 34), padLeft("ns/op", 10), padLeft("min-max", 16), padLeft("allocs/op", 11), padLeft("GB/s", 8))
		}
		rate := ""
		if r.Rate > 0 {
			rate = Number(r.Rate)
		}
		line := pad("  "+r.Name, 34) + padLeft(Number(r.Median), 10) +
			padLeft(Number(r.Min)+"-"+Number(r.Max), 16) + padLeft(Number(r.Allocations), 11) + padLeft(rate, 8)
		p.printf("%s\n", strings.TrimRight(line, " "))
	}
	return p.err
}
