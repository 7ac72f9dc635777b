package explain

import "github.com/govxlan/govxlan/vxlan"

// judgeECN compares the ECN of each tunnel's outer and inner packet, as the VTEP
// that unpacks it must (RFC 6040 section 4.2).
func (e *Explanation) judgeECN() {
	for i := range e.Layers {
		if e.Layers[i].Key != keyVXLAN {
			continue
		}
		outer, inner := e.ecnBefore(i), e.ecnBehind(i)
		if outer == nil || inner == nil {
			continue
		}
		o, n := vxlan.ECN(outer.Value.(uint64)), vxlan.ECN(inner.Value.(uint64))
		switch _, verdict := vxlan.DecapECN(o, n); verdict {
		case vxlan.ECNDrop:
			outer.Meaning += "; the inner is Not-ECT: a VTEP must drop it (RFC 6040)"
			outer.Verdict = Bad
		case vxlan.ECNAlert:
			outer.Meaning += "; that does not go with the inner one (RFC 6040)"
			outer.Verdict = Note
		}
	}
}

// ecnBefore finds the ECN field of the IP header that carries layer tunnel.
func (e *Explanation) ecnBefore(tunnel int) *Field {
	for i := tunnel - 1; i >= 0 && e.Layers[i].Depth == e.Layers[tunnel].Depth; i-- {
		if f := e.Layers[i].ecn(); f != nil {
			return f
		}
	}
	return nil
}

// ecnBehind finds that of the inner packet.
func (e *Explanation) ecnBehind(tunnel int) *Field {
	for i := tunnel + 1; i < len(e.Layers) && e.Layers[i].Depth == e.Layers[tunnel].Depth+1; i++ {
		if f := e.Layers[i].ecn(); f != nil {
			return f
		}
	}
	return nil
}

func (l *Layer) ecn() *Field {
	for i := range l.Fields {
		if l.Fields[i].Name == "ECN" {
			return &l.Fields[i]
		}
	}
	return nil
}
