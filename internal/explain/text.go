package explain

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Style says how WriteText writes.
type Style struct {
	Width int  // columns; 0 means 80, less than 60 counts as 60
	Color bool // with the terminal's colours
	Hex   bool // all bytes at the end, the layers marked
	Inner bool // the inner frames alone, without what carried them
}

// Columns of a field's row: offset, name, value, meaning.
const (
	nameColumn    = 8
	valueColumn   = 26
	meaningColumn = 45

	// shortPayload is how many bytes of payload are shown without Style.Hex.
	shortPayload = 64
)

// ANSI colours, by what they mean here.
const (
	inkPlain  = ""
	inkBold   = "1"
	inkFaint  = "2"
	inkOuter  = "36" // cyan
	inkTunnel = "35" // magenta
	inkInner  = "32" // green
	inkGood   = "32"
	inkNote   = "33"   // yellow
	inkBad    = "31;1" // red
)

// writer lays out one packet.
type writer struct {
	bytes.Buffer
	e     *Explanation
	style Style
}

// WriteText writes the whole explanation for people, a blank line after it.
func (e *Explanation) WriteText(w io.Writer, style Style) error {
	if style.Width == 0 {
		style.Width = 80
	}
	style.Width = max(style.Width, 60)
	out := &writer{e: e, style: style}
	out.head()
	for i := range e.Layers {
		if l := &e.Layers[i]; out.shown(l) {
			out.layer(l)
		}
	}
	if style.Hex {
		out.dump()
	}
	if len(e.Problems) > 0 || !style.Inner {
		out.WriteByte('\n')
	}
	for _, p := range e.Problems {
		what, ink := "malformed: ", inkBad
		if p.Cut {
			what, ink = "cut short: ", inkNote
		}
		out.wrapped(what+p.String(), "", "  ", ink)
	}
	if !style.Inner {
		out.wrapped(e.sizesLine(), "", "  ", inkBold)
	}
	out.WriteByte('\n')
	_, err := w.Write(out.Bytes())
	return err
}

// shown says whether the style wants a layer.
func (w *writer) shown(l *Layer) bool { return !w.style.Inner || l.Depth > 0 }

func (w *writer) paint(ink, s string) string {
	if !w.style.Color || ink == inkPlain || strings.Trim(s, " ") == "" {
		return s
	}
	return "\x1b[" + ink + "m" + s + "\x1b[0m"
}

func (w *writer) ink(l *Layer) string {
	switch side := w.e.Side(l); {
	case side == "vxlan":
		return inkTunnel
	case side == "outer" || side == "":
		return inkOuter
	}
	return inkInner
}

// head writes the packet's number, time and size, and its summary.
func (w *writer) head() {
	e := w.e
	parts := []string{"packet"}
	if e.Number > 0 {
		parts[0] = fmt.Sprintf("packet %d", e.Number)
	}
	if !e.Time.IsZero() {
		parts = append(parts, e.Time.Format("2006-01-02 15:04:05.000000"))
	}
	size := count(e.Length, "byte")
	if e.Length > len(e.Bytes) {
		size += fmt.Sprintf(", %d captured", len(e.Bytes))
	}
	w.WriteString(w.paint(inkBold, strings.Join(append(parts, size), "  ")))
	w.WriteByte('\n')
	lines := e.Lines
	if w.style.Inner {
		lines = e.innerLines()
	}
	for i, l := range lines {
		bar := ""
		if i > 0 {
			bar = "| "
		}
		w.wrapped(l, bar, "    ", inkPlain)
	}
	if e.Comment != "" {
		w.wrapped("# "+printable([]byte(e.Comment)), "", "  ", inkNote)
	}
}

// layer writes a header's title and fields, or the beginning of a payload.
func (w *writer) layer(l *Layer) {
	if l.Payload && w.style.Hex {
		return // it has no fields, and its bytes come at the end
	}
	title := w.e.Title(l)
	place := fmt.Sprintf("offset %d, %s", l.Offset, count(l.Size, "byte"))
	rule := max(w.style.Width-2-len(title)-len(place)-2, 1)
	w.WriteByte('\n')
	fmt.Fprintf(w, "  %s %s %s\n",
		w.paint(inkBold+";"+w.ink(l), title),
		w.paint(inkFaint, strings.Repeat("-", rule)),
		w.paint(inkFaint, place))
	for i := range l.Fields {
		w.field(&l.Fields[i], false)
	}
	if !l.Payload {
		return
	}
	b := w.e.Bytes[l.Offset : l.Offset+l.Size]
	short := b[:min(len(b), shortPayload)]
	w.hexRows(l.Offset, short, inkPlain, "")
	if rest := len(b) - len(short); rest > 0 {
		fmt.Fprintf(w, "          %s\n", w.paint(inkFaint, fmt.Sprintf("... and %s more (-x shows all)", count(rest, "byte"))))
	}
}

// field writes one row, and a row for each of its parts.
func (w *writer) field(f *Field, part bool) {
	var row strings.Builder
	offset := fmt.Sprint(f.Offset)
	name, indent := f.Name, 0
	if part {
		indent = 2
		if f.Size == 0 {
			offset = ""
		}
	}
	row.WriteString(w.paint(inkFaint, fmt.Sprintf("%6s", offset)))
	row.WriteString(strings.Repeat(" ", nameColumn-6+indent))
	row.WriteString(name)
	at := pad(&row, nameColumn+indent+len(name), valueColumn)

	ink := [...]string{Plain: inkPlain, Good: inkGood, Note: inkNote, Bad: inkBad}[f.Verdict]
	pieces := wrap(f.Text, w.style.Width-at, w.style.Width-valueColumn)
	for i, p := range pieces {
		if i > 0 {
			row.WriteByte('\n')
			at = pad(&row, 0, valueColumn)
		}
		if f.Verdict == Bad {
			row.WriteString(w.paint(ink, p))
		} else {
			row.WriteString(p)
		}
		at += len(p)
	}
	if f.Meaning != "" {
		// Behind a long value when it fits there, else on a line of its own.
		if at+2 > meaningColumn && at+2+len(f.Meaning) > w.style.Width {
			row.WriteByte('\n')
			at = 0
		}
		if at+2 <= meaningColumn {
			at = pad(&row, at, meaningColumn)
		} else {
			row.WriteString("  ")
			at += 2
		}
		for i, p := range wrap(f.Meaning, w.style.Width-at, w.style.Width-meaningColumn) {
			if i > 0 {
				row.WriteByte('\n')
				pad(&row, 0, meaningColumn)
			}
			row.WriteString(w.paint(ink, p))
		}
	}
	w.WriteString(row.String())
	w.WriteByte('\n')
	if f.brief {
		return
	}
	for i := range f.Parts {
		w.field(&f.Parts[i], true)
	}
}

// pad fills up with blanks from column at to column to, one at least, and
// returns the column reached.
func pad(s *strings.Builder, at, to int) int {
	n := to - at
	if n < 1 {
		n = 1
	}
	s.WriteString(strings.Repeat(" ", n))
	return at + n
}

// wrapped writes text broken at blanks, indented.
func (w *writer) wrapped(text, first, next, ink string) {
	for i, p := range wrap(text, w.style.Width-len(first), w.style.Width-len(next)) {
		lead := first
		if i > 0 {
			lead = next
		}
		fmt.Fprintf(w, "%s%s\n", lead, w.paint(ink, p))
	}
}

// wrap breaks text at blanks into a piece of at most first columns and others of
// at most next. A word that is longer than a line is broken where the line ends.
func wrap(text string, first, next int) []string {
	var pieces []string
	room := max(first, 8)
	for len(text) > room {
		cut := strings.LastIndexByte(text[:room+1], ' ')
		// Behind a comma the eye finds on more easily, if that wastes little room.
		if comma := strings.LastIndex(text[:room+1], ", "); comma >= room*3/4 {
			cut = comma + 1
		}
		if cut <= 0 {
			cut = room
		}
		pieces = append(pieces, text[:cut])
		text = strings.TrimPrefix(text[cut:], " ")
		room = max(next, 8)
	}
	return append(pieces, text)
}

// dump writes all bytes, each layer beginning a line of its own.
func (w *writer) dump() {
	w.WriteByte('\n')
	for i := range w.e.Layers {
		l := &w.e.Layers[i]
		if !w.shown(l) {
			continue
		}
		// Where the line has room the layer's name stands behind its bytes.
		beside := ""
		if w.style.Width >= 100 {
			beside = w.e.Title(l)
		} else {
			fmt.Fprintf(w, "  %s\n", w.paint(w.ink(l), w.e.Title(l)))
		}
		w.hexRows(l.Offset, w.e.Bytes[l.Offset:l.Offset+l.Size], w.ink(l), beside)
	}
}

// hexRows writes bytes as hex and characters, 16 a row, and beside the first row
// the name of what they are.
func (w *writer) hexRows(off int, b []byte, ink, beside string) {
	for len(b) > 0 {
		row := b[:min(len(b), 16)]
		var hex, text strings.Builder
		for i, c := range row {
			if i == 8 {
				hex.WriteByte(' ')
			}
			fmt.Fprintf(&hex, "%02x ", c)
			if c < ' ' || c > '~' {
				c = '.'
			}
			text.WriteByte(c)
		}
		fmt.Fprintf(w, "  %s  %s", w.paint(inkFaint, fmt.Sprintf("0x%04x", off)), w.paint(ink, strings.TrimSuffix(hex.String(), " ")))
		fmt.Fprintf(w, "%s%s", strings.Repeat(" ", 51-hex.Len()), text.String())
		if beside != "" {
			fmt.Fprintf(w, "%s%s", strings.Repeat(" ", 18-len(row)), w.paint(ink, beside))
			beside = ""
		}
		w.WriteByte('\n')
		b = b[len(row):]
		off += len(row)
	}
}
