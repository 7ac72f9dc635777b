package explain

import (
	"fmt"
	"io"
	"strings"
)

// WriteSummary writes OneLine, or InnerLine as style wants it, with the packet's
// number and time of day before it where they are known. The line is as long as
// it is; Style.Width does not matter.
func (e *Explanation) WriteSummary(w io.Writer, style Style) error {
	out := &writer{e: e, style: style}
	if e.Number > 0 {
		out.WriteString(out.paint(inkFaint, fmt.Sprintf("%4d", e.Number)) + "  ")
	}
	if !e.Time.IsZero() {
		out.WriteString(out.paint(inkFaint, e.Time.Format("15:04:05.000000")) + "  ")
	}
	lines, ink := e.Lines, inkOuter
	if style.Inner {
		lines, ink = e.innerLines(), inkInner
	}
	if !e.tunnelled() {
		ink = inkPlain
	}
	for i, l := range lines {
		if i > 0 {
			out.WriteString(" | ")
			ink = inkInner
		}
		out.WriteString(out.paint(ink, l))
	}
	out.WriteString(out.paint(inkBad, e.remarks()))
	if e.Comment != "" {
		out.WriteString(out.paint(inkNote, " # "+printable([]byte(e.Comment))))
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// OneLine is the packet in one line, in tcpdump's words: the outer packet, then
// the inner frame after a bar. What is wrong with it stands in brackets at the
// end.
func (e *Explanation) OneLine() string { return e.oneLine(e.Lines) }

// InnerLine is OneLine without the outermost packet; empty without a tunnel.
func (e *Explanation) InnerLine() string {
	if !e.HasInner() {
		return ""
	}
	return e.oneLine(e.innerLines())
}

func (e *Explanation) innerLines() []string {
	if len(e.Lines) < 2 {
		return nil
	}
	return e.Lines[1:]
}

func (e *Explanation) oneLine(lines []string) string {
	return strings.TrimSpace(strings.Join(lines, " | ") + e.remarks())
}

// remarks say in brackets what is wrong with the packet.
func (e *Explanation) remarks() string {
	s := ""
	for i := range e.Layers {
		l := &e.Layers[i]
		for _, f := range l.Fields {
			if f.Verdict == Bad && strings.HasSuffix(f.Name, "checksum") {
				s += fmt.Sprintf(" [%s %s wrong]", e.sideName(l), f.Name)
			}
		}
	}
	cut := false
	for _, p := range e.Problems {
		if p.Cut {
			cut = true
			continue
		}
		s += fmt.Sprintf(" [malformed: %s]", p)
	}
	switch {
	case cut && e.Length == len(e.Bytes):
		s += " [a fragment: the rest is in others]"
	case cut:
		s += fmt.Sprintf(" [%d of %d bytes captured]", len(e.Bytes), e.Length)
	}
	return s
}

// sideName is the layer's name with its side in the middle of a sentence:
// "inner TCP".
func (e *Explanation) sideName(l *Layer) string {
	if side := e.Side(l); side != "" && side != "vxlan" {
		return side + " " + l.Name
	}
	return l.Name
}
