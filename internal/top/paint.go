package top

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
)

// How a line looks: there is no colour, so that none has to be switched off.
type look int

const (
	normal   look = iota
	heading       // bold
	selected      // reverse
	alarm         // bold and reverse
)

var looks = [...]string{heading: "\x1b[1m", selected: "\x1b[7m", alarm: "\x1b[1;7m"}

type line struct {
	text string
	look look
}

// Paint returns the screen as height lines of at most width columns, at the moment
// now. With a height of 0 it has as many as there is to show.
func (s *Screen) Paint(width, height int, now time.Time) string {
	lines := s.header(width, now)
	if s.last != nil {
		lines = append(lines, s.body(width, height-len(lines)-1, height > 0)...)
	}
	if height > 0 {
		for len(lines) < height-1 {
			lines = append(lines, line{})
		}
		lines = append(lines[:max(height-1, 0)], line{s.keys(width), normal})
	}
	var b strings.Builder
	for i, l := range lines {
		if i > 0 {
			b.WriteByte('\n')
		}
		text := cut(l.text, width)
		if s.Plain || l.look == normal {
			b.WriteString(strings.TrimRight(text, " "))
			continue
		}
		if l.look != heading {
			text += strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
		}
		b.WriteString(looks[l.look] + text + "\x1b[m")
	}
	return b.String()
}

// keys is the line at the bottom.
func (s *Screen) keys(width int) string {
	const few = "q quit  s sort  p pause"
	line := "q quit  up/down choose  enter this VNI alone  s sort  p pause  + - interval"
	switch {
	case width < len(line):
		return few
	case s.cfg.VNI != nil:
		return "q quit  p pause  + - interval"
	case s.only:
		return "q quit  esc all VNIs  p pause  + - interval"
	}
	return line
}

// header says what is true of the whole endpoint.
func (s *Screen) header(width int, now time.Time) []line {
	mode := fmt.Sprintf("sort %s  every %v", s.cfg.Sort, s.cfg.Interval)
	if s.paused {
		mode = "PAUSED"
	}
	if s.last == nil {
		lines := []line{{spread("govxlan top", mode, width), heading}}
		if s.away != nil {
			lines = append(lines, line{"no answer: " + s.away.Error(), alarm})
		}
		return lines
	}
	l := s.last
	title := fmt.Sprintf("govxlan %s  %s port %d", l.Version, l.Local, l.Port)
	if l.Transport != "" {
		title += " " + l.Transport
	}
	title += fmt.Sprintf("  up %s", age(l.Uptime))
	peers := 0
	for i := range l.VNIs {
		peers += len(l.VNIs[i].Peers)
	}
	cpu := "-"
	if s.rates.known {
		cpu = fmt.Sprintf("%.1f%%", 100*s.rates.cpu)
	}
	lines := []line{
		{spread(title, mode, width), heading},
		{fmt.Sprintf("cpu %s  memory %sB  threads %d %s  VNIs %d  peers %d", cpu, si(float64(l.Process.Memory)), l.Workers, l.IO, len(l.VNIs), peers), normal},
		{fmt.Sprintf("in %s frames/s %sbit/s  out %s frames/s %sbit/s  dropped %s/s",
			s.rate(s.rates.sum.rxFrames), s.rate(8*s.rates.sum.rxBytes),
			s.rate(s.rates.sum.txFrames), s.rate(8*s.rates.sum.txBytes), s.rate(s.rates.lost)), normal},
	}
	if s.away != nil {
		why := ""
		if !errors.Is(s.away, control.ErrNotRunning) {
			why = ": " + s.away.Error()
		}
		lines[1] = line{fmt.Sprintf("AWAY for %v, waiting for it to come back%s", now.Sub(s.since).Truncate(time.Second), why), alarm}
	}
	return append(lines, line{})
}

// rate is si, or a dash while nothing is known.
func (s *Screen) rate(v float64) string {
	if !s.rates.known {
		return "-"
	}
	return si(v)
}

// body is the table of VNIs, and the peers and drops of the one that was chosen,
// in so many lines if they are bounded.
func (s *Screen) body(width, room int, bounded bool) []line {
	if len(s.order) == 0 {
		return []line{{"no VNIs", normal}}
	}
	table := s.table()
	at := s.at()
	if !bounded {
		lines := append(append([]line{tableHeading}, table...), line{})
		if len(table) == 1 {
			return append(lines, s.detail(&s.last.VNIs[0], width, 0)...)
		}
		return append(lines, s.drops(s.last.VNIs)...)
	}
	// The VNIs get what they need, and half of the room if there is not enough.
	rows := min(len(table), max(room/2-1, 1))
	s.page = rows
	s.first = min(max(s.first, at-rows+1), max(at, 0), len(table)-rows)
	if at >= 0 {
		table[at].look = selected
	}
	lines := append([]line{tableHeading}, table[s.first:s.first+rows]...)
	if more := len(table) - rows; more > 0 {
		lines = append(lines, line{fmt.Sprintf("rows %d to %d of %d", s.first+1, s.first+rows, len(table)), normal})
	}
	if rest := room - len(lines) - 1; at >= 0 && rest > 2 {
		lines = append(append(lines, line{}), s.detail(&s.last.VNIs[s.order[at]], width, rest)...)
	}
	return lines
}

const tableFormat = "%8s %-15s%8s%8s%8s%8s%7s%6s%5s%6s"

var tableHeading = line{fmt.Sprintf(tableFormat, "VNI", "DEVICE", "IN f/s", "IN b/s", "OUT f/s", "OUT b/s", "DROP/s", "FDB", "FULL", "PEERS"), heading}

// table is a line for each VNI.
func (s *Screen) table() []line {
	lines := make([]line, 0, len(s.order))
	for _, i := range s.order {
		v := &s.last.VNIs[i]
		r := s.rates.vnis[v.VNI]
		rate := func(n float64) string {
			if !r.known {
				return "-"
			}
			return si(n)
		}
		full := "-"
		if v.FDB.Limit > 0 {
			full = fmt.Sprintf("%d%%", 100*v.FDB.Learned/v.FDB.Limit)
		}
		device := v.Device
		if v.VLAN != 0 {
			device = fmt.Sprintf("%s.%d", device, v.VLAN)
		}
		lines = append(lines, line{text: fmt.Sprintf(tableFormat, v.VNI, cut(device, 15),
			rate(r.rxFrames), rate(8*r.rxBytes), rate(r.txFrames), rate(8*r.txBytes), rate(r.lost),
			si(float64(v.Entries)), full, si(float64(len(v.Peers))))})
	}
	return lines
}

// detail shows the peers and drops of one VNI; a room of 0 has no bounds.
func (s *Screen) detail(v *vtep.VNIStatus, width, room int) []line {
	r := s.rates.vnis[v.VNI]
	lines := []line{{fmt.Sprintf("VNI %v  mac %v  mtu %d  arp %s  offload %s", v.VNI, v.MAC, v.MTU, v.ARP, v.Offload), heading}}
	drops := s.drops([]vtep.VNIStatus{*v})
	peers := s.peers(v, r, width)
	if room > 0 {
		// A third for the drops, and for the peers what these leave.
		keep := min(len(drops), max((room-1)/3, 2))
		drops = cutList(drops, keep, "reasons")
		peers = cutList(peers, room-1-len(drops), "peers")
	}
	return append(append(lines, peers...), drops...)
}

// cutList shortens a list with a heading to n lines, the last of which says how
// many more there are.
func cutList(list []line, n int, what string) []line {
	if len(list) <= n {
		return list
	}
	if n < 2 {
		return nil
	}
	return append(slices.Clone(list[:n-1]), line{fmt.Sprintf("  and %d more %s", len(list)-n+1, what), normal})
}

// peers are the peers of a VNI, those with most traffic first, and its groups.
func (s *Screen) peers(v *vtep.VNIStatus, r *vniRates, width int) []line {
	name := max(width-46, 15)
	format := fmt.Sprintf("%%-%ds%%8s%%8s%%8s%%8s%%8s%%6s", name)
	lines := []line{{fmt.Sprintf(format, "PEER", "HEARD", "IN f/s", "IN b/s", "OUT f/s", "OUT b/s", "PMTU"), heading}}
	row := func(who, heard string, of netip.Addr, pmtu int, rx bool) {
		t, known := r.peers[of]
		rate := func(n float64, told bool) string {
			if !known || !told {
				return "-"
			}
			return si(n)
		}
		path := "-"
		if pmtu != 0 {
			path = fmt.Sprint(pmtu)
		}
		lines = append(lines, line{text: fmt.Sprintf(format, cut("  "+who, name), heard,
			rate(t.rxFrames, rx), rate(8*t.rxBytes, rx), rate(t.txFrames, true), rate(8*t.txBytes, true), path)})
	}
	for _, g := range v.Multicast {
		joined := "joined"
		if !g.Joined {
			joined = "NO"
		}
		row(fmt.Sprintf("%v dev %s", g.Group, g.Device), joined, g.Group, 0, false)
	}
	peers := slices.Clone(v.Peers)
	slices.SortStableFunc(peers, func(a, b vtep.PeerStatus) int {
		x, y := r.peers[a.VTEP], r.peers[b.VTEP]
		return int(clamp(y.rxBytes + y.txBytes - x.rxBytes - x.txBytes))
	})
	for _, p := range peers {
		who := p.VTEP.String()
		if p.Port != s.last.Port {
			who = netip.AddrPortFrom(p.VTEP, p.Port).String()
		}
		heard := "never"
		if p.LastHeard != nil {
			heard = age(*p.LastHeard)
		}
		row(who, heard, p.VTEP, p.PathMTU, true)
	}
	if len(lines) == 1 {
		lines = append(lines, line{"  none", normal})
	}
	return lines
}

// clamp is the sign of a difference.
func clamp(d float64) float64 { return min(max(d*1e9, -1), 1) }

// drops are the reasons of VNIs, and of what belongs to none, those that grow
// first.
func (s *Screen) drops(vnis []vtep.VNIStatus) []line {
	type row struct {
		drop
		where string
	}
	var rows []row
	for i := range vnis {
		where := ""
		if len(vnis) > 1 {
			where = fmt.Sprintf(" (VNI %v)", vnis[i].VNI)
		}
		for _, d := range s.rates.vnis[vnis[i].VNI].drops {
			rows = append(rows, row{d, where})
		}
	}
	for _, d := range s.rates.none {
		rows = append(rows, row{d, " (of no VNI)"})
	}
	if rows == nil {
		return []line{{"nothing was dropped", normal}}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return int(clamp(b.rate - a.rate)) })
	const format = "%-46s%12s%10s"
	lines := []line{{fmt.Sprintf(format, "DROPPED", "IN ALL", "/s"), heading}}
	for _, d := range rows {
		lines = append(lines, line{text: fmt.Sprintf(format, "  "+d.reason+d.where, fmt.Sprintf("%.0f", d.total), s.rate(d.rate))})
	}
	return lines
}

// cut shortens a text to so many columns.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width, 0)])
}

// spread puts one text at the left end of a line and one at the right.
func spread(left, right string, width int) string {
	gap := width - utf8.RuneCountInString(left) - utf8.RuneCountInString(right)
	if gap < 2 {
		return left
	}
	return left + strings.Repeat(" ", gap) + right
}

// age is a time with what matters of it, in six columns or fewer.
func age(s vtep.Seconds) string {
	n := int(s)
	switch {
	case s < 99.95:
		return fmt.Sprintf("%.1fs", float64(s))
	case n < 100*60:
		return fmt.Sprintf("%dm%ds", n/60, n%60)
	case n < 100*3600:
		return fmt.Sprintf("%dh%dm", n/3600, n/60%60)
	}
	return fmt.Sprintf("%dd", n/86400)
}

// si is a number with three figures, in five columns or fewer.
func si(v float64) string {
	const units = " kMGTPE"
	i := 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	switch {
	case v > 0 && v < 0.1:
		return "0.1" // there is something
	case i == 0 && v < 9.95 && v != float64(int(v)):
		return fmt.Sprintf("%.1f", v)
	case i == 0:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g%c", v, units[i])
}
