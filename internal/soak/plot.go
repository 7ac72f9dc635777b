package soak

import (
	"fmt"
	"image/color"
	"io"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	hostColors = []color.RGBA{{0x00, 0x66, 0xb3, 0xff}, {0xe3, 0x9a, 0x1e, 0xff}}
	faultColor = color.RGBA{0xdd, 0xdd, 0xdd, 0xff}
)

// WriteSVG draws memory and descriptors over time, one above the other, with a grey line
// for each fault. A line breaks where a process was replaced.
func (r *Report) WriteSVG(w io.Writer) error {
	const width, height = 9 * vg.Inch, 2.4 * vg.Inch
	canvas := vgsvg.New(width, 2*height)
	c := draw.New(canvas)
	for i, panel := range []struct {
		title string
		value func(Sample) float64
	}{
		{"Memory of the endpoints, MB", func(s Sample) float64 { return float64(s.Memory) / 1e6 }},
		{"Open descriptors", func(s Sample) float64 { return float64(s.Descriptors) }},
	} {
		p := plot.New()
		p.Title.Text = panel.title
		p.X.Label.Text = "seconds; grey: faults"
		most := 0.0
		for _, h := range r.Processes {
			for _, s := range h.Samples {
				most = max(most, panel.value(s))
			}
		}
		p.Y.Min, p.Y.Max = 0, 1.15*max(most, 1)
		for _, f := range r.Faults {
			l, err := plotter.NewLine(plotter.XYs{{X: f.Begin, Y: 0}, {X: f.Begin, Y: p.Y.Max}})
			if err != nil {
				return err
			}
			l.Color = faultColor
			p.Add(l)
		}
		for k, h := range r.Processes {
			named := false
			for first := 0; first < len(h.Samples); {
				var line plotter.XYs
				i := first
				for ; i < len(h.Samples) && h.Samples[i].PID == h.Samples[first].PID; i++ {
					line = append(line, plotter.XY{X: h.Samples[i].At, Y: panel.value(h.Samples[i])})
				}
				first = i
				l, err := plotter.NewLine(line)
				if err != nil {
					return err
				}
				l.Color, l.Width = hostColors[k%len(hostColors)], vg.Points(1.2)
				p.Add(l)
				if !named {
					p.Legend.Add("host "+h.Host, l)
					named = true
				}
			}
		}
		p.Legend.Top, p.Legend.XOffs, p.Legend.Padding = true, vg.Points(-14), vg.Points(3)
		p.Draw(draw.Crop(c, 0, vg.Points(-14), vg.Length(1-i)*height, -vg.Length(i)*height))
	}
	if _, err := canvas.WriteTo(w); err != nil {
		return fmt.Errorf("draw the picture: %w", err)
	}
	return nil
}
