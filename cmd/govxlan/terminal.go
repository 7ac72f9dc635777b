package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// textColumns is how wide text is set for people.
const textColumns = 80

// isTerminal says whether somebody looks at what is written to w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// hasColor says whether w may be written to in colours.
func hasColor(w any) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// screen shows one text after another: each in the place of the last on a
// terminal, and below it elsewhere.
type screen struct {
	w     io.Writer
	size  func() (width, height int) // nil: no terminal
	begun bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w}
	if f, ok := w.(*os.File); ok && isTerminal(f) && os.Getenv("TERM") != "dumb" {
		s.size = func() (int, int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil || width < 1 || height < 2 {
				return textColumns, 24
			}
			return width, height
		}
	}
	return s
}

// show shows lines of text without colours.
func (s *screen) show(text string) error {
	var b strings.Builder
	switch {
	case s.size == nil:
		if s.begun {
			b.WriteByte('\n')
		}
		b.WriteString(text)
	default:
		if !s.begun {
			b.WriteString("\x1b[2J")
		}
		b.WriteString("\x1b[H")
		width, height := s.size()
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		if room := height - 1; len(lines) > room {
			more := len(lines) - room + 1
			lines = append(lines[:room-1], fmt.Sprintf("... %d lines more: choose one VNI with --vni", more))
		}
		for _, line := range lines {
			if r := []rune(line); len(r) > width {
				line = string(r[:width])
			}
			// What the last text had behind this line goes.
			b.WriteString(line + "\x1b[K\n")
		}
		b.WriteString("\x1b[J")
	}
	s.begun = true
	_, err := io.WriteString(s.w, b.String())
	return err
}

// wrap sets text in lines, with first before the first of them and as many
// blanks before the others.
func wrap(text, first string) string {
	var b strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case len(line)+1+len(word) > textColumns:
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", len(first))
		default:
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
