package soak

import (
	"io"
	"time"
)

// Config says what to do, and for how long.
type Config struct {
	// Binary is the govxlan under test.
	Binary string
	// Time is how long traffic flows.
	Time time.Duration
	// Every is how often a fault is made. 0 = so that there are about 30 in all,
	// at least 1.5 s and at most 20 s apart.
	Every time.Duration
	// Seed makes the same faults and changes in the same order again.
	Seed uint64
	// Datapath of the endpoints: auto, user, ebpf. "" = auto.
	Datapath string
	// Log is told of each fault when it is made; nil = nobody.
	Log io.Writer
}

func (c *Config) every() time.Duration {
	if c.Every > 0 {
		return c.Every
	}
	return min(max(c.Time/30, 1500*time.Millisecond), 20*time.Second)
}
