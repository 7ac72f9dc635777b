package top

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the pictures in testdata anew")

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// sample is an endpoint of so many VNIs so many seconds after it began. VNI n
// gets n frames a second.
func sample(vnis int, seconds int) *Sample {
	s := &Sample{At: began.Add(time.Duration(seconds) * time.Second)}
	s.Version = "1.2.3"
	s.Process = control.Cost{PID: 7, CPU: vtep.Seconds(0.25 * float64(seconds)), Memory: 26_250_000}
	s.Local, s.Port, s.Transport, s.Uptime, s.Workers, s.IO = "192.168.52.203", 4789, "udp", vtep.Seconds(100+seconds), 2, "io_uring"
	s.Counters.RxDropBadHeader = uint64(3 * seconds)
	for n := 1; n <= vnis; n++ {
		heard := vtep.Seconds(0.1 * float64(n))
		frames := uint64(n * seconds)
		v := vtep.VNIStatus{
			VNI: vxlan.VNI(n), Device: fmt.Sprintf("vx%d", n), MAC: vxlan.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)}, MTU: 1450,
			Offload: "checksum,tso4,tso6,uso", ARP: "flood", Entries: n, FDB: vtep.FDBStatus{Learned: n, Limit: 1000},
			Peers: []vtep.PeerStatus{
				{VTEP: netip.MustParseAddr("192.168.52.204"), Port: 4789, LastHeard: &heard, RxFrames: frames, RxBytes: 1000 * frames, TxFrames: 2 * frames, TxBytes: 200 * frames, PathMTU: 1400},
				{VTEP: netip.MustParseAddr("192.168.52.205"), Port: 4790},
			},
		}
		v.Counters = vtep.Counters{RxFrames: frames, RxBytes: 1000 * frames, TxFrames: 2 * frames, TxBytes: 200 * frames}
		if n == 2 {
			v.Counters.RxDropUnknownVTEP, v.Counters.TxDropTooBig = uint64(seconds), 5
			v.Multicast = []vtep.MulticastStatus{{Group: netip.MustParseAddr("239.1.1.1"), Port: 4789, Device: "ens160", Joined: true, TxFrames: 7 * uint64(seconds), TxBytes: 700 * uint64(seconds)}}
		}
		s.VNIs = append(s.VNIs, v)
	}
	return s
}

// screen is one that has seen two samples, two seconds apart.
func screen(vnis int, cfg Config) *Screen {
	if cfg.Sort == "" {
		cfg.Sort = "vni"
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	s := NewScreen(cfg)
	s.Plain = true
	s.Take(sample(vnis, 10))
	s.Take(sample(vnis, 12))
	return s
}

// picture compares a screen with testdata.
func picture(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got+"\n"); diff != "" {
		t.Errorf("%s, want (-), got (+):\n%s", name, diff)
	}
}

func TestPictures(t *testing.T) {
	now := began.Add(12 * time.Second)
	picture(t, "three", screen(3, Config{}).Paint(80, 24, now))

	many := screen(200, Config{Sort: "in"})
	picture(t, "many", many.Paint(80, 24, now))
	for range 29 {
		many.Press("down")
	}
	picture(t, "many-below", many.Paint(80, 24, now))

	// VNI 2 alone, which is where the drops and a group are.
	one := screen(3, Config{})
	one.Press("down")
	one.Press("enter")
	picture(t, "two-alone", one.Paint(80, 24, now))

	away := screen(1, Config{})
	away.Fail(fmt.Errorf("control socket /run/x.sock: %w", control.ErrNotRunning), now)
	away.Fail(fmt.Errorf("control socket /run/x.sock: %w", control.ErrNotRunning), now.Add(time.Second))
	picture(t, "away", away.Paint(80, 12, now.Add(90*time.Second)))

	picture(t, "first", func() string {
		s := NewScreen(Config{Sort: "vni", Interval: time.Second})
		s.Plain = true
		s.Take(sample(1, 10))
		return s.Paint(80, 12, now)
	}())
	picture(t, "once", screen(2, Config{}).Paint(80, 0, now))
}

// TestEveryLineFits: whatever the size, a screen has so many lines, and none is
// longer.
func TestEveryLineFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := screen(rapid.IntRange(0, 300).Draw(t, "VNIs"), Config{Sort: rapid.SampledFrom(Sorts).Draw(t, "sort")})
		keys := []string{"up", "down", "pgup", "pgdown", "home", "end", "enter", "esc", "s", "p", "+", "-", "x"}
		for _, key := range rapid.SliceOfN(rapid.SampledFrom(keys), 0, 20).Draw(t, "keys") {
			s.Press(key)
			s.Paint(80, 24, began)
		}
		if rapid.Bool().Draw(t, "away") {
			s.Fail(errors.New(strings.Repeat("far ", 50)), began)
		}
		w, h := rapid.IntRange(1, 200).Draw(t, "width"), rapid.IntRange(1, 80).Draw(t, "height")
		lines := strings.Split(s.Paint(w, h, began), "\n")
		if len(lines) != h {
			t.Fatalf("%d lines, want %d", len(lines), h)
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > w {
				t.Fatalf("longer than %d: %q", w, l)
			}
		}
		// The cursor's row is among those shown, where there is room for rows.
		if h > 12 && w >= 80 && s.at() >= 0 && !slices.ContainsFunc(lines, func(l string) bool {
			return strings.HasPrefix(l, fmt.Sprintf("%8d vx%d ", s.cursor, s.cursor))
		}) {
			t.Fatalf("VNI %v is chosen and not shown:\n%s", s.cursor, strings.Join(lines, "\n"))
		}
	})
}

func TestLooks(t *testing.T) {
	s := screen(2, Config{})
	s.Plain = false
	text := s.Paint(80, 24, began)
	if !strings.Contains(text, "\x1b[1m     VNI DEVICE") || !strings.Contains(text, "\x1b[7m       1 vx1") || strings.Contains(text, "\x1b[7m       2 vx2") {
		t.Errorf("bold headings and the chosen row reverse, got %q", text)
	}
	s.Plain = true
	if text := s.Paint(80, 24, began); strings.Contains(text, "\x1b") {
		t.Errorf("plain, but %q", text)
	}
}

func TestSort(t *testing.T) {
	for sort, want := range map[string][]vxlan.VNI{
		"vni": {1, 2, 3}, "in": {3, 2, 1}, "out": {3, 2, 1}, "drops": {2, 1, 3}, "fdb": {3, 2, 1}, "peers": {1, 2, 3},
	} {
		s := screen(3, Config{Sort: sort})
		var got []vxlan.VNI
		for _, i := range s.order {
			got = append(got, s.last.VNIs[i].VNI)
		}
		if !slices.Equal(got, want) {
			t.Errorf("by %s: %v, want %v", sort, got, want)
		}
	}
	s := screen(3, Config{})
	for i := range Sorts {
		if s.cfg.Sort != Sorts[i] {
			t.Errorf("after %d times s: %s, want %s", i, s.cfg.Sort, Sorts[i])
		}
		s.Press("s")
	}
	if s.cfg.Sort != Sorts[0] {
		t.Errorf("at the end: %s", s.cfg.Sort)
	}
}

func TestKeys(t *testing.T) {
	s := screen(30, Config{})
	s.Paint(80, 24, began)
	want := func(what string, cursor vxlan.VNI, only bool) {
		t.Helper()
		if s.cursor != cursor || s.only != only {
			t.Errorf("%s: VNI %v, alone %v; want %v, %v", what, s.cursor, s.only, cursor, only)
		}
	}
	want("at first", 1, false)
	s.Press("up")
	want("up at the top", 1, false)
	s.Press("pgdown")
	want("page down", 1+vxlan.VNI(s.page), false)
	s.Press("end")
	want("end", 30, false)
	if _, ask := s.Press("enter"); !ask {
		t.Error("enter asks for nothing")
	}
	want("enter", 30, true)
	if got := s.Only(); !slices.Equal(got, []vxlan.VNI{30}) {
		t.Errorf("asks for %v", got)
	}
	s.Press("esc")
	want("esc", 30, false)
	s.Press("esc")
	want("esc again", 30, false)
	s.Press("k")
	want("k", 29, false)
	// It stays on its VNI in another order, and finds another when that goes.
	s.Press("s")
	want("sorted", 29, false)
	s.Take(sample(20, 14))
	want("without its VNI", 20, false)
	for _, key := range []string{"q", "ctrl+c"} {
		if quit, _ := s.Press(key); !quit {
			t.Errorf("%s does not quit", key)
		}
	}

	fixed := screen(1, Config{VNI: new(vxlan.VNI(1))})
	fixed.Press("esc")
	if !slices.Equal(fixed.Only(), []vxlan.VNI{1}) {
		t.Errorf("with --vni, after esc: asks for %v", fixed.Only())
	}
}

func TestInterval(t *testing.T) {
	s := NewScreen(Config{Interval: 300 * time.Millisecond})
	press := func(key string, want time.Duration) {
		t.Helper()
		if s.Press(key); s.cfg.Interval != want {
			t.Errorf("%s: %v, want %v", key, s.cfg.Interval, want)
		}
	}
	press("+", 200*time.Millisecond)
	press("+", 100*time.Millisecond)
	press("+", 100*time.Millisecond)
	for range 20 {
		s.Press("-")
	}
	press("-", MaxInterval)
	// An endpoint that takes long to answer has nine times as long to recover.
	s = NewScreen(Config{Interval: time.Second})
	for took, want := range map[time.Duration]time.Duration{
		0: time.Second, 50 * time.Millisecond: 950 * time.Millisecond, time.Second: 9 * time.Second,
	} {
		if got := s.Wait(took); got != want {
			t.Errorf("after %v: %v, want %v", took, got, want)
		}
	}
}

// TestAnotherProcess: there are no rates between two processes, and none below 0.
func TestAnotherProcess(t *testing.T) {
	s := screen(1, Config{})
	if !s.rates.known || s.rates.sum.rxFrames != 1 {
		t.Errorf("rates %+v", s.rates)
	}
	other := sample(1, 1)
	other.Process.PID++
	s.Take(other)
	if s.rates.known || s.rates.sum != (traffic{}) || s.rates.lost != 0 {
		t.Errorf("of another process: %+v", s.rates)
	}
	again := sample(1, 0) // the same process ID, younger
	again.At = other.At.Add(time.Second)
	again.Process.PID = other.Process.PID
	s.Take(again)
	if s.rates.known {
		t.Errorf("of a younger process: %+v", s.rates)
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.01: "0.1", 0.5: "0.5", 1: "1", 9.94: "9.9", 9.96: "10", 999.4: "999", 999.6: "1k", 1234: "1.23k", 12345: "12.3k", 999_499: "999k", 999_600: "1M", 1.5e9: "1.5G", 2e18: "2E",
	} {
		if got := si(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for s, want := range map[vtep.Seconds]string{0: "0.0s", 59.96: "60.0s", 99.9: "99.9s", 100: "1m40s", 5999: "99m59s", 6000: "1h40m", 359999: "99h59m", 360000: "4d"} {
		if got := age(s); got != want {
			t.Errorf("%v: %q, want %q", s, got, want)
		}
	}
}

// TestUpdate drives the program without a terminal: it asks, shows, waits, asks.
func TestUpdate(t *testing.T) {
	asked, fail := 0, error(nil)
	m := &model{ctx: t.Context(), screen: NewScreen(Config{Sort: "vni", Interval: time.Millisecond}), ask: func(_ context.Context, only ...vxlan.VNI) (control.Status, error) {
		asked++
		return sample(len(only), asked).Status, fail
	}}
	var msg tea.Msg
	step := func(what tea.Msg) {
		t.Helper()
		_, cmd := m.Update(what)
		msg = nil
		if cmd != nil {
			msg = cmd()
		}
	}
	m.screen.Plain = true
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	step(m.Init()())
	if _, ok := msg.(answer); !ok || asked != 1 {
		t.Fatalf("after waking: %T, asked %d times", msg, asked)
	}
	step(msg) // the answer: shown, then it waits
	if v := m.View(); !v.AltScreen || !strings.Contains(v.Content, "192.168.52.203") {
		t.Errorf("view %+v", v)
	}
	old := msg.(wake)
	// A key that asks at once makes what was waited for void.
	step(tea.KeyPressMsg{Code: '+', Text: "+"})
	if next, ok := msg.(wake); !ok || next == old {
		t.Errorf("after +: %#v", msg)
	}
	now := msg
	if step(old); msg != nil || asked != 1 {
		t.Errorf("an outdated wake does %T, asked %d times", msg, asked)
	}
	fail = errors.New("gone")
	step(now)
	step(msg)
	if v := m.View(); !strings.Contains(v.Content, "AWAY for 0s") || !strings.Contains(v.Content, "gone") {
		t.Errorf("view %s", v.Content)
	}
	fail = nil
	step(msg) // it goes on to ask
	step(msg)
	if v := m.View(); strings.Contains(v.Content, "AWAY") {
		t.Errorf("it is back, view %s", v.Content)
	}
	waiting := msg
	step(tea.KeyPressMsg{Code: 'p', Text: "p"})
	if msg != nil {
		t.Errorf("p does %T", msg)
	}
	if step(waiting); msg != nil {
		t.Errorf("paused, but waking does %T", msg)
	}
	step(tea.KeyPressMsg{Code: tea.KeySpace, Text: " "})
	if _, ok := msg.(wake); !ok {
		t.Errorf("the end of a pause does %T", msg)
	}
	step(tea.KeyPressMsg{Code: 'z', Mod: tea.ModCtrl})
	if _, ok := msg.(tea.SuspendMsg); !ok {
		t.Errorf("Ctrl-Z does %T", msg)
	}
	step(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
	if _, ok := msg.(tea.QuitMsg); !ok {
		t.Errorf("Ctrl-C does %T", msg)
	}
}

func TestOnce(t *testing.T) {
	var text strings.Builder
	asked := 0
	ask := func(_ context.Context, only ...vxlan.VNI) (control.Status, error) {
		asked++
		if len(only) == 1 && only[0] == 5 {
			return control.Status{}, vtep.ErrNoVNI
		}
		return sample(2, asked).Status, nil
	}
	cfg := Config{Sort: "vni", Interval: time.Millisecond}
	if err := Once(t.Context(), cfg, ask, &text, 80); err != nil || asked != 2 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	if got := text.String(); !strings.Contains(got, "\n       2 vx2 ") || strings.Contains(got, "\x1b") || strings.Contains(got, "quit") {
		t.Errorf("printed %s", got)
	}
	cfg.VNI = new(vxlan.VNI(5))
	if err := Once(t.Context(), cfg, ask, &text, 80); !errors.Is(err, vtep.ErrNoVNI) {
		t.Errorf("a VNI that is not there: %v", err)
	}
}

func BenchmarkTake(b *testing.B) {
	s := screen(10000, Config{})
	samples := []*Sample{sample(10000, 1), sample(10000, 2)}
	i := 0
	for b.Loop() {
		s.Take(samples[i%2])
		i++
	}
}
