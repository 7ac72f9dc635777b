package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Page is what a page of the documentation is made of. Either report may be nil.
type Page struct {
	Net   *Report
	Codec *Codec
	// Picture is the path of the plot as the page links to it. Optional.
	Picture string
}

// WriteMarkdown writes the page: tables, picture, and for every figure the
// command that measures it again.
func (g *Page) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.printf("# Benchmarks\n\n")
	p.printf("Written by `govxlan bench`; do not edit, measure again: the last section says how.\n")
	if g.Net != nil {
		g.Net.markdown(p, g.Picture)
	}
	if g.Codec != nil {
		g.Codec.markdown(p)
	}
	p.printf("\n## Measure it again\n\n")
	p.printf("On Linux, as root. The figures of another machine are others; the ratios should not be far off.\n\n")
	if g.Net != nil {
		g.Net.recipes(p)
	}
	if g.Codec != nil {
		p.printf("- The codec: `govxlan bench codec --rounds %d`\n", g.Codec.Rounds)
	}
	return p.err
}

func (r *Report) markdown(p *printer, picture string) {
	p.printf("\n## Tunnels side by side\n\n")
	p.printf("%s, govxlan %s, on %s.\n\n", r.Began.Format("2 January 2006"), r.Version, r.Machine.Line())
	if r.Partial {
		p.printf("The run was interrupted before its end.\n\n")
	}
	p.printf("Each system joins two network namespaces over a veth pair with an MTU of 1500 and runs there for the whole time. "+
		"Every test goes round all systems before the next one begins, %d times. "+
		"A cell is the median, with the least and the most of the rounds, and the ratio to %s: the median of the ratios of each round. "+
		"One measurement lasts %s s. Load: %s.\n\n", r.Rounds, orNone(r.Base), strconv.FormatFloat(r.Seconds, 'f', -1, 64), r.generatorTitle())
	if picture != "" {
		p.printf("![Medians as bars, one diagram for each kind of figure and mode](%s)\n\n", picture)
	}
	p.printf("| system | version | overlay MTU | how |\n|---|---|---|---|\n")
	for _, s := range r.Systems {
		how := s.Title
		if s.Command != "" {
			how += ": `" + s.Command + "`"
		}
		p.printf("| %s | %s | %d | %s |\n", s.Name, cell(s.Version), s.OverlayMTU, cell(how))
	}
	for _, mode := range r.Modes {
		measures := r.measured(mode.Name)
		if len(measures) == 0 {
			continue
		}
		p.printf("\n### Mode %s\n\n%s.", mode.Name, capital(mode.Title))
		if on := mode.OffloadsOn; len(on) == 0 {
			p.printf(" No offload of the underlay devices is on.")
		} else {
			p.printf(" On at the underlay devices: %s.", strings.Join(on, ", "))
		}
		if sizes := r.largest(mode.Name); sizes != "" {
			p.printf(" Largest frame seen there, in bytes: %s.", sizes)
		}
		p.printf("\n\n| |")
		for _, s := range r.Systems {
			p.printf(" %s |", s.Name)
		}
		p.printf("\n|---|%s\n", strings.Repeat("---:|", len(r.Systems)))
		for _, m := range measures {
			p.printf("| %s, %s |", strings.TrimSpace(m.Title), printedUnit(m.Unit))
			for _, s := range r.Systems {
				p.printf(" %s |", r.markdownCell(mode.Name, m.ID, s.Name))
			}
			p.printf("\n")
		}
	}
	if len(r.Failures)+len(r.Skipped) > 0 {
		p.printf("\n")
		for _, n := range r.troubles() {
			p.printf("- %s\n", n)
		}
	}
}

// cell is text that cannot break a table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func (r *Report) markdownCell(mode, measure, system string) string {
	s := r.find(mode, measure, system)
	if s == nil {
		return "-"
	}
	text := Number(s.Median)
	if s.Rounds > 1 && s.Min != s.Max {
		text += " (" + Number(s.Min) + "-" + Number(s.Max) + ")"
	}
	if s.Ratio != nil && system != r.Base {
		text += " " + times(*s.Ratio)
	}
	return text
}

func (r *Report) generatorTitle() string {
	if r.Generator == "builtin" {
		return "processes of this program, blocking sockets, 128 KB a read or write, one datagram a send"
	}
	return r.Generator
}

// printedUnit is a unit as print has it: the table keeps to ASCII.
func printedUnit(unit string) string {
	if unit == "us" {
		return "µs"
	}
	return unit
}

// recipes writes a command line for each test.
func (r *Report) recipes(p *printer) {
	var names, with, modes []string
	for _, s := range r.Systems {
		if s.With != "" {
			with = append(with, " --with "+quote(s.With))
		} else {
			names = append(names, s.Name)
		}
	}
	for _, m := range r.Modes {
		modes = append(modes, m.Name)
	}
	common := fmt.Sprintf("govxlan bench net --systems %s%s --modes %s --rounds %d --seconds %s",
		strings.Join(names, ","), strings.Join(with, ""), strings.Join(modes, ","), r.Rounds, strconv.FormatFloat(r.Seconds, 'f', -1, 64))
	if r.Generator != "builtin" {
		common += " --generator " + r.Generator
	}
	var command []string
	for _, word := range r.Command {
		command = append(command, quote(word))
	}
	p.printf("- All of it, as it was measured: `%s`\n", strings.Join(command, " "))
	var tests []string
	for _, m := range r.Measures {
		if !slices.Contains(tests, m.Test) {
			tests = append(tests, m.Test)
		}
	}
	for _, test := range tests {
		var titles []string
		for _, m := range r.Measures {
			if m.Test == test {
				titles = append(titles, strings.TrimSpace(m.Title))
			}
		}
		p.printf("- %s: `%s --tests %s`\n", strings.Join(titles, "; "), common, test)
	}
}

// quote makes one word for a shell.
func quote(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\n'\"\\$`!*?[]{}()<>|&;#~") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (c *Codec) markdown(p *printer) {
	p.printf("\n## The building blocks\n\n")
	p.printf("%s, govxlan %s, on %s. One core, median of %d rounds.\n\n", c.Began.Format("2 January 2006"), c.Version, c.Machine.Line(), c.Rounds)
	p.printf("| | ns/op | least-most | allocs/op | GB/s |\n|---|---:|---:|---:|---:|\n")
	for _, r := range c.Results {
		rate := ""
		if r.Rate > 0 {
			rate = Number(r.Rate)
		}
		p.printf("| %s: %s | %s | %s-%s | %s | %s |\n", r.Group, cell(r.Name), Number(r.Median), Number(r.Min), Number(r.Max), Number(r.Allocations), rate)
	}
}
