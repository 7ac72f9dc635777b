package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// benchBar shows how far a run is: a bar on a terminal, a line now and then
// elsewhere.
type benchBar struct {
	w        io.Writer
	terminal bool
	bar      *progressbar.ProgressBar
	began    time.Time
	tenths   int // told so far, where there is no terminal
}

func newBenchBar(w io.Writer) *benchBar {
	return &benchBar{w: w, terminal: isTerminal(w), began: time.Now()}
}

// step says that so much of it all is done, and what the last thing was.
func (b *benchBar) step(done, total int, what string) {
	if !b.terminal {
		if tenths := 10 * done / total; tenths > b.tenths {
			b.tenths = tenths
			fmt.Fprintf(b.w, "%3d%% %5.0fs\n", 10*tenths, time.Since(b.began).Seconds())
		}
		return
	}
	if b.bar == nil {
		b.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(b.w), progressbar.OptionSetWidth(24), progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		)
	}
	b.bar.Describe(what)
	_ = b.bar.Set(done) // it fails only beyond its total
}

// clear takes the bar off the terminal.
func (b *benchBar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear() // nothing but a failed write to the terminal
	}
}
