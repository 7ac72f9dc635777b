package report

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"
	"strconv"

	"codeberg.org/go-fonts/liberation/liberationsansregular"
	"golang.org/x/image/font/opentype"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// PlotFormats are the formats that WritePlot knows, as file name extensions.
var PlotFormats = []string{"svg", "png"}

// panel is one diagram of the picture: groups of bars with one unit.
type panel struct {
	title string
	unit  string
	// log: each decade has the same height, for what spans several.
	log    bool
	better string
	groups []group
}

// group is one measure.
type group struct{ measure, title string }

// panels are what the picture shows of each mode; the table has the rest.
var panels = []panel{
	{title: "Throughput", unit: "Gb/s", better: Higher, groups: []group{
		{"tcp1", "TCP, 1 stream"}, {"tcp4", "TCP, 4 streams"}, {"udp1400", "UDP, 1400 B"},
	}},
	{title: "UDP of 64 bytes", unit: "kpps", better: Higher, groups: []group{
		{"udp64", "received, sender unpaced"}, {"udp64-max", "highest with <= 1 % lost"},
	}},
	{title: "Round trip, p50", unit: "us", log: true, better: Lower, groups: []group{
		{"ping.p50", "ping"}, {"rr.p50", "TCP, 1 byte"}, {"ping-load.p50", "ping beside TCP"},
	}},
	{title: "Processor time of the machine", unit: "s/GB", log: true, better: Lower, groups: []group{
		{"tcp1.cpu", "TCP, 1 stream"}, {"tcp4.cpu", "TCP, 4 streams"},
	}},
}

// Sizes of the picture's parts, in points.
const (
	barWidth    = 21
	groupGap    = 18
	panelHeight = 150
	panelTop    = 26 // title
	panelBottom = 22 // names of the groups
	panelLeft   = 44 // axis
	panelGap    = 24
	rowGap      = 14
	border      = 16
	headHeight  = 70 // title and legend
	modeHeight  = 22
)

// colors by system name: govxlan stands out, what everybody has is grey.
var colors = map[string]color.RGBA{
	"veth":          {0xc4, 0xc4, 0xc4, 0xff},
	"kernel":        {0x6b, 0x6b, 0x6b, 0xff},
	"govxlan":       {0x00, 0x66, 0xb3, 0xff},
	"govxlan-plain": {0x7f, 0xb9, 0xe6, 0xff},
	"wireguard-go":  {0xc0, 0x4a, 0x2a, 0xff},
	"fastd":         {0xe3, 0x9a, 0x1e, 0xff},
	"tinc":          {0xb5, 0x6f, 0xa0, 0xff},
	"openvpn":       {0xd6, 0xcc, 0x3a, 0xff},
	"openvswitch":   {0x2a, 0x93, 0x6f, 0xff},
}

// spare are for variants.
var spare = []color.RGBA{
	{0x3c, 0x3c, 0xa0, 0xff}, {0x1f, 0xa0, 0xb4, 0xff}, {0x8a, 0x5a, 0xd0, 0xff}, {0x5a, 0x8a, 0x3a, 0xff},
}

var (
	inkColor  = color.RGBA{0x22, 0x22, 0x22, 0xff}
	paleColor = color.RGBA{0x66, 0x66, 0x66, 0xff}
	gridColor = color.RGBA{0xe2, 0xe2, 0xe2, 0xff}
)

// WritePlot draws the medians as bars, grouped by measure, with the spread of the
// rounds as whiskers. format is one of PlotFormats.
func (r *Report) WritePlot(w io.Writer, format string) error {
	p := &picture{Report: r}
	p.layout()
	if len(p.rows) == 0 {
		return fmt.Errorf("nothing was measured that a picture shows: it wants one of the tests tcp1, tcp4, udp64, udp64-max, udp1400, ping, ping-load, rr")
	}
	if err := p.loadFont(); err != nil {
		return err
	}
	switch format {
	case "svg":
		canvas := vgsvg.New(p.width, p.height)
		p.draw(draw.New(canvas))
		var b bytes.Buffer
		if _, err := canvas.WriteTo(&b); err != nil {
			return err
		}
		// Where that font is missing, take one of the same widths.
		out := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
		_, err := w.Write(out)
		return err
	case "png":
		canvas := vgimg.NewWith(vgimg.UseWH(p.width, p.height), vgimg.UseDPI(144))
		p.draw(draw.New(canvas))
		_, err := vgimg.PngCanvas{Canvas: canvas}.WriteTo(w)
		return err
	}
	return fmt.Errorf("no picture format is called %q: give svg or png", format)
}

// picture is a plot on its way.
type picture struct {
	*Report
	fonts         text.Plain
	rows          []plotRow
	width, height vg.Length
}

// plotRow is what stands side by side.
type plotRow struct {
	mode   Mode
	first  bool // of its mode
	panels []panel
}

// layout decides which panels there are: two in a row, a mode below the other.
func (p *picture) layout() {
	for _, mode := range p.Modes {
		first := true
		var row []panel
		flush := func() {
			if row != nil {
				p.rows = append(p.rows, plotRow{mode, first, row})
				first, row = false, nil
			}
		}
		for _, full := range panels {
			shown := full
			shown.groups = nil
			for _, g := range full.groups {
				if slices.ContainsFunc(p.Systems, func(s System) bool { return p.bar(mode.Name, g.measure, s.Name, full.log) != nil }) {
					shown.groups = append(shown.groups, g)
				}
			}
			if shown.groups == nil {
				continue
			}
			if row = append(row, shown); len(row) == 2 {
				flush()
			}
		}
		flush()
	}
	height := vg.Length(headHeight + border)
	for _, row := range p.rows {
		width := vg.Length(2*border - panelGap)
		for _, shown := range row.panels {
			width += p.panelWidth(shown) + panelGap
		}
		p.width = max(p.width, width)
		height += panelTop + panelHeight + panelBottom + rowGap
		if row.first {
			height += modeHeight
		}
	}
	p.width, p.height = max(p.width, 560), height
}

// bar is what a bar shows, or nil. A logarithm has no zero.
func (p *picture) bar(mode, measure, system string, log bool) *Summary {
	s := p.find(mode, measure, system)
	if s == nil || log && s.Min <= 0 {
		return nil
	}
	return s
}

func (p *picture) panelWidth(shown panel) vg.Length {
	return panelLeft + vg.Length(len(shown.groups))*vg.Length(len(p.Systems)*barWidth+groupGap)
}

func (p *picture) loadFont() error {
	face, err := opentype.Parse(liberationsansregular.TTF)
	if err != nil {
		return fmt.Errorf("font: %w", err)
	}
	p.fonts = text.Plain{Fonts: font.NewCache(font.Collection{{Font: font.Font{Typeface: "Liberation", Variant: "Sans"}, Face: face}})}
	return nil
}

func (p *picture) style(size vg.Length, c color.Color, x text.XAlignment) draw.TextStyle {
	return draw.TextStyle{
		Color: c, Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size},
		XAlign: x, YAlign: draw.YBottom, Handler: p.fonts,
	}
}

func (p *picture) colorOf(index int) color.RGBA {
	if c, ok := colors[p.Systems[index].Name]; ok {
		return c
	}
	n := 0
	for _, s := range p.Systems[:index] {
		if _, ok := colors[s.Name]; !ok {
			n++
		}
	}
	return spare[n%len(spare)]
}

func (p *picture) draw(c draw.Canvas) {
	rectangle(c, color.White, 0, 0, p.width, p.height)
	top := p.height - border
	c.FillText(p.style(13, inkColor, draw.XLeft), vg.Point{X: border, Y: top - 11}, "govxlan beside other ways to join two hosts")
	about := fmt.Sprintf("median of %d rounds, whiskers: least and most. %s, %d cores, Linux %s", p.Rounds, p.Machine.CPU, p.Machine.Cores, p.Machine.Kernel)
	c.FillText(p.style(8, paleColor, draw.XLeft), vg.Point{X: border, Y: top - 24}, about)
	p.legend(c, border, top-44)
	y := p.height - headHeight
	for _, row := range p.rows {
		if row.first {
			y -= modeHeight
			c.FillText(p.style(10, inkColor, draw.XLeft), vg.Point{X: border, Y: y + 6}, row.mode.Name+" mode: "+row.mode.Title)
			c.StrokeLine2(draw.LineStyle{Color: paleColor, Width: 0.7}, border, y+3, p.width-border, y+3)
		}
		y -= panelTop + panelHeight
		x := vg.Length(border)
		for _, shown := range row.panels {
			p.panel(c, row.mode.Name, shown, x, y)
			x += p.panelWidth(shown) + panelGap
		}
		y -= panelBottom + rowGap
	}
}

func (p *picture) legend(c draw.Canvas, x, y vg.Length) {
	style := p.style(9, inkColor, draw.XLeft)
	for i, s := range p.Systems {
		rectangle(c, p.colorOf(i), x, y, x+10, y+8)
		c.FillText(style, vg.Point{X: x + 14, Y: y - 1}, s.Name)
		x += 14 + style.Width(s.Name) + 16
	}
}

// panel draws one diagram with its lower left corner of the bars' area, axis
// included, at x, y.
func (p *picture) panel(c draw.Canvas, mode string, shown panel, x, y vg.Length) {
	axis := p.axis(mode, shown)
	right := x + p.panelWidth(shown)
	hint := "more is better"
	if shown.better == Lower {
		hint = "less is better"
	}
	c.FillText(p.style(10, inkColor, draw.XLeft), vg.Point{X: x, Y: y + panelHeight + 12}, shown.title+", "+printedUnit(shown.unit)+" ("+hint+")")
	for _, tick := range axis.ticks {
		at := y + axis.height(tick)
		c.StrokeLine2(draw.LineStyle{Color: gridColor, Width: 0.5}, x+panelLeft, at, right, at)
		c.FillText(p.style(8, paleColor, draw.XRight), vg.Point{X: x + panelLeft - 4, Y: at - 4}, strconv.FormatFloat(tick, 'f', -1, 64))
	}
	left := x + panelLeft + groupGap/2
	for _, g := range shown.groups {
		width := vg.Length(len(p.Systems) * barWidth)
		c.FillText(p.style(8, inkColor, draw.XCenter), vg.Point{X: left + width/2, Y: y - 13}, g.title)
		for i, s := range p.Systems {
			at := left + vg.Length(i*barWidth)
			b := p.bar(mode, g.measure, s.Name, shown.log)
			if b == nil {
				c.FillText(p.style(7, paleColor, draw.XCenter), vg.Point{X: at + barWidth/2, Y: y + 2}, "-")
				continue
			}
			top := y + axis.height(b.Median)
			rectangle(c, p.colorOf(i), at+1.5, y, at+barWidth-1.5, top)
			whisker := draw.LineStyle{Color: inkColor, Width: 0.6}
			low, high := y+axis.height(b.Min), y+axis.height(b.Max)
			middle := at + barWidth/2
			if b.Rounds > 1 {
				c.StrokeLine2(whisker, middle, low, middle, high)
				c.StrokeLine2(whisker, middle-2.5, low, middle+2.5, low)
				c.StrokeLine2(whisker, middle-2.5, high, middle+2.5, high)
			}
			c.FillText(p.style(6.5, inkColor, draw.XCenter), vg.Point{X: middle, Y: max(top, high) + 1}, Number(b.Median))
		}
		left += width + groupGap
	}
	c.StrokeLine2(draw.LineStyle{Color: paleColor, Width: 0.7}, x+panelLeft, y, right, y)
}

// axis maps values to heights.
type axis struct {
	log       bool
	low, high float64
	ticks     []float64
}

// axis makes room for every bar, its whisker and its number.
func (p *picture) axis(mode string, shown panel) axis {
	least, most, median := math.Inf(1), 0.0, 0.0
	for _, g := range shown.groups {
		for _, s := range p.Systems {
			if b := p.bar(mode, g.measure, s.Name, shown.log); b != nil {
				least, most, median = min(least, b.Min), max(most, b.Max), max(median, b.Median)
			}
		}
	}
	// One round gone wrong must not make all the others small.
	if limit := median * 20; shown.log && most > limit {
		most = limit
	}
	if most == 0 {
		least, most = 0, 1
	}
	if shown.log {
		a := axis{log: true, low: math.Pow(10, math.Floor(math.Log10(least*0.7))), high: most * math.Pow(most/least, 0.1) * 1.1}
		for t := a.low; t <= a.high; t *= 10 {
			a.ticks = append(a.ticks, t)
		}
		return a
	}
	a := axis{high: most * 1.1}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	switch {
	case most/step < 2:
		step /= 5
	case most/step < 5:
		step /= 2
	}
	for i := 0; float64(i)*step <= a.high; i++ {
		// Rounded: a sum of tenths shows as 0.30000000000000004.
		a.ticks = append(a.ticks, math.Round(float64(i)*step*1e6)/1e6)
	}
	return a
}

func (a *axis) height(v float64) vg.Length {
	if a.log {
		return panelHeight * vg.Length(math.Log(min(max(v, a.low), a.high)/a.low)/math.Log(a.high/a.low))
	}
	return panelHeight * vg.Length(v/a.high)
}

func rectangle(c draw.Canvas, fill color.Color, x0, y0, x1, y1 vg.Length) {
	c.FillPolygon(fill, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}
