package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"strings"
	"testing"
	"time"
)

const wantTable = `Some CPU, 2 cores, 24 GB, Some Linux, Linux 6.18.0, go1.26 amd64
govxlan 1.2.3, 2026-03-04 05:06 UTC, 3 rounds of 2 s, generator: builtin
Each cell: median and ratio to kernel (median of the rounds' ratios); below: min-max.

offload: as it is

                                             kernel          govxlan               q2
TCP, 1 stream, Gb/s                     10.0             8.00  0.50x         -
                                   4.00-20.0        2.00-10.0
  lost, %                                  0             6.00                -
                                                    5.00-7.00

wire: as on a wire

                                             kernel          govxlan               q2
ping, p50, us                           25.0             61.0  2.48x         -
                                   20.0-30.0        60.0-62.0

Largest frame seen on the underlay, offload mode, bytes: kernel 64424, govxlan 64810.
Largest frame seen on the underlay, wire mode, bytes: kernel 1514, govxlan 1514.
Not here: fastd (no fastd). To have it: apt install fastd
Failed: q2, wire mode, tcp1, round 2: nothing arrived
`

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := example().WriteTable(&b, 0); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != wantTable {
		t.Errorf("got\n%s\nwant\n%s", got, wantTable)
	}
}

// On a narrow terminal the systems go on below, and no line is too long.
func TestTableFitsColumns(t *testing.T) {
	var b strings.Builder
	if err := example().WriteTable(&b, 72); err != nil {
		t.Fatal(err)
	}
	_, tables, _ := strings.Cut(b.String(), "\n\n")
	tables, _, _ = strings.Cut(tables, "\n\nLargest")
	if n := strings.Count(tables, "TCP, 1 stream, Gb/s"); n != 2 {
		t.Errorf("the systems are in %d parts, want 2", n)
	}
	for line := range strings.Lines(tables) {
		if len(line) > 73 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

func TestTableOfPartialAndBusy(t *testing.T) {
	r := example()
	r.Partial, r.Load = true, 1.5
	var b strings.Builder
	if err := r.WriteTable(&b, 0); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"interrupted", "load average 1.50"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

type brokenWriter struct{}

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestWriteErrorsAreReported(t *testing.T) {
	r := example()
	for name, err := range map[string]error{
		"table":    r.WriteTable(brokenWriter{}, 0),
		"markdown": (&Page{Net: r}).WriteMarkdown(brokenWriter{}),
		"svg":      r.WritePlot(brokenWriter{}, "svg"),
		"png":      r.WritePlot(brokenWriter{}, "png"),
		"codec":    exampleCodec().WriteTable(brokenWriter{}),
	} {
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := example().WritePlot(&b, "svg"); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	for _, want := range []string{"kernel", "govxlan", "q2", "TCP, 1 stream", "Gb/s", "offload mode", "wire mode", "10.0", "µs", "Arial"} {
		if !strings.Contains(text, want) {
			t.Errorf("the picture does not say %q", want)
		}
	}
	decoder := xml.NewDecoder(strings.NewReader(text))
	for {
		_, err := decoder.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
}

func TestPNG(t *testing.T) {
	var b bytes.Buffer
	if err := example().WritePlot(&b, "png"); err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	// The bars of both systems that have figures are there in their colours.
	seen := make(map[[3]uint32]int)
	size := picture.Bounds()
	for y := size.Min.Y; y < size.Max.Y; y++ {
		for x := size.Min.X; x < size.Max.X; x++ {
			red, green, blue, _ := picture.At(x, y).RGBA()
			seen[[3]uint32{red >> 8, green >> 8, blue >> 8}]++
		}
	}
	for _, system := range []string{"kernel", "govxlan"} {
		c := colors[system]
		if n := seen[[3]uint32{uint32(c.R), uint32(c.G), uint32(c.B)}]; n < 2000 {
			t.Errorf("%d points have the colour of %s", n, system)
		}
	}
}

func TestPlotRefuses(t *testing.T) {
	if err := example().WritePlot(io.Discard, "gif"); err == nil || !strings.Contains(err.Error(), "gif") {
		t.Errorf("gif: %v", err)
	}
	r := example()
	r.Samples = nil
	r.Summarize()
	if err := r.WritePlot(io.Discard, "svg"); err == nil {
		t.Error("a picture of nothing")
	}
}

// A logarithmic axis has no place for zero, nor for a round gone wrong.
func TestPlotOfOddValues(t *testing.T) {
	r := example()
	for i := range r.Samples {
		if s := &r.Samples[i]; s.Measure == "ping.p50" {
			s.Value = []float64{0, 1e-3, 1e9}[i%3]
		}
	}
	r.Summarize()
	var b bytes.Buffer
	if err := r.WritePlot(&b, "svg"); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Error("coordinates that are no numbers")
	}
}

func TestMarkdown(t *testing.T) {
	r := example()
	page := &Page{Net: r, Codec: exampleCodec(), Picture: "benchmarks.svg"}
	var b strings.Builder
	if err := page.WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"4 March 2026, govxlan 1.2.3, on Some CPU, 2 cores",
		"](benchmarks.svg)",
		"| | kernel | govxlan | q2 |",
		"| TCP, 1 stream, Gb/s | 10.0 (4.00-20.0) | 8.00 (2.00-10.0) 0.50x | - |",
		"| ping, p50, µs | 25.0 (20.0-30.0) | 61.0 (60.0-62.0) 2.48x | - |",
		"| govxlan | 1.2.3 | 1450 | govxlan: `govxlan up` |",
		"On at the underlay devices: tx-tcp-segmentation.",
		"No offload of the underlay devices is on.",
		"- All of it, as it was measured: `govxlan bench net --with 'q2=--queues 2'`",
		"- TCP, 1 stream: `govxlan bench net --systems kernel,govxlan --with 'q2=--queues 2' --modes offload,wire --rounds 3 --seconds 2 --tests tcp1`",
		"| fdb lookup: 1 entry | 5.00 | 4.00-6.00 | 0 |  |",
		"| checksum: 1450 B | 50.0 | 40.0-60.0 | 0 | 29.0 |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

func TestQuote(t *testing.T) {
	for s, want := range map[string]string{"a-b=c,d": "a-b=c,d", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "a*": "'a*'"} {
		if got := quote(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

func exampleCodec() *Codec {
	return &Codec{
		Kind: "codec", Version: "1.2.3", Began: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Rounds: 3,
		Machine: Machine{CPU: "Some CPU", Cores: 2},
		Results: []CodecResult{
			NewCodecResult("fdb lookup", "1 entry", 0, []float64{5, 4, 6}, []float64{0, 0.001, 0}),
			NewCodecResult("fdb learn", "new", 0, []float64{200, 210, 190}, []float64{1.5, 2, 1}),
			NewCodecResult("checksum", "1450 B", 1450, []float64{40, 60, 50}, []float64{0, 0, 0}),
		},
	}
}

const wantCodec = `
fdb lookup                             ns/op         min-max  allocs/op    GB/s
  1 entry                               5.00       4.00-6.00          0

fdb learn                              ns/op         min-max  allocs/op    GB/s
  new                                    200         190-210       2.00

checksum                               ns/op         min-max  allocs/op    GB/s
  1450 B                                50.0       40.0-60.0          0    29.0
`

func TestCodecTable(t *testing.T) {
	var b strings.Builder
	if err := exampleCodec().WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(b.String(), "\n", 3)
	if got := lines[2]; got != wantCodec {
		t.Errorf("got\n%s\nwant\n%s", got, wantCodec)
	}
	if !strings.Contains(lines[1], "median of 3 rounds") {
		t.Errorf("second line: %s", lines[1])
	}
}
