package bench

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config says what to measure. The zero value of each optional field is its
// default.
type Config struct {
	// Program is the file of govxlan, started many times under that name: for
	// "up" and for "bench traffic". Default: the file of this process.
	Program string
	// Version is what the report calls it. Optional.
	Version string
	// Systems by name, in the order of the table. Default: DefaultSystems.
	Systems []string
	// Peers adds every other system that is installed.
	Peers bool
	// Variants are further systems: govxlan with other flags, or another build
	// of it. Optional.
	Variants []Variant
	// Modes of the underlay: "offload", "wire". Default: both.
	Modes []string
	// Tests by name. Default: all.
	Tests []string
	// Rounds of all tests. Default: 5.
	Rounds int
	// Window is how long one measurement lasts. Default: 2 s.
	Window time.Duration
	// Generator is "builtin" or "iperf3", for throughput. Default: builtin.
	Generator string
	// Base is the system that ratios refer to. Default: kernel.
	Base string
	// Progress hears of every step. Optional.
	Progress func(Step)
}

// Variant is govxlan in another guise.
type Variant struct {
	Name string
	// Program is another build; empty: Config.Program.
	Program string
	// Flags go to "up" behind the others. With --metrics ADDR:PORT among them,
	// both endpoints are scraped every second while they are measured.
	Flags []string
}

// Step is one measurement of one system, or its start, finished.
type Step struct {
	Done, Total  int // steps, this one included
	Round        int // 0: start
	Mode, System string
	Test         string // empty: start
	// Value is the test's first figure, as the table shows it, and Err what
	// went wrong.
	Value string
	Err   error
}

// Names of the systems, in the order of the documentation.
const (
	Veth         = "veth"
	Kernel       = "kernel"
	Govxlan      = "govxlan"
	GovxlanEBPF  = "govxlan-ebpf"
	GovxlanPlain = "govxlan-plain"
	WireGuardGo  = "wireguard-go"
	Fastd        = "fastd"
	Tinc         = "tinc"
	OpenVPN      = "openvpn"
	OpenVSwitch  = "openvswitch"

	GovxlanWireGuard = "govxlan-wireguard"
	WireGuardVXLAN   = "wireguard-go+vxlan"
)

// DefaultSystems need nothing but Linux.
var DefaultSystems = []string{Veth, Kernel, GovxlanEBPF, Govxlan, GovxlanPlain}

// PeerSystems must be installed.
var PeerSystems = []string{WireGuardGo, Fastd, Tinc, OpenVPN, OpenVSwitch}

// EncryptedSystems carry Ethernet over an encrypted underlay. The first one has to
// be named to be measured.
var EncryptedSystems = []string{GovxlanWireGuard, WireGuardVXLAN}

// The modes of the underlay.
const (
	ModeOffload = "offload"
	ModeWire    = "wire"
	ModeGRO     = "gro"
)

// Modes in the order of the table.
var Modes = []string{ModeOffload, ModeWire, ModeGRO}

var modeTitles = map[string]string{
	ModeOffload: "the veth pair as it is, superframes and unfinished checksums cross it",
	ModeWire:    "every packet on the underlay as on a wire, 1514 bytes at most, and no receive offload",
	ModeGRO:     "as wire, but receivers put packets together (generic receive offload), as most network cards' drivers do",
}

// wireBytes is the longest frame of an Ethernet with an MTU of 1500.
const wireBytes = 1514

// Generators of load for the throughput tests.
const (
	Builtin = "builtin"
	Iperf3  = "iperf3"
)

// ErrConfig marks a Config that asks for what there is not.
var ErrConfig = errors.New("bad configuration")

// configError is an ErrConfig that says what is wrong and nothing else.
type configError string

func (e configError) Error() string { return string(e) }
func (e configError) Unwrap() error { return ErrConfig }

func badChoice(format string, args ...any) error { return configError(fmt.Sprintf(format, args...)) }

// complete checks the configuration and fills the defaults in.
func (c *Config) complete() error {
	if c.Program == "" {
		c.Program = "/proc/self/exe"
	}
	if len(c.Systems) == 0 {
		c.Systems = slices.Clone(DefaultSystems)
	}
	if len(c.Modes) == 0 {
		c.Modes = slices.Clone(Modes)
	}
	if len(c.Tests) == 0 {
		c.Tests = TestNames()
	}
	if c.Rounds == 0 {
		c.Rounds = 5
	}
	if c.Window == 0 {
		c.Window = 2 * time.Second
	}
	if c.Generator == "" {
		c.Generator = Builtin
	}
	known := slices.Concat(DefaultSystems, PeerSystems, EncryptedSystems)
	for _, v := range c.Variants {
		if v.Name == "" || slices.Contains(known, v.Name) {
			return badChoice("variant %q: give it a name of its own", v.Name)
		}
		known = append(known, v.Name)
	}
	for _, choice := range []struct {
		what         string
		chosen, from []string
	}{
		{"system", c.Systems, known},
		{"mode", c.Modes, Modes},
		{"test", c.Tests, TestNames()},
		{"generator", []string{c.Generator}, []string{Builtin, Iperf3}},
	} {
		for i, s := range choice.chosen {
			if !slices.Contains(choice.from, s) {
				return badChoice("no %s is called %q; there are %s", choice.what, s, strings.Join(choice.from, ", "))
			}
			if slices.Contains(choice.chosen[:i], s) {
				return badChoice("%s %s is given twice", choice.what, s)
			}
		}
	}
	for _, v := range c.Variants {
		if !slices.Contains(c.Systems, v.Name) {
			c.Systems = append(c.Systems, v.Name)
		}
	}
	if c.Rounds < 1 || c.Rounds > 1000 {
		return badChoice("%d rounds: from 1 to 1000", c.Rounds)
	}
	if c.Window < 50*time.Millisecond || c.Window > 10*time.Minute {
		return badChoice("%v for a measurement: from 50ms to 10m", c.Window)
	}
	if c.Base == "" && slices.Contains(c.Systems, Kernel) {
		c.Base = Kernel
	}
	if c.Base != "" && !slices.Contains(c.Systems, c.Base) {
		return badChoice("ratios to %s want it among the systems", c.Base)
	}
	if c.Progress == nil {
		c.Progress = func(Step) {}
	}
	return nil
}
