package daemon

import "net/netip"

// roadUnder is the way to an address of the underlay, or that of the default route
// for one that is not known.
func (w *way) roadUnder(to netip.Addr) (road, bool) {
	if to.IsValid() {
		r := w.ask(new(underlay), to)
		return r, r.err == nil
	}
	name := defaultDevice()
	if name == "" {
		return road{}, false
	}
	d := w.device(name)
	return road{mtu: d.mtu, device: name}, d.err == nil
}
