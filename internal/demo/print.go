package demo

import (
	"fmt"
	"io"
	"strings"

	"github.com/govxlan/govxlan/internal/explain"
)

// Printer writes a report as text, part by part.
type Printer struct {
	w io.Writer
	Style
}

// NewPrinter writes to w in a style.
func NewPrinter(w io.Writer, style Style) *Printer {
	style.Columns = max(style.Columns, 80)
	return &Printer{w, style}
}

// Show writes one part of the report. It returns the error of the writer.
func (p *Printer) Show(part Part, r *Report) error {
	var lines []string
	switch part {
	case PartStage:
		lines = p.stage(r)
	case PartFirstContact:
		lines = p.firstContact(r)
	case PartWalk:
		lines = p.walk(r)
	case PartPacket:
		lines = p.packet(r)
	case PartFDB:
		lines = p.tables(r)
	case PartRTT:
		lines = p.rtt(r)
	case PartTransfer:
		lines = p.transfer(r)
	case PartRemoved:
		lines = p.removed(r)
	}
	_, err := io.WriteString(p.w, strings.Join(lines, "\n")+"\n")
	return err
}

func (p *Printer) line() *line { return &line{style: p.Style} }

// title begins a part.
func (p *Printer) title(format string, args ...any) string {
	return "\n" + p.on(heading, fmt.Sprintf(format, args...))
}

// The picture of the stage: two boxes of boxColumns between their borders, and
// a wire between them.
const (
	boxColumns  = 35
	wireColumns = 4
)

func (p *Printer) stage(r *Report) []string {
	a, b := r.Hosts[0], r.Hosts[1]
	lines := []string{
		p.on(heading, "govxlan demo") + ": one Ethernet for two containers on two hosts",
		p.on(faint, "Network namespaces play the hosts and the containers; nothing else is touched."),
		p.on(faint, r.System),
		"",
	}
	bar := strings.Repeat(p.pick("─", "-"), boxColumns)
	top := func(h Host) string {
		name := fmt.Sprintf(" host %s ", h.Letter)
		return p.pick("╭─", "+-") + p.on(heading, name) + strings.Repeat(p.pick("─", "-"), boxColumns-1-len(name)) + p.pick("╮", "+")
	}
	gap := strings.Repeat(" ", wireColumns)
	lines = append(lines, " "+top(a)+gap+top(b))
	for _, row := range []func(side int, h Host) *line{
		func(_ int, h Host) *line {
			return p.line().add(inner, " container").to(13).add(inner, "%s", h.Overlay)
		},
		p.device(1, containerDev, inner, func(h Host) string { return h.MAC.String() }),
		p.pipe(p.pick("│", "|"), func(Host) string { return fmt.Sprintf("veth pair, MTU %d", r.MTU) }),
		p.device(2, bridgeDev, inner, func(Host) string { return "bridge in a sandbox" }),
		p.pipe(p.pick("│", "|"), func(Host) string { return "" }),
		p.device(3, vtepDev, vtep, func(h Host) string {
			if h.End == EndKernel {
				return "the kernel's vxlan"
			}
			return "TAP of govxlan up"
		}),
		p.pipe(p.pick("┊", ":"), func(Host) string { return fmt.Sprintf("VXLAN, VNI %s", r.VNI) }),
		p.device(4, underlayDev, outer, func(h Host) string { return h.Underlay.String() }),
	} {
		left, right := row(0, a), row(1, b)
		border, wire, end := p.pick("│", "|"), gap, p.pick("│", "|")
		rightBorder := border
		if left.width > 3 && strings.Contains(left.text.String(), underlayDev) {
			wire = p.on(outer, strings.Repeat(p.pick("━", "="), wireColumns))
			end, rightBorder = p.pick("┝", "+"), p.pick("┥", "+")
		}
		lines = append(lines, " "+border+left.to(boxColumns).text.String()+end+wire+rightBorder+right.to(boxColumns).text.String()+border)
	}
	lines = append(lines, " "+p.pick("╰", "+")+bar+p.pick("╯", "+")+gap+p.pick("╰", "+")+bar+p.pick("╯", "+"))
	return append(lines, p.commands(r)...)
}

// device is a row of the picture: the number of the station, which counts down
// on host B, its device, and a word on it.
func (p *Printer) device(number int, name string, color paint, about func(Host) string) func(int, Host) *line {
	return func(side int, h Host) *line {
		n := number
		if side == 1 {
			n = 9 - number
		}
		return p.line().to(2).add(heading, "%d", n).to(4).add(color, "%s", name).to(13).add(plain, "%s", about(h))
	}
}

// pipe is a row that joins two devices.
func (p *Printer) pipe(how string, about func(Host) string) func(int, Host) *line {
	return func(_ int, h Host) *line {
		return p.line().to(6).add(faint, "%s", how).to(13).add(faint, "%s", about(h))
	}
}

// commands shows what was started, for a reader to do the same.
func (p *Printer) commands(r *Report) []string {
	a, b := r.Hosts[0], r.Hosts[1]
	also := ""
	if a.End == b.End {
		also = fmt.Sprintf(", host %s the same the other way round", b.Letter)
	}
	if a.End != EndGovxlan {
		a = b
	}
	if a.End != EndGovxlan {
		return nil
	}
	lines := []string{"", fmt.Sprintf("  host %s runs this%s:", a.Letter, also)}
	l := p.line().to(4).add(vtep, "govxlan")
	for i := 0; i < len(a.Command); i++ {
		word := a.Command[i]
		// A flag and its value stay together.
		if strings.HasPrefix(word, "--") && i+1 < len(a.Command) {
			i++
			word += " " + a.Command[i]
		}
		if l.width+1+len(word)+2 > p.Columns {
			lines = append(lines, l.add(faint, " \\").String())
			l = p.line().to(7)
		}
		l.add(vtep, " %s", word)
	}
	return append(lines, l.String())
}

func (p *Printer) firstContact(r *Report) []string {
	lines := []string{p.title("First contact: nobody knows anybody yet, so container A asks everybody")}
	for _, leg := range [][]Step{r.FirstContact.Request, r.FirstContact.Reply} {
		lines = append(lines, p.line().to(2).add(inner, "%s", leg[0].Summary).String())
		half := len(leg) / 2
		for _, part := range [][]Step{leg[:half], leg[half:]} {
			l := p.line().to(4).add(plain, "host %s ", part[0].Host)
			for i, s := range part {
				if i > 0 {
					l.add(faint, " %s ", p.pick("▸", ">"))
				}
				l.add(p.colorOf(s), "%s", s.Device).add(faint, " +%s", micro(s.At))
			}
			l.add(faint, " %s", p.pick("µs", "us"))
			lines = append(lines, l.String())
		}
	}
	request, reply := r.FirstContact.Request, r.FirstContact.Reply
	a, b := r.Hosts[0], r.Hosts[1]
	return append(lines, p.wrap(2, fmt.Sprintf(
		"A broadcast goes to every peer of a VTEP: here in one packet of %d bytes to %s. "+
			"From it VTEP %s learns that %s is behind %s, and so the reply, %d bytes, goes to %s alone.",
		wireBytes(request), wireDst(request), b.Letter, a.MAC, a.Underlay, wireBytes(reply), wireDst(reply)))...)
}

// wireStep is a leg's packet as it entered the underlay.
func wireStep(leg []Step) Step {
	for _, s := range leg {
		if s.Underlay() {
			return s
		}
	}
	return Step{Outer: new(Outer)}
}

func wireBytes(leg []Step) int  { return wireStep(leg).Bytes }
func wireDst(leg []Step) string { return wireStep(leg).Outer.Dst.Addr().String() }

// wrap breaks a text into lines at the terminal's width.
func (p *Printer) wrap(indent int, text string) []string {
	var lines []string
	l := p.line().to(indent)
	for _, word := range strings.Fields(text) {
		if l.width > indent && l.width+1+len(word) > min(p.Columns, 100) {
			lines = append(lines, l.String())
			l = p.line().to(indent)
		}
		if l.width > indent {
			l.add(plain, " ")
		}
		l.add(faint, "%s", word)
	}
	return append(lines, l.String())
}

func (p *Printer) colorOf(s Step) paint {
	switch {
	case s.Underlay():
		return outer
	case s.Device == vtepDev:
		return vtep
	}
	return inner
}

func (p *Printer) walk(r *Report) []string {
	lines := []string{
		p.title("The walk of one ping, as it was captured at each device"),
		p.line().add(faint, "     where          device").right(33, faint, "%s", p.pick("µs", "us")).right(39, faint, "bytes").add(faint, "  what").String(),
	}
	for i, leg := range [][]Step{r.Walk.Request, r.Walk.Reply} {
		if i > 0 {
			lines = append(lines, p.line().to(5).add(faint, "%s", strings.Repeat(p.pick("╌", "-"), 73)).String())
		}
		for j := range leg {
			lines = append(lines, p.step(leg, j)...)
		}
	}
	lines = append(lines, p.wrap(2, "Times are the kernel's. Offloads are off on "+underlayDev+" for this part: packets and checksums are what a real wire would carry.")...)
	return lines
}

// step is one row of the walk.
func (p *Printer) step(leg []Step, j int) []string {
	s := leg[j]
	color := p.colorOf(s)
	arrow := p.pick("→", ">")
	l := p.line().to(2).add(heading, "%d", s.Number).to(5).add(plain, "%s %s", s.Place, s.Host)
	if s.Direction == In {
		l.to(17).add(faint, "%s", arrow).to(19).add(color, "%s", s.Device)
	} else {
		l.to(19).add(color, "%s", s.Device).add(faint, " %s", arrow)
	}
	l.right(33, plain, "%s", micro(s.At)).right(39, color, "%d", s.Bytes).to(41)
	switch {
	case s.Outer != nil && (j == 0 || leg[j-1].Outer == nil):
		// The frame has just been wrapped: two lines, for a narrow terminal.
		l.add(outer, "UDP %s", s.Outer.Src)
		more := p.line().to(41)
		if p.wide() {
			more = l.add(plain, " ")
		}
		more.add(outer, "%s %s, ", p.pick("→", ">"), s.Outer.Dst).add(outer, "VXLAN %s", s.Outer.VNI)
		if more == l {
			return []string{l.String()}
		}
		return []string{l.String(), more.String()}
	case s.Outer != nil:
		l.add(plain, "%s", sameAs(string(s.raw) == string(leg[j-1].raw), "the same packet", "a changed packet"))
	case j == 0:
		l.add(inner, "%s", strings.ReplaceAll(strings.TrimPrefix(s.Summary, "ICMP "), " > ", " "+arrow+" "))
	default:
		l.add(plain, "%s", sameAs(s.Same, "the same frame", "a changed frame"))
		if j == len(leg)-1 && s.Same {
			l.add(good, " %s", p.pick("✓", "ok"))
		}
	}
	return []string{l.String()}
}

func sameAs(same bool, yes, no string) string {
	if same {
		return yes
	}
	return no
}

func (p *Printer) packet(r *Report) []string {
	k := r.Packet
	lines := []string{p.title("On the wire: %d bytes for a frame of %d", k.Bytes, k.Inner)}
	side := ""
	for i := range k.explained.Layers {
		layer := &k.explained.Layers[i]
		if s := k.Layers[i].Side; s != side {
			side = s
			about := fmt.Sprintf("outer: %d bytes, all that the network between the hosts looks at", k.Overhead)
			if side == "inner" {
				about = fmt.Sprintf("inner: %d bytes, the container's frame as it was", k.Inner)
			}
			lines = append(lines, p.line().to(9).add(faint, "%s", about).String())
		}
		color := outer
		if side == "inner" {
			color = inner
		}
		name := layer.Name
		if layer.Payload {
			name = "data"
		}
		lines = append(lines, p.line().right(6, plain, "%d", layer.Size).to(9).
			add(color, "%s", name).to(19).add(plain, "%s", p.about(r, layer)).String())
	}
	for _, problem := range k.explained.Problems {
		lines = append(lines, p.line().to(9).add(bad, "%s", problem).String())
	}
	return lines
}

// about says in one line what is worth knowing of a layer.
func (p *Printer) about(r *Report, l *explain.Layer) string {
	field := func(name string) string {
		for _, f := range l.Fields {
			if f.Name == name {
				return f.Text
			}
		}
		return "?"
	}
	meaning := func(name string) string {
		for _, f := range l.Fields {
			if f.Name == name {
				return f.Meaning
			}
		}
		return "?"
	}
	arrow := " " + p.pick("→", ">") + " "
	between := func() string { return field("source") + arrow + field("destination") }
	switch l.Key {
	case "ethernet":
		return between()
	case "ipv4":
		return between() + ", TTL " + field("TTL")
	case "udp":
		return field("source port") + arrow + field("destination port") + ", source port by flow hash, " + p.checksum(r)
	case "vxlan":
		return "VNI " + field("VNI")
	case "icmp":
		return fmt.Sprintf("%s, id %s, sequence %s", meaning("type"), field("identifier"), field("sequence"))
	}
	if l.Payload {
		return fmt.Sprintf("%q", r.payloadText(l.Offset, l.Size))
	}
	return ""
}

// checksum judges the outer UDP checksum of the walk's packet.
func (p *Printer) checksum(r *Report) string {
	if wireStep(r.Walk.Request).Outer.ChecksumOK {
		return p.on(good, "checksum right")
	}
	return p.on(bad, "checksum wrong")
}

func (p *Printer) tables(r *Report) []string {
	lines := []string{p.title("Who is where: what bridges and VTEPs have learned by now")}
	for _, f := range r.FDB {
		l := p.line().to(2).add(plain, "host %s", f.Host)
		for i, e := range f.Bridge {
			if i > 0 {
				l = p.line()
			}
			if i == 0 {
				l.to(10).add(inner, "%s", bridgeDev)
			}
			l.to(18).add(plain, "%s", e.MAC).to(37).add(plain, "port %s", e.Port).to(53).add(faint, "%s", map[string]string{portDev: "the container", vtepDev: "the VTEP"}[e.Port])
			lines = append(lines, l.String())
		}
		for i, e := range f.VTEP {
			l = p.line()
			if i == 0 {
				l.to(10).add(vtep, "VTEP")
			}
			l.to(18)
			if e.Kind == "flood" {
				l.add(plain, "everybody else").to(37).add(outer, "%s", e.VTEP).to(53).add(faint, "flood list")
			} else {
				l.add(plain, "%s", e.MAC).to(37).add(outer, "%s", e.VTEP).to(53).add(faint, "%s", e.Kind)
			}
			lines = append(lines, l.String())
		}
	}
	return lines
}

func (p *Printer) rtt(r *Report) []string {
	us := p.pick("µs", "us")
	l := p.line().to(2).add(heading, "Ping").to(10).
		add(plain, "%d of %d answered: min ", r.RTT.Received, r.RTT.Sent).add(heading, "%.0f", float64(r.RTT.Min)).
		add(plain, ", avg ").add(heading, "%.0f", float64(r.RTT.Avg)).
		add(plain, ", max ").add(heading, "%.0f", float64(r.RTT.Max)).
		add(plain, ", stddev %.0f %s", float64(r.RTT.StdDev), us)
	return []string{p.title("How fast"), l.String()}
}

func (p *Printer) transfer(r *Report) []string {
	t := r.Transfer
	return []string{
		p.line().to(2).add(heading, "TCP").to(10).add(plain, "%s MB in %.1f s: ", thousands(t.Bytes/1e6), t.Seconds).
			add(heading, "%.2f Gb/s", t.BitsPerSecond/1e9).add(plain, ", %s segments sent again", thousands(int64(t.Retransmitted))).String(),
		p.line().to(10).add(plain, "CRC-32C of what was sent and of what arrived: %s ", t.Received).add(good, "%s", p.pick("✓", "ok")).String(),
	}
}

func (p *Printer) removed(r *Report) []string {
	if r.Kept == "" {
		return []string{"\n" + p.on(faint, "Removed again: 6 namespaces with all devices, and the endpoints in them.")}
	}
	a, b := r.Hosts[0], r.Hosts[1]
	hint := func(ns, command, about string) []string {
		l := p.line().to(2).add(plain, "ip netns exec %s %s", ns, command)
		return []string{p.line().to(2).add(faint, "# %s", about).String(), l.String()}
	}
	lines := []string{p.title("Left standing (--keep). Look around:")}
	lines = append(lines, hint(a.Container, fmt.Sprintf("ping %s", b.Overlay), "a ping from container to container")...)
	lines = append(lines, hint(a.Namespace, "tcpdump -nvi "+underlayDev+" udp port 4789", "what goes over the wire meanwhile")...)
	lines = append(lines, hint(a.Sandbox, "bridge fdb show br "+bridgeDev, "what the bridge on host A knows")...)
	for _, h := range r.Hosts {
		if h.Control != "" {
			lines = append(lines, p.line().to(2).add(faint, "# what the endpoint on host %s knows", h.Letter).String(), "  govxlan fdb show --control "+h.Control)
			break
		}
	}
	lines = append(lines, "", "Remove it with:", "  "+p.on(heading, "govxlan demo --clean"))
	return lines
}
