package soak

import (
	"time"
)

// newReport adds everything up.
func newReport(c *Config, t *traffic, m *maker, ch *churn, look *sampler, begin, end time.Duration, failed error) *Report {
	r := &Report{
		Seed: c.Seed, Datapath: c.Datapath, Seconds: (end - begin).Seconds(),
		Changes: ch.changes.Load(), ChangesRefused: ch.refused.Load(), Drops: look.reasons,
	}
	// What was sent before everything had arrived once is explained by that.
	faults := append([]fault{{name: "the beginning", hosts: []int{0, 1, kernel}, begin: 0, end: begin, settle: slack / 3}}, m.made...)
	counters := append([]drops(nil), look.drops...)
	for _, f := range t.flows {
		a := f.stream.explain(faults, counters)
		a.Name = f.stream.name
		r.Streams = append(r.Streams, a)
	}
	for _, f := range m.made {
		told := Fault{Name: f.name, Begin: f.begin.Seconds(), End: f.end.Seconds()}
		for _, w := range t.flows {
			if !f.near(w.stream) {
				continue
			}
			at, ok := w.stream.back(f.end)
			switch {
			case ok:
				told.Back = max(told.Back, (at - f.end).Seconds())
			case f.end < end-2*time.Second:
				told.Never = append(told.Never, w.stream.name)
			}
		}
		r.Faults = append(r.Faults, told)
	}
	for _, c := range t.tcp {
		r.TCP = append(r.TCP, TCP{Name: c.name, Bytes: c.bytes.Load(), Whole: c.whole.Load(), Cut: c.cut.Load(), Altered: c.wrong})
	}
	for i, samples := range look.of {
		if len(samples) == 0 {
			continue
		}
		p := Process{Host: string(rune('A' + i)), Samples: samples}
		// Of processes that were replaced, the one that lived longest.
		p.Leaks = leaks(longest(samples))
		r.Processes = append(r.Processes, p)
	}
	if failed != nil {
		r.Errors = append(r.Errors, failed.Error())
	}
	r.judge()
	return r
}
