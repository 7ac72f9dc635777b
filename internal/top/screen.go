package top

import (
	"cmp"
	"slices"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Sorts are what the VNIs can be in order of. All but the first put the most
// first.
var Sorts = []string{"vni", "in", "out", "drops", "fdb", "peers"}

// intervals are what + and - choose from.
var intervals = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
}

// MinInterval and MaxInterval bound Config.Interval.
var MinInterval, MaxInterval = intervals[0], intervals[len(intervals)-1]

// Config is what the user chose.
type Config struct {
	// VNI shows one VNI alone. nil: all of them.
	VNI *vxlan.VNI
	// Sort is one of Sorts.
	Sort string
	// Interval is the time between two questions, if the endpoint answers fast
	// enough.
	Interval time.Duration
}

// Screen is what is shown.
type Screen struct {
	// Plain leaves bold and reverse letters out.
	Plain bool

	cfg    Config
	last   *Sample
	rates  *rates
	away   error     // why the endpoint did not answer last time
	since  time.Time // when it first did not
	paused bool

	order []int // of last.VNIs, as shown
	// cursor is the VNI whose peers and drops are shown: the first one, unless
	// another was chosen.
	cursor vxlan.VNI
	chosen bool
	only   bool // the cursor's VNI alone is asked for
	first  int  // row of the table of VNIs that is shown first
	page   int  // rows of that table, when last painted
}

// NewScreen returns a screen that has nothing to show yet.
func NewScreen(cfg Config) *Screen {
	s := &Screen{cfg: cfg}
	if cfg.VNI != nil {
		s.cursor, s.chosen, s.only = *cfg.VNI, true, true
	}
	return s
}

// Only are the VNIs to ask for; none: all.
func (s *Screen) Only() []vxlan.VNI {
	if s.only {
		return []vxlan.VNI{s.cursor}
	}
	return nil
}

// Wait is the time until the next question, when the last one took so long to be
// answered: of a large endpoint not so much is asked that it notices.
func (s *Screen) Wait(took time.Duration) time.Duration {
	return max(s.cfg.Interval-took, 9*took)
}

// Paused says whether the user wants to look at what is there.
func (s *Screen) Paused() bool { return s.paused }

// Take shows a new sample.
func (s *Screen) Take(now *Sample) {
	s.rates = compare(s.last, now)
	s.last, s.away = now, nil
	s.arrange()
}

// Fail shows that the endpoint does not answer.
func (s *Screen) Fail(err error, at time.Time) {
	if s.away == nil {
		s.since = at
	}
	s.away = err
}

// arrange puts the VNIs in order, and the cursor on one that is there.
func (s *Screen) arrange() {
	if s.last == nil {
		return
	}
	vnis := s.last.VNIs
	s.order = s.order[:0]
	for i := range vnis {
		s.order = append(s.order, i)
	}
	slices.SortStableFunc(s.order, func(a, b int) int {
		return -cmp.Compare(s.weight(&vnis[a]), s.weight(&vnis[b]))
	})
	if s.only || len(vnis) == 0 {
		return
	}
	if !s.chosen || s.at() < 0 {
		s.cursor, s.chosen = vnis[s.order[0]].VNI, false
	}
}

// weight is what VNIs are in order of; they come by number.
func (s *Screen) weight(v *vtep.VNIStatus) float64 {
	r := s.rates.vnis[v.VNI]
	switch s.cfg.Sort {
	case "in":
		return r.rxBytes
	case "out":
		return r.txBytes
	case "drops":
		return r.lost
	case "fdb":
		return float64(v.Entries)
	case "peers":
		return float64(len(v.Peers))
	}
	return 0
}

// at is the row of the cursor; below 0: it is on none.
func (s *Screen) at() int {
	return slices.IndexFunc(s.order, func(i int) bool { return s.last.VNIs[i].VNI == s.cursor })
}

// Press does what a key stands for, and says whether that is to end. ask: there
// is something new to ask for.
func (s *Screen) Press(key string) (quit, ask bool) {
	switch key {
	case "q", "ctrl+c":
		return true, false
	case "up", "k":
		s.move(-1)
	case "down", "j":
		s.move(1)
	case "pgup":
		s.move(-max(s.page, 1))
	case "pgdown":
		s.move(max(s.page, 1))
	case "home", "g":
		s.move(-len(s.order))
	case "end", "G":
		s.move(len(s.order))
	case "enter", "esc":
		if s.cfg.VNI != nil || s.at() < 0 && !s.only || key == "esc" && !s.only {
			return false, false
		}
		s.only, s.chosen = !s.only, true
		return false, true
	case "s":
		s.cfg.Sort = Sorts[(slices.Index(Sorts, s.cfg.Sort)+1)%len(Sorts)]
		s.arrange()
	case "p", "space":
		s.paused = !s.paused
		return false, !s.paused
	case "+", "=":
		s.cfg.Interval = faster(s.cfg.Interval)
		return false, true
	case "-":
		s.cfg.Interval = slower(s.cfg.Interval)
	}
	return false, false
}

// faster is the next shorter interval.
func faster(d time.Duration) time.Duration {
	for _, i := range slices.Backward(intervals) {
		if i < d {
			return i
		}
	}
	return d
}

// slower is the next longer interval.
func slower(d time.Duration) time.Duration {
	for _, i := range intervals {
		if i > d {
			return i
		}
	}
	return d
}

// move moves the cursor by so many rows.
func (s *Screen) move(by int) {
	if at := s.at(); at >= 0 {
		at = min(max(at+by, 0), len(s.order)-1)
		s.cursor, s.chosen = s.last.VNIs[s.order[at]].VNI, true
	}
}
