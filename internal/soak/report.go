package soak

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report is what came of a soak.
type Report struct {
	Seed           uint64            `json:"seed"`
	Datapath       string            `json:"datapath"`
	Seconds        float64           `json:"seconds"`
	Streams        []Account         `json:"streams"`
	TCP            []TCP             `json:"tcp"`
	Faults         []Fault           `json:"faults"`
	Changes        uint64            `json:"changes"`
	ChangesRefused uint64            `json:"changes_refused"`
	Drops          map[string]uint64 `json:"drops"` // that may explain losses, by where and why
	Processes      []Process         `json:"processes"`
	Errors         []string          `json:"errors,omitempty"`
	// Failures is what must not be; none is a pass.
	Failures []string `json:"failures,omitempty"`
}

// TCP is what became of the connections from one host to another.
type TCP struct {
	Name    string   `json:"name"`
	Bytes   uint64   `json:"bytes"`
	Whole   uint64   `json:"whole"`
	Cut     uint64   `json:"cut"`
	Altered []string `json:"altered,omitempty"`
}

// Fault is a fault that was made.
type Fault struct {
	Name  string  `json:"name"`
	Begin float64 `json:"begin_s"`
	End   float64 `json:"end_s"`
	// Back is how long after its end the first datagram was sent that arrived, of the
	// stream that took longest.
	Back float64 `json:"back_after_s"`
	// Never are streams that did not come back.
	Never []string `json:"never_back,omitempty"`
}

// Process is what the endpoint of a host had over time.
type Process struct {
	Host    string   `json:"host"`
	Samples []Sample `json:"samples"`
	Leaks   []string `json:"leaks,omitempty"`
}

// backWithin is how long traffic may take to resume after a fault, in seconds. It takes
// far less; a busy machine has its own ideas.
const backWithin = 10

// longest are the samples of the process that has most of them.
func longest(samples []Sample) []Sample {
	of := make(map[int]int)
	most := 0
	for _, s := range samples {
		of[s.PID]++
		if of[s.PID] > of[most] {
			most = s.PID
		}
	}
	return slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.PID != most })
}

// judge says what must not be.
func (r *Report) judge() {
	fail := func(format string, args ...any) { r.Failures = append(r.Failures, fmt.Sprintf(format, args...)) }
	for _, e := range r.Errors {
		fail("%s", e)
	}
	for _, s := range r.Streams {
		if s.Mystery > 0 {
			fail("%s: %d datagrams were lost without a reason", s.Name, s.Mystery)
		}
		if s.AgainCalm > 0 {
			fail("%s: %d datagrams arrived twice without a fault", s.Name, s.AgainCalm)
		}
		if s.Altered > 0 {
			fail("%s: %d datagrams arrived that were not sent so", s.Name, s.Altered)
		}
		if s.Arrived == 0 {
			fail("%s: nothing arrived", s.Name)
		}
	}
	for _, c := range r.TCP {
		for _, a := range c.Altered {
			fail("TCP %s: %s", c.Name, a)
		}
		if c.Bytes == 0 {
			fail("TCP %s: nothing arrived", c.Name)
		}
	}
	for _, f := range r.Faults {
		if f.Back > backWithin {
			fail("%s: traffic was back after %.1f s", f.Name, f.Back)
		}
		for _, s := range f.Never {
			fail("%s: %s never came back", f.Name, s)
		}
	}
	for _, p := range r.Processes {
		for _, l := range p.Leaks {
			fail("host %s: %s", p.Host, l)
		}
	}
	if r.Changes == 0 {
		fail("nothing was changed meanwhile")
	}
}

// WriteMarkdown writes the report for people. picture is the name of the picture beside
// it; "" = none.
func (r *Report) WriteMarkdown(w io.Writer, picture string) error {
	var b strings.Builder
	verdict := "**Passed**: every loss is explained, nothing has grown."
	if len(r.Failures) > 0 {
		verdict = "**Failed**:\n\n- " + strings.Join(r.Failures, "\n- ")
	}
	datapath := r.Datapath
	if datapath == "" {
		datapath = "auto"
	}
	fmt.Fprintf(&b, "%s\n\n%.0f s, data path %s, seed %d; %d faults, %d changes (%d refused by an endpoint that was being replaced).\n\n",
		verdict, r.Seconds, datapath, r.Seed, len(r.Faults), r.Changes, r.ChangesRefused)
	if picture != "" {
		fmt.Fprintf(&b, "![Memory and descriptors of the endpoints over time, and when faults were made](%s)\n\n", picture)
	}
	b.WriteString("| datagrams | sent | arrived | lost in faults | lost and counted | unexplained | came again | overtaken |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	var all Account
	row := func(a Account) {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d |\n", a.Name, a.Sent, a.Arrived, a.ByFault, a.Counted, a.Mystery, a.Again, a.Late)
	}
	for _, a := range r.Streams {
		row(a)
		all.Sent, all.Arrived, all.ByFault, all.Counted = all.Sent+a.Sent, all.Arrived+a.Arrived, all.ByFault+a.ByFault, all.Counted+a.Counted
		all.Mystery, all.Again, all.Late = all.Mystery+a.Mystery, all.Again+a.Again, all.Late+a.Late
	}
	all.Name = "all"
	row(all)
	b.WriteString("\n| TCP | MB | connections that arrived whole | cut |\n|---|--:|--:|--:|\n")
	for _, c := range r.TCP {
		fmt.Fprintf(&b, "| %s | %.0f | %d | %d |\n", c.Name, float64(c.Bytes)/1e6, c.Whole, c.Cut)
	}
	b.WriteString("\n| fault | times | longest time until traffic was back |\n|---|--:|--:|\n")
	for _, f := range r.byKind() {
		fmt.Fprintf(&b, "| %s | %d | %.0f ms |\n", f.name, f.times, 1000*f.back)
	}
	b.WriteString("\n| endpoint | processes | memory, descriptors, goroutines when warm | in the end |\n|---|--:|---|---|\n")
	for _, p := range r.Processes {
		one := longest(p.Samples)
		pids := make(map[int]bool)
		for _, s := range p.Samples {
			pids[s.PID] = true
		}
		warm, end := one[len(one)/4], one[len(one)-1]
		fmt.Fprintf(&b, "| host %s | %d | %s | %s |\n", p.Host, len(pids), warm, end)
	}
	if len(r.Drops) > 0 {
		b.WriteString("\n| counted drops, in faults and out of them | |\n|---|--:|\n")
		var keys []string
		for k := range r.Drops {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fmt.Fprintf(&b, "| %s | %d |\n", k, r.Drops[k])
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s Sample) String() string {
	return fmt.Sprintf("%.1f MB, %d, %d", float64(s.Memory)/1e6, s.Descriptors, s.Goroutines)
}

type faultKind struct {
	name  string
	times int
	back  float64
}

// byKind puts faults of one kind together, whatever host they were made at.
func (r *Report) byKind() (kinds []faultKind) {
	for _, f := range r.Faults {
		_, name, _ := strings.Cut(f.Name, ": ")
		i := slices.IndexFunc(kinds, func(k faultKind) bool { return k.name == name })
		if i < 0 {
			i, kinds = len(kinds), append(kinds, faultKind{name: name})
		}
		kinds[i].times++
		kinds[i].back = max(kinds[i].back, f.Back)
	}
	slices.SortFunc(kinds, func(a, b faultKind) int { return strings.Compare(a.name, b.name) })
	return kinds
}
