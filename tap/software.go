package tap

import "sync"

// plain turns Vectors into frames that ask for nothing: superframes taken
// apart, checksums completed. It stands in for the features that a device
// lacks.
type plain struct {
	flat []byte // a frame in one piece
	out  []byte // one segment
	s    Splitter
}

var plains = sync.Pool{New: func() any {
	return &plain{flat: make([]byte, 0, MaxFrame), out: make([]byte, MaxFrame)}
}}

// lacks says whether a device with these features cannot take the frame as it
// is.
func (f Features) lacks(h *Header) bool {
	switch h.GSO &^ GSOECN {
	case GSONone:
		return h.Flags&NeedsChecksum != 0 && f&Checksum == 0
	case GSOTCPv4:
		return f&TSO4 == 0
	case GSOTCPv6:
		return f&TSO6 == 0
	default:
		return f&USO == 0
	}
}

// each calls emit with the frames that v stands for, in their order. The bytes
// are valid during the call. It stops at the first error.
func (p *plain) each(v *Vector, emit func([]byte) error) error {
	p.flat = p.flat[:0]
	for _, part := range v.Parts {
		if len(p.flat)+len(part) > MaxFrame {
			return ErrHeader
		}
		p.flat = append(p.flat, part...)
	}
	if v.Header.GSO == GSONone {
		if err := CompleteChecksum(&v.Header, p.flat); err != nil {
			return err
		}
		return emit(p.flat)
	}
	if err := p.s.Init(&v.Header, p.flat); err != nil {
		return err
	}
	for {
		n, size := p.s.Next(p.out, 0, 1)
		if n == 0 {
			return nil
		}
		if err := emit(p.out[:size]); err != nil {
			return err
		}
	}
}
