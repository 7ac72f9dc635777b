package vtep

import (
	"sync/atomic"

	"github.com/govxlan/govxlan/vxlan"
)

// vniTable finds the overlay of a VNI without a lock and at the same cost for
// one VNI and for thousands: three steps of 8 bits, nodes of 2 KB made on
// demand. It is changed under Endpoint.mu only.
type vniTable struct {
	root [256]atomic.Pointer[vniNode]
}

type vniNode struct {
	leaves [256]atomic.Pointer[vniLeaf]
}

type vniLeaf struct {
	overlays [256]atomic.Pointer[overlay]
}

func (t *vniTable) load(v vxlan.VNI) *overlay {
	n := t.root[uint8(v>>16)].Load()
	if n == nil {
		return nil
	}
	l := n.leaves[uint8(v>>8)].Load()
	if l == nil {
		return nil
	}
	return l.overlays[uint8(v)].Load()
}

// store sets the overlay of a VNI; nil removes it. Nodes stay: they are few.
func (t *vniTable) store(v vxlan.VNI, o *overlay) {
	n := t.root[uint8(v>>16)].Load()
	if n == nil {
		n = new(vniNode)
		t.root[uint8(v>>16)].Store(n)
	}
	l := n.leaves[uint8(v>>8)].Load()
	if l == nil {
		l = new(vniLeaf)
		n.leaves[uint8(v>>8)].Store(l)
	}
	l.overlays[uint8(v)].Store(o)
}
