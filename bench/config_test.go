package bench

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfigDefaults(t *testing.T) {
	var c Config
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Systems, DefaultSystems) || !slices.Equal(c.Modes, Modes) || !slices.Equal(c.Tests, TestNames()) {
		t.Errorf("systems %v, modes %v, tests %v", c.Systems, c.Modes, c.Tests)
	}
	if c.Rounds != 5 || c.Window != 2*time.Second || c.Base != Kernel || c.Generator != Builtin {
		t.Errorf("rounds %d, window %v, base %q, generator %q", c.Rounds, c.Window, c.Base, c.Generator)
	}
}

func TestConfigWithoutKernelHasNoBase(t *testing.T) {
	c := Config{Systems: []string{Veth, Govxlan}}
	if err := c.complete(); err != nil || c.Base != "" {
		t.Errorf("base %q, error %v", c.Base, err)
	}
}

func TestConfigRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"system", Config{Systems: []string{"kernal"}}, `"kernal"`},
		{"twice", Config{Systems: []string{Veth, Kernel, Veth}}, "veth is given twice"},
		{"mode", Config{Modes: []string{"wires"}}, "offload, wire"},
		{"test", Config{Tests: []string{"tcp5"}}, "tcp1, tcp1-rev"},
		{"generator", Config{Generator: "netperf"}, "builtin, iperf3"},
		{"rounds", Config{Rounds: -1}, "-1 rounds"},
		{"window", Config{Window: time.Millisecond}, "1ms"},
		{"base", Config{Base: Fastd}, "fastd"},
		{"variant's name", Config{Variants: []Variant{{Name: Govxlan, Flags: []string{"-x"}}}}, "name of its own"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.cfg.complete()
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestVariantsAreSystems(t *testing.T) {
	c := Config{Variants: []Variant{{Name: "q2", Flags: []string{"--queues=2"}}}}
	if err := c.complete(); err != nil || !slices.Contains(c.Systems, "q2") {
		t.Errorf("systems %v, error %v", c.Systems, err)
	}
}

// Measures are found by their names, in JSON for good: no two may share one.
func TestMeasuresAreDistinct(t *testing.T) {
	seen := make(map[string]bool)
	for _, test := range tests {
		for _, m := range test.measures {
			if seen[m.ID] || m.Test != test.name || m.Title == "" || m.Unit == "" || m.Better == "" {
				t.Errorf("measure %+v", m)
			}
			seen[m.ID] = true
		}
	}
}
