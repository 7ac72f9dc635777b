package bench

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

func TestMissingTools(t *testing.T) {
	s := &system{tools: []string{"ls", "no-such-program-a", "no-such-program-b"}}
	if got := s.missing(); got != "no no-such-program-a, no-such-program-b" {
		t.Errorf("missing: %q", got)
	}
	s.tools = s.tools[:1]
	if got := s.missing(); got != "" {
		t.Errorf("missing: %q", got)
	}
}

// Every system that needs a program says how to get it, and every name that users
// may type stands for one.
func TestSystemsAreComplete(t *testing.T) {
	var names []string
	for _, s := range systems() {
		names = append(names, s.name)
		if (len(s.tools) > 0) != (s.install != "") || s.title == "" || s.start == nil {
			t.Errorf("system %+v", s)
		}
	}
	if want := slices.Concat(DefaultSystems, PeerSystems, EncryptedSystems); !slices.Equal(names, want) {
		t.Errorf("systems %v, names %v", names, want)
	}
}

// TestPeers brings every other tunnel up that is installed, in the mode that asks
// more of them, and pings through it.
func TestPeers(t *testing.T) {
	netlabtest.Root(t)
	var installed, missing []string
	for _, s := range systems() {
		if len(s.tools) == 0 {
			continue
		}
		if s.missing() == "" {
			installed = append(installed, s.name)
		} else {
			missing = append(missing, s.name)
		}
	}
	r, err := Run(t.Context(), Config{
		Systems: []string{Veth}, Peers: true, Modes: []string{ModeWire}, Tests: []string{"ping", "memory"},
		Rounds: 1, Window: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Failures {
		t.Errorf("%+v", f)
	}
	for _, name := range installed {
		if v, ok := sample(r, ModeWire, name, "ping.p50"); !ok || v <= 0 {
			t.Errorf("%s: ping %v us", name, v)
		}
		if v, ok := sample(r, ModeWire, name, "memory"); !ok || v <= 0 {
			t.Errorf("%s: memory %v MB", name, v)
		}
	}
	for _, s := range r.Systems[1:] {
		if s.Version == "" || s.OverlayMTU < 1390 || s.LargestPacket[ModeWire] > wireBytes {
			t.Errorf("%+v", s)
		}
	}
	var skipped []string
	for _, s := range r.Skipped {
		skipped = append(skipped, s.Name)
	}
	if !slices.Equal(skipped, missing) {
		t.Errorf("skipped %v, missing %v", skipped, missing)
	}
	if found := leftovers(t); found != nil {
		t.Errorf("left behind: %v", found)
	}
}

func TestAskedForAndMissing(t *testing.T) {
	r := &runner{Config: Config{Systems: []string{Fastd}}}
	i := slices.IndexFunc(systems(), func(s *system) bool { return s.name == Fastd })
	err := r.choose()
	if systems()[i].missing() == "" {
		if err != nil {
			t.Errorf("fastd is here: %v", err)
		}
		return
	}
	if err == nil || errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "apt install fastd") {
		t.Errorf("error %v, want how to install it", err)
	}
}
