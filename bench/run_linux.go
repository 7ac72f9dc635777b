package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/bench/report"
	"github.com/govxlan/govxlan/internal/netlab"
)

// Label is part of the names of the namespaces that a run makes.
const Label = "bench"

// runner is one run.
type runner struct {
	Config
	report        *report.Report
	kernelRelease string
	systems       []*system
	tests         []test
	done, total   int
}

// Run measures. It removes everything that it made before it returns, whatever
// happens. When ctx ends, the error is its cause, and the report holds what was
// measured until then; otherwise an error means that there is no report. A test
// that fails is in the report, and the others go on.
func Run(ctx context.Context, cfg Config) (*report.Report, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &runner{Config: cfg}
	if err := r.choose(); err != nil {
		return nil, err
	}
	began := time.Now()
	machine := Machine()
	r.kernelRelease = machine.Kernel
	r.report = &report.Report{
		Kind: "net", Version: cfg.Version, Began: began.Truncate(time.Second), Machine: machine,
		Load: loadAverage(), Base: cfg.Base, Rounds: cfg.Rounds, Seconds: cfg.Window.Seconds(), Generator: cfg.Generator,
		Skipped: r.skipped(), Samples: []report.Sample{}, Systems: []report.System{},
	}
	for _, t := range tests {
		if slices.Contains(cfg.Tests, t.name) {
			r.tests = append(r.tests, t)
			r.report.Measures = append(r.report.Measures, t.measures...)
		}
	}
	for _, s := range r.systems {
		r.report.Systems = append(r.report.Systems, report.System{Name: s.name, Title: s.title, With: s.with, LargestPacket: make(map[string]int)})
	}
	r.total = len(cfg.Modes) * len(r.systems) * (1 + cfg.Rounds*len(r.tests))
	var err error
	for _, mode := range cfg.Modes {
		if err = r.mode(ctx, mode); err != nil {
			break
		}
	}
	r.report.Took = time.Since(began).Round(time.Millisecond).Seconds()
	r.report.Summarize()
	if ctx.Err() != nil {
		r.report.Partial = true
		return r.report, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return r.report, nil
}

// choose picks the systems in the order in which they were asked for.
func (r *runner) choose() error {
	all := systems()
	for _, v := range r.Variants {
		words := slices.Clone(v.Flags)
		title := strings.Join(append([]string{"govxlan"}, words...), " ")
		if v.Program != "" {
			words = append([]string{v.Program}, words...)
			title = strings.Join(words, " ")
		}
		all = append(all, &system{name: v.Name, title: title, with: v.Name + "=" + strings.Join(words, " "), own: true, start: govxlan(v)})
	}
	for _, s := range all {
		if r.Peers && len(s.tools) > 0 && s.missing() == "" && !slices.Contains(r.Systems, s.name) {
			r.Systems = append(r.Systems, s.name)
		}
	}
	for _, name := range r.Systems {
		i := slices.IndexFunc(all, func(s *system) bool { return s.name == name })
		if i < 0 {
			return badChoice("no system is called %q", name)
		}
		if missing := all[i].missing(); missing != "" {
			return fmt.Errorf("%s cannot run: %s here; to have it: %s", name, missing, all[i].install)
		}
		r.systems = append(r.systems, all[i])
	}
	return nil
}

// skipped are the systems that Peers would have added.
func (r *runner) skipped() []report.Skipped {
	if !r.Peers {
		return nil
	}
	var list []report.Skipped
	for _, s := range systems() {
		if missing := s.missing(); missing != "" {
			list = append(list, report.Skipped{Name: s.name, Missing: missing, Install: s.install})
		}
	}
	return list
}

// mode measures all systems in one mode, in a lab of its own: an endpoint finds
// out at its start what the underlay can do.
func (r *runner) mode(ctx context.Context, mode string) (err error) {
	lab, err := netlab.New(Label)
	if err != nil {
		return err
	}
	m := report.Mode{Name: mode, Title: modeTitles[mode]}
	var made, pairs []*pair
	defer func() {
		err = errors.Join(err, lab.Close())
		for _, p := range made {
			for _, f := range p.cleanup {
				f()
			}
		}
	}()
	for i, s := range r.systems {
		p, err := newPair(lab, s, i, mode)
		if err != nil {
			return err
		}
		made = append(made, p)
		if m.OffloadsOn == nil {
			if m.OffloadsOn, err = offloadsOn(p.hosts[0]); err != nil {
				return err
			}
		}
		err = s.start(ctx, r, p)
		if err == nil {
			err = r.check(ctx, p)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.step(Step{Mode: mode, System: s.name, Err: err})
		if err != nil {
			r.fail(0, p, "", err)
			continue
		}
		described := &r.report.Systems[i]
		described.Version, described.Command, described.OverlayMTU = p.version, p.command, p.mtu
		described.LargestPacket[mode] = p.largest
		pairs = append(pairs, p)
	}
	r.report.Modes = append(r.report.Modes, m)
	if len(pairs) == 0 {
		return errors.New("no system came up: " + r.report.Failures[len(r.report.Failures)-1].Error)
	}
	for round := 1; round <= r.Rounds; round++ {
		for _, t := range r.tests {
			for i := range pairs {
				// Each round begins with another system.
				p := pairs[(i+round-1)%len(pairs)]
				stop := p.scrape(ctx)
				values, err := r.test(ctx, p, t.name)
				err = cmp.Or(err, stop())
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					r.fail(round, p, t.name, err)
				}
				step := Step{Round: round, Mode: mode, System: p.system.name, Test: t.name, Err: err}
				for i, v := range values {
					r.report.Samples = append(r.report.Samples, report.Sample{
						Round: round, Mode: mode, System: p.system.name, Measure: t.measures[i].ID, Value: v,
					})
				}
				if len(values) > 0 {
					step.Value = report.Number(values[0]) + " " + t.measures[0].Unit
				}
				r.step(step)
			}
		}
	}
	return nil
}

func (r *runner) step(s Step) {
	r.done++
	s.Done, s.Total = r.done, r.total
	r.Progress(s)
}

func (r *runner) fail(round int, p *pair, test string, err error) {
	r.report.Failures = append(r.report.Failures, report.Failure{
		Round: round, Mode: p.mode, System: p.system.name, Test: test, Error: strings.ReplaceAll(err.Error(), "\n", "; "),
	})
}

// offloadsOn are the features of the underlay that make packets larger or
// unfinished.
func offloadsOn(h *host) ([]string, error) {
	features, err := h.Features(underlayDev)
	if err != nil {
		return nil, err
	}
	on := []string{}
	for name, state := range features {
		if state && (strings.Contains(name, "segmentation") || strings.Contains(name, "checksum") || strings.Contains(name, "gro") || strings.Contains(name, "gso")) {
			on = append(on, name)
		}
	}
	slices.Sort(on)
	return on, nil
}
