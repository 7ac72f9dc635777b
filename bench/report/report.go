package report

import "time"

// Report is everything about one run of the network benchmarks. Fields may be
// added to its JSON form, but none renamed.
type Report struct {
	Kind    string    `json:"kind"` // "net"
	Version string    `json:"version"`
	Began   time.Time `json:"began"`
	// Took is in seconds.
	Took    float64  `json:"took_s"`
	Command []string `json:"command"`
	Machine Machine  `json:"machine"`
	// Load is the load average of the last minute before the run began: how
	// many threads of other programs wanted a core.
	Load float64 `json:"load_before"`

	// Base is the system that ratios refer to; empty: none of this run.
	Base      string  `json:"base"`
	Rounds    int     `json:"rounds"`
	Seconds   float64 `json:"seconds"` // of one measurement
	Generator string  `json:"generator"`
	// Partial says that the run was ended before its last round.
	Partial bool `json:"partial,omitempty"`

	Modes    []Mode    `json:"modes"`
	Systems  []System  `json:"systems"`
	Measures []Measure `json:"measures"`
	// Skipped are systems that were asked for with others and are not
	// installed.
	Skipped  []Skipped `json:"skipped,omitempty"`
	Samples  []Sample  `json:"samples"`
	Failures []Failure `json:"failures,omitempty"`
	Summary  []Summary `json:"summary"`
}

// Machine is what a run ran on.
type Machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	System   string `json:"system"`
	Go       string `json:"go"`
	Arch     string `json:"arch"`
}

// Mode is a kind of underlay.
type Mode struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// OffloadsOn are the features of the underlay devices that are on.
	OffloadsOn []string `json:"offloads_on"`
}

// System is one of the tunnels, or what stands in for one.
type System struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Version string `json:"version,omitempty"`
	// Command runs its endpoint on host A.
	Command string `json:"command,omitempty"`
	// With is what --with wants to have it again.
	With string `json:"with,omitempty"`
	// OverlayMTU in bytes, and LargestPacket, by mode, of the frames that
	// crossed the underlay in a check with TCP, Ethernet header included.
	OverlayMTU    int            `json:"overlay_mtu"`
	LargestPacket map[string]int `json:"largest_packet"`
}

// Skipped is a system that is not here, and how to get it.
type Skipped struct {
	Name    string `json:"name"`
	Missing string `json:"missing"`
	Install string `json:"install"`
}

// Directions of a measure.
const (
	Higher = "higher"
	Lower  = "lower"
)

// Measure is one figure that each system gets in each mode and round.
type Measure struct {
	ID     string `json:"id"`   // tcp1, ping.p99
	Test   string `json:"test"` // what produces it: tcp1, ping
	Title  string `json:"title"`
	Unit   string `json:"unit"`
	Better string `json:"better"`
}

// Sample is one measured figure, in its measure's unit.
type Sample struct {
	Round   int     `json:"round"` // from 1
	Mode    string  `json:"mode"`
	System  string  `json:"system"`
	Measure string  `json:"measure"`
	Value   float64 `json:"value"`
}

// Failure is a test that gave no figure.
type Failure struct {
	Round  int    `json:"round"` // 0: it did not come up
	Mode   string `json:"mode"`
	System string `json:"system"`
	Test   string `json:"test,omitempty"`
	Error  string `json:"error"`
}

// Summary is what the rounds come to for one system, mode and measure.
type Summary struct {
	Mode    string  `json:"mode"`
	System  string  `json:"system"`
	Measure string  `json:"measure"`
	Rounds  int     `json:"rounds"`
	Median  float64 `json:"median"`
	Min     float64 `json:"min"`
	Max     float64 `json:"max"`
	// Ratio is the median of the rounds' ratios to the base system; nil when
	// no round has one.
	Ratio *float64 `json:"ratio,omitempty"`
}

// Summarize fills Summary in from Samples, in the order of modes, measures and
// systems. What was not measured is left out.
func (r *Report) Summarize() {
	values := make(map[[3]string]map[int]float64) // mode, measure, system: by round
	for _, s := range r.Samples {
		key := [3]string{s.Mode, s.Measure, s.System}
		if values[key] == nil {
			values[key] = make(map[int]float64)
		}
		values[key][s.Round] = s.Value
	}
	r.Summary = []Summary{}
	for _, mode := range r.Modes {
		for _, measure := range r.Measures {
			base := values[[3]string{mode.Name, measure.ID, r.Base}]
			for _, system := range r.Systems {
				mine := values[[3]string{mode.Name, measure.ID, system.Name}]
				if len(mine) == 0 {
					continue
				}
				s := Summary{Mode: mode.Name, System: system.Name, Measure: measure.ID, Rounds: len(mine)}
				s.Median, s.Min, s.Max = spread(mine)
				s.Ratio = ratio(mine, base)
				r.Summary = append(r.Summary, s)
			}
		}
	}
}

// Busy says whether other programs took a part of the machine that shows.
func (r *Report) Busy() bool { return r.Load > 0.3*float64(r.Machine.Cores) }

// find returns the summary of one cell, or nil.
func (r *Report) find(mode, measure, system string) *Summary {
	for i := range r.Summary {
		s := &r.Summary[i]
		if s.Mode == mode && s.Measure == measure && s.System == system {
			return s
		}
	}
	return nil
}

// measured are the measures of which a mode has at least one figure.
func (r *Report) measured(mode string) []Measure {
	var list []Measure
	for _, m := range r.Measures {
		for _, s := range r.Summary {
			if s.Mode == mode && s.Measure == m.ID {
				list = append(list, m)
				break
			}
		}
	}
	return list
}
