package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteTable writes one table for each mode: a line for each measure with every
// system's median and its ratio to the base, and below that the spread of the
// rounds. A table wider than columns (0: no limit) goes on below itself.
func (r *Report) WriteTable(w io.Writer, columns int) error {
	p := &printer{w: w}
	p.printf("%s\n", r.Machine.Line())
	p.printf("govxlan %s, %s, %d rounds of %s s, generator: %s\n",
		r.Version, r.Began.Format("2006-01-02 15:04 MST"), r.Rounds, strconv.FormatFloat(r.Seconds, 'f', -1, 64), r.Generator)
	p.printf("Each cell: median and ratio to %s (median of the rounds' ratios); below: min-max.\n", orNone(r.Base))
	if r.Partial {
		p.printf("The run was interrupted: these are the figures until then.\n")
	}
	for _, mode := range r.Modes {
		measures := r.measured(mode.Name)
		if len(measures) == 0 {
			continue
		}
		p.printf("\n%s: %s\n", mode.Name, mode.Title)
		for _, systems := range r.chunks(columns) {
			p.printf("\n")
			r.writeMode(p, mode.Name, measures, systems)
		}
	}
	r.writeNotes(p)
	return p.err
}

func orNone(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

const (
	titleWidth = 34
	cellWidth  = 16
)

// chunks divides the systems into groups that fit side by side.
func (r *Report) chunks(columns int) [][]System {
	each := len(r.Systems)
	if columns > 0 {
		each = max((columns-titleWidth)/(cellWidth+1), 1)
	}
	var groups [][]System
	for rest := r.Systems; len(rest) > 0; {
		n := min(each, len(rest))
		groups = append(groups, rest[:n])
		rest = rest[n:]
	}
	return groups
}

func (r *Report) writeMode(p *printer, mode string, measures []Measure, systems []System) {
	line := pad("", titleWidth)
	for _, s := range systems {
		line += " " + padLeft(s.Name, cellWidth)
	}
	p.printf("%s\n", strings.TrimRight(line, " "))
	for _, m := range measures {
		first, second := pad(m.Title+", "+m.Unit, titleWidth), pad("", titleWidth)
		spread := false
		for _, s := range systems {
			top, bottom := "-", ""
			if c := r.find(mode, m.ID, s.Name); c != nil {
				ratio := ""
				if c.Ratio != nil && s.Name != r.Base {
					ratio = times(*c.Ratio)
				}
				top = Number(c.Median) + " " + padLeft(ratio, 6)
				if c.Min != c.Max {
					bottom = Number(c.Min) + "-" + Number(c.Max)
					spread = true
				}
			} else {
				top += strings.Repeat(" ", 7)
			}
			first += " " + padLeft(top, cellWidth)
			second += " " + padLeft(bottom, cellWidth-7) + strings.Repeat(" ", 7)
		}
		p.printf("%s\n", strings.TrimRight(first, " "))
		if spread {
			p.printf("%s\n", strings.TrimRight(second, " "))
		}
	}
}

// writeNotes writes what a reader of the figures must know beside them.
func (r *Report) writeNotes(p *printer) {
	var notes []string
	for _, mode := range r.Modes {
		if sizes := r.largest(mode.Name); sizes != "" {
			notes = append(notes, fmt.Sprintf("Largest frame seen on the underlay, %s mode, bytes: %s.", mode.Name, sizes))
		}
	}
	notes = append(notes, r.troubles()...)
	if len(notes) > 0 {
		p.printf("\n")
	}
	for _, n := range notes {
		p.printf("%s\n", n)
	}
}

// largest lists the longest frames that crossed the underlay in one mode.
func (r *Report) largest(mode string) string {
	var sizes []string
	for _, s := range r.Systems {
		if n := s.LargestPacket[mode]; n > 0 {
			sizes = append(sizes, fmt.Sprintf("%s %d", s.Name, n))
		}
	}
	return strings.Join(sizes, ", ")
}

// troubles are what is missing and what went wrong.
func (r *Report) troubles() []string {
	var notes []string
	if r.Busy() {
		notes = append(notes, fmt.Sprintf("The machine was busy with other things when the run began (load average %s): expect noise.", Number(r.Load)))
	}
	for _, s := range r.Skipped {
		notes = append(notes, fmt.Sprintf("Not here: %s (%s). To have it: %s", s.Name, s.Missing, s.Install))
	}
	for _, f := range r.Failures {
		what := f.Test
		if what == "" {
			what = "start"
		}
		where := ""
		if f.Round > 0 {
			where = fmt.Sprintf(", round %d", f.Round)
		}
		notes = append(notes, fmt.Sprintf("Failed: %s, %s mode, %s%s: %s", f.System, f.Mode, what, where, f.Error))
	}
	return notes
}

// Line describes the machine in one line.
func (m Machine) Line() string {
	return fmt.Sprintf("%s, %d cores, %d GB, %s, Linux %s, %s %s", m.CPU, m.Cores, (m.MemoryMB+512)/1024, m.System, m.Kernel, m.Go, m.Arch)
}

// printer remembers the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(width-len([]rune(s)), 0))
}

func padLeft(s string, width int) string {
	return strings.Repeat(" ", max(width-len([]rune(s)), 0)) + s
}
