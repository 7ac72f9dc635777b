package demo

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Style is how a Printer may write.
type Style struct {
	// Color allows ANSI colours.
	Color bool
	// Unicode allows characters beyond ASCII: lines, arrows, the micro sign.
	Unicode bool
	// Columns is the width of the terminal; below 80 counts as 80.
	Columns int
}

// paint is a colour with a meaning that is the same all over the text.
type paint string

const (
	plain   paint = ""
	heading paint = "1"    // bold
	faint   paint = "2"    // what one may skip
	inner   paint = "32"   // green: the overlay, the containers and their frames
	outer   paint = "36"   // cyan: the underlay, and what the VTEP puts around
	vtep    paint = "33"   // yellow: the VTEPs
	good    paint = "1;32" // bold green: checked and right
	bad     paint = "1;31" // bold red
)

// on colours a text.
func (s Style) on(p paint, text string) string {
	if !s.Color || p == plain || text == "" {
		return text
	}
	return "\x1b[" + string(p) + "m" + text + "\x1b[0m"
}

// pick returns the first text where Unicode is allowed, else the second, which
// is as wide.
func (s Style) pick(unicode, ascii string) string {
	if s.Unicode {
		return unicode
	}
	return ascii
}

func (s Style) wide() bool { return s.Columns >= 100 }

// line is one line of text in the making; it counts columns as a terminal does,
// without the colours.
type line struct {
	style Style
	text  strings.Builder
	width int
}

// add appends text in a colour.
func (l *line) add(p paint, format string, args ...any) *line {
	text := fmt.Sprintf(format, args...)
	l.width += utf8.RuneCountInString(text)
	l.text.WriteString(l.style.on(p, text))
	return l
}

// to fills up with spaces to a column, counted from 0.
func (l *line) to(column int) *line {
	for l.width < column {
		l.add(plain, " ")
	}
	return l
}

// right appends text so that it ends before the column.
func (l *line) right(column int, p paint, format string, args ...any) *line {
	text := fmt.Sprintf(format, args...)
	return l.to(column-utf8.RuneCountInString(text)).add(p, "%s", text)
}

func (l *line) String() string { return strings.TrimRight(l.text.String(), " ") }

// micro writes a time in microseconds; short ones with a decimal.
func micro(m Micros) string {
	if m < 1000 {
		return fmt.Sprintf("%.1f", float64(m))
	}
	return fmt.Sprintf("%.0f", float64(m))
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
