package tapswitch

import (
	"syscall"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// writer carries what a receiver has for the VNI to the ports.
type writer struct {
	s     *Switch
	queue int
	to    map[*Port]tap.Writer
	copy  []byte
	one   [1]tap.Vector
	part  [1][]byte
}

// port is this goroutine's writer to a port.
func (w *writer) port(p *Port, t *ports) tap.Writer {
	out := w.to[p]
	if out == nil {
		if len(w.to) > 2*len(t.all)+8 {
			for old := range w.to {
				if old.Lost() {
					delete(w.to, old)
				}
			}
		}
		out = p.device.NewWriter(w.queue)
		w.to[p] = out
	}
	return out
}

// ends are the destination and source of a frame.
func ends(v *tap.Vector) (to, from vxlan.MAC, ok bool) {
	if len(v.Parts) == 0 || len(v.Parts[0]) < 12 {
		return to, from, false
	}
	return vxlan.MAC(v.Parts[0][:6]), vxlan.MAC(v.Parts[0][6:12]), true
}

func (w *writer) Write(frames []tap.Vector) (int, error) {
	t := w.s.ports.Load()
	for i := 0; i < len(frames); {
		to, from, ok := ends(&frames[i])
		p := t.macs[to]
		if p == nil || !ok {
			if q := t.macs[from]; q != nil && q.mac != from && ok {
				w.s.forget(from) // it has moved to another host
				t = w.s.ports.Load()
			}
			if err := w.flood(&frames[i], t); err != nil {
				return i, err
			}
			i++
			continue
		}
		end := i + 1
		for ; end < len(frames); end++ {
			if next, _, _ := ends(&frames[end]); next != to {
				break
			}
		}
		n, err := w.port(p, t).Write(frames[i:end])
		if i += n; err != nil {
			return i, err
		}
	}
	return len(frames), nil
}

// flood hands a frame to all ports. It fails when none takes it.
func (w *writer) flood(v *tap.Vector, t *ports) error {
	var failed error = syscall.EIO // as a device that is down
	for _, p := range t.all {
		// A copy for each: a checksum that is completed is so in the bytes.
		w.copy = w.copy[:0]
		for _, part := range v.Parts {
			w.copy = append(w.copy, part...)
		}
		w.part[0] = w.copy
		w.one[0] = tap.Vector{Header: v.Header, Parts: w.part[:]}
		if _, err := w.port(p, t).Write(w.one[:]); err == nil {
			failed = nil
		} else if failed != nil {
			failed = err
		}
	}
	return failed
}
