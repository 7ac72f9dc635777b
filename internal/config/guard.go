package config

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// mostPerSecond is more than any link has.
const mostPerSecond = 100_000_000

// newGuard reads who may speak in a VNI, and how much. addrs are those of its
// device.
func newGuard(v View, addrs []netip.Prefix) (g vtep.Guard, err error) {
	if g.Allow, err = v.prefixes("allow"); err != nil {
		return g, err
	}
	if len(g.Allow) > 0 && v.Bool("allow-unknown-vteps") {
		return g, v.Errorf("allow", "and --allow-unknown-vteps: the second lets everybody speak, so leave one of them out")
	}
	moves, err := v.number("mac-moves", 0, 1<<31-1)
	if err != nil {
		return g, v.Errorf("mac-moves", "%s: give the number of moves that is too many, or 0 to hold no MAC", v.Text("mac-moves"))
	}
	g.Damping.Moves = int(moves)
	for name, d := range map[string]*time.Duration{"mac-moves-within": &g.Damping.Within, "mac-hold": &g.Damping.Hold} {
		if *d = v.duration(name); *d < 100*time.Millisecond {
			return g, v.Errorf(name, "%v: give a duration such as 180s, at least 100ms", *d)
		}
	}
	if g.LearnRate, err = v.rate("learn-rate"); err != nil {
		return g, err
	}
	if g.Storm, err = v.rate("storm-control"); err != nil {
		return g, err
	}
	return g, antiSpoof(v, &g, addrs)
}

// antiSpoof reads what is checked of what the device sends.
func antiSpoof(v View, g *vtep.Guard, addrs []netip.Prefix) (err error) {
	mode := v.Text("anti-spoof")
	if g.AntiSpoof, err = vtep.ParseAntiSpoof(mode); err != nil {
		return v.Errorf("anti-spoof", "%q: give off, mac or ip", mode)
	}
	for i, text := range v.List("local-mac") {
		mac, err := vxlan.ParseMAC(text)
		if err != nil {
			return v.errorAt("local-mac", i, "%q: give six bytes, such as 02:42:0a:00:01:64", text)
		}
		if mac.IsMulticast() || mac.IsZero() {
			return v.errorAt("local-mac", i, "%v: no station has this MAC address", mac)
		}
		g.LocalMACs = append(g.LocalMACs, mac)
	}
	if g.LocalIPs, err = v.prefixes("local-ip"); err != nil {
		return err
	}
	switch {
	case g.AntiSpoof == vtep.AntiSpoofOff && len(g.LocalMACs) > 0:
		return v.Errorf("local-mac", "and --anti-spoof off: nothing is checked; add --anti-spoof mac or ip")
	case g.AntiSpoof != vtep.AntiSpoofIP && len(g.LocalIPs) > 0:
		return v.Errorf("local-ip", "and --anti-spoof %s: no addresses are checked; add --anti-spoof ip", mode)
	case g.AntiSpoof != vtep.AntiSpoofIP:
		return nil
	}
	for _, a := range addrs {
		g.LocalIPs = append(g.LocalIPs, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	if len(g.LocalIPs) == 0 {
		return v.Errorf("anti-spoof", "ip without --addr and --local-ip: no IPv4 packet could leave; say which addresses may send")
	}
	return nil
}

// prefixes is the value of a List of prefixes; an address stands for itself alone.
func (v View) prefixes(name string) (list []netip.Prefix, err error) {
	if v.emptyFlag(name) {
		return nil, v.Errorf(name, "is empty: give a prefix, or leave it out")
	}
	for i, text := range v.List(name) {
		p, err := netip.ParsePrefix(text)
		if a, failed := netip.ParseAddr(text); failed == nil {
			p, err = netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, v.errorAt(name, i, "%q: give a prefix such as 192.168.52.0/24 or fd00::/64, or an address", text)
		}
		if p != p.Masked() {
			return nil, v.errorAt(name, i, "%q: the prefix is %v; did you mean that, or %v?", text, p.Masked(), p.Addr())
		}
		list = append(list, p)
	}
	return list, nil
}

// rate reads N or N,BURST; N may have /s behind it.
func (v View) rate(name string) (r vtep.Rate, err error) {
	per, burst, more := strings.Cut(v.Text(name), ",")
	n, err := strconv.ParseUint(strings.TrimSuffix(per, "/s"), 10, 32)
	b := uint64(0)
	if err == nil && more {
		b, err = strconv.ParseUint(burst, 10, 32)
		if b == 0 {
			err = strconv.ErrRange
		}
	}
	if err != nil || n > mostPerSecond || b > mostPerSecond || n == 0 && more {
		return r, v.Errorf(name, "%q: give N or N,BURST, such as 1000/s,2000: so many a second, and so many at once; 0 for no limit", v.Text(name))
	}
	return vtep.Rate{PerSecond: int(n), Burst: int(b)}, nil
}
