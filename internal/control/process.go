package control

import (
	"os"
	"runtime"

	"github.com/govxlan/govxlan/vtep"
)

// Cost is what a process costs its host. Where the system does not tell, a
// figure is 0.
type Cost struct {
	PID int `json:"pid"`
	// CPU is the time that all its threads have spent so far.
	CPU vtep.Seconds `json:"cpu_s"`
	// Memory is what it has of the host's memory, in bytes.
	Memory     uint64 `json:"memory_bytes"`
	Goroutines int    `json:"goroutines"`
}

// thisProcess is the one that asks.
func thisProcess() Cost {
	p := Cost{PID: os.Getpid(), Goroutines: runtime.NumGoroutine()}
	p.CPU, p.Memory = cost()
	return p
}
