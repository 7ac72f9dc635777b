package e2e

import (
	"fmt"
	"os"
	"time"
)

// health is what a process must not have more of after a fault.
type health struct {
	descriptors, goroutines int
	memory                  uint64 // bytes, resident
}

func (h health) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines, %.1f MB", h.descriptors, h.goroutines, float64(h.memory)/1e6)
}

// health asks the program. The one that asks costs a descriptor and goroutines too,
// each time the same.
func (p *program) health() health {
	p.t.Helper()
	s := p.status().Process
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	must(p.t, err)
	return health{len(open), s.Goroutines, s.Memory}
}

// breath is what the memory of a process may grow by without leaking: a heap grows
// before it is swept.
const breath = 16 << 20

// compare wants the program to have no more than before a fault, once those who asked
// have gone, and tells how it got over that.
func (p *program) compare(before health, took time.Duration) {
	p.t.Helper()
	var after health
	eventually(p.t, func() error {
		after = p.health()
		if after.descriptors > before.descriptors || after.goroutines > before.goroutines || after.memory > before.memory+breath {
			return fmt.Errorf("%v, before the fault %v", after, before)
		}
		return nil
	})
	p.t.Logf("recovered in %v; before: %v; after: %v", took.Round(time.Millisecond), before, after)
}
