package explain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govxlan/govxlan/internal/explain"
	"github.com/govxlan/govxlan/internal/explain/input"
)

var update = flag.Bool("update", false, "write the golden files anew")

// captures are the names of the captures in testdata.
var captures = []string{
	"v4-offload", "v4-wire", "v6-offload", "v6-wire", "superframe", "gbp-8472",
	"sll", "sll2", "snap70", "inner", "groups", "fragments", "crafted",
}

// read explains all packets of a capture.
func read(t testing.TB, file string) []*explain.Explanation {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := input.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var all []*explain.Explanation
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, explain.Packet(p.Bytes, p.Start, explain.Options{
			Number: len(all) + 1, Time: p.Time, Length: p.Length, Comment: p.Comment,
		}))
	}
	if len(all) == 0 {
		t.Fatalf("%s holds no packet", file)
	}
	return all
}

// The one-line summaries are tcpdump's own words. Where they differ on purpose,
// the difference is in this table.
func TestSummariesAgreeWithTcpdump(t *testing.T) {
	theirs := []struct{ re, with string }{
		{`^\S+ +(In|Out|B|M|P) +`, ""},                                                   // SLL2: its interface and direction
		{`truncated-ip - \d+ bytes missing! `, ""},                                       // we say it at the end
		{`IP  \[\|ip\]`, "IP, cut short"},                                                // the same in words
		{`: ip-proto-17$`, ": UDP, fragment"},                                            // we say where and how long, too
		{`ethertype Unknown \((.*): $`, "ethertype ($1"},                                 // a dump follows theirs
		{`STP 802.1d, .*, length`, "02:42:0a:00:01:64 > 01:80:c2:00:00:00, STP, length"}, // we stop at LLC
		{`flags \[I\] \(0x88\), vni 7`, "flags [GI] (0x88), vni 7, policy 4660"},         // they do not know group policy
		{`  unreachable prohibited`, " unreachable prohibited"},
		{`ARP, .*, length 42`, "vlan 5, p 3, $0"}, // they hide the tag
	}
	ours := []struct{ re, with string }{
		{` \[a fragment: the rest is in others\]`, ""},
		{` \[\d+ of \d+ bytes captured\]`, ""},
		{`UDP, fragment at \d+, length \d+$`, "UDP, fragment"},
		{`ethertype local experiment `, "ethertype "},
	}
	rewrite := func(s string, table []struct{ re, with string }) string {
		for _, r := range table {
			s = regexp.MustCompile(r.re).ReplaceAllString(s, r.with)
		}
		return s
	}
	for _, name := range captures {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name+".tcpdump"))
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			for _, line := range strings.Split(strings.TrimRight(string(text), "\n"), "\n") {
				if !strings.HasPrefix(line, "\t") { // dumps of what tcpdump does not know
					want = append(want, rewrite(line, theirs))
				}
			}
			for _, e := range read(t, name+".pcap") {
				got = append(got, rewrite(e.OneLine(), ours))
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tcpdump (-) and we (+) differ:\n%s", diff)
			}
		})
	}
}

// Golden texts: what people see, at two widths.
func TestGoldenText(t *testing.T) {
	for _, c := range []struct {
		name    string
		capture string
		packet  int // from 1
		style   explain.Style
	}{
		{"arp", "v4-wire.pcap", 1, explain.Style{}},
		{"arp-120", "v4-wire.pcap", 1, explain.Style{Width: 120}},
		{"icmp-hex", "v4-wire.pcap", 3, explain.Style{Hex: true}},
		{"icmp-hex-120", "v4-wire.pcap", 3, explain.Style{Hex: true, Width: 120}},
		{"tcp-syn-offload", "v4-offload.pcap", 5, explain.Style{}},
		{"tcp-data-inner", "v4-wire.pcap", 8, explain.Style{Inner: true}},
		{"tcp-syn-color", "v4-wire.pcap", 5, explain.Style{Color: true}},
		{"unreachable", "v4-wire.pcap", 18, explain.Style{Width: 100}},
		{"dns-answer", "v4-wire.pcap", 20, explain.Style{}},
		{"ipv6-neighbour", "v6-wire.pcap", 6, explain.Style{}},
		{"ipv6-unreachable-offload", "v6-offload.pcap", 22, explain.Style{}},
		{"superframe", "superframe.pcap", 4, explain.Style{}},
		{"gbp", "gbp-8472.pcap", 5, explain.Style{}},
		{"sll", "sll.pcap", 1, explain.Style{}},
		{"sll2", "sll2.pcap", 1, explain.Style{}},
		{"snap", "snap70.pcap", 1, explain.Style{}},
		{"no-tunnel", "inner.pcap", 1, explain.Style{}},
		{"vlan", "groups.pcap", 1, explain.Style{}},
		{"unknown-ethertype", "groups.pcap", 2, explain.Style{Inner: true}},
		{"stp", "groups.pcap", 3, explain.Style{Inner: true}},
		{"igmp", "groups.pcap", 4, explain.Style{Inner: true}},
		{"mld", "groups.pcap", 5, explain.Style{Inner: true}},
		{"fragment-first", "fragments.pcap", 3, explain.Style{}},
		{"fragment-second", "fragments.pcap", 4, explain.Style{}},
		{"pcapng-comment", "v4-wire.pcapng", 1, explain.Style{Inner: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := read(t, c.capture)[c.packet-1].WriteText(&out, c.style); err != nil {
				t.Fatal(err)
			}
			golden(t, c.name+".txt", out.Bytes())
			width := c.style.Width
			if width == 0 {
				width = 80
			}
			for _, line := range strings.Split(out.String(), "\n") {
				if !c.style.Color && len(line) > width {
					t.Errorf("%d columns in a line for %d: %q", len(line), width, line)
				}
				if strings.TrimRight(line, " ") != line {
					t.Errorf("blanks at the end of %q", line)
				}
			}
		})
	}
}

// golden compares with, or writes, a file in testdata/golden.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s: want (-), got (+):\n%s", path, diff)
	}
}

func TestGoldenJSON(t *testing.T) {
	for name, c := range map[string]struct {
		capture string
		packet  int
		style   explain.Style
	}{
		"tcp.json":       {"v4-wire.pcap", 5, explain.Style{}},
		"tcp-inner.json": {"v4-wire.pcap", 5, explain.Style{Inner: true}},
		"vlan.json":      {"groups.pcap", 1, explain.Style{}},
		"snap.json":      {"snap70.pcap", 1, explain.Style{}},
		"inner.json":     {"inner.pcap", 1, explain.Style{}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := read(t, c.capture)[c.packet-1].JSON(c.style)
			if err != nil {
				t.Fatal(err)
			}
			var indented bytes.Buffer
			if err := json.Indent(&indented, b, "", "  "); err != nil {
				t.Fatal(err)
			}
			indented.WriteByte('\n')
			golden(t, name, indented.Bytes())
		})
	}
}

// What every explanation keeps, whatever the packet: layers in order without
// overlap, fields inside their layer, sums that add up, output that is clean.
func check(t testing.TB, e *explain.Explanation) {
	t.Helper()
	at := 0
	for i := range e.Layers {
		l := &e.Layers[i]
		if l.Offset < at || l.Size < 0 || l.Offset+l.Size > len(e.Bytes) {
			t.Fatalf("%s at %d, %d bytes: the one before ends at %d, the packet at %d", l.Name, l.Offset, l.Size, at, len(e.Bytes))
		}
		at = l.Offset + l.Size
		checkFields(t, l, l.Fields)
	}
	for _, p := range e.Problems {
		if p.Offset < 0 || p.Offset > len(e.Bytes) || p.Text == "" || p.Layer == "" {
			t.Fatalf("problem %+v of a packet of %d bytes", p, len(e.Bytes))
		}
	}
	sizes := e.Sizes()
	sum := 0
	for _, p := range sizes.Parts {
		sum += p.Size
	}
	if e.HasInner() {
		if sum != sizes.Overhead || sizes.Inner+sizes.Overhead != sizes.Total || sizes.Inner < 0 {
			t.Fatalf("sizes %+v do not add up", sizes)
		}
	} else if sum != sizes.Total {
		t.Fatalf("sizes %+v do not add up", sizes)
	}
	for _, style := range []explain.Style{{}, {Width: 60, Hex: true, Color: true}, {Inner: true, Hex: true}} {
		var out bytes.Buffer
		if err := e.WriteText(&out, style); err != nil {
			t.Fatal(err)
		}
		clean(t, strings.ReplaceAll(out.String(), "\n", ""), style.Color)
		out.Reset()
		if err := e.WriteSummary(&out, style); err != nil {
			t.Fatal(err)
		}
		clean(t, strings.TrimSuffix(out.String(), "\n"), style.Color)
		b, err := e.JSON(style)
		if err != nil || !json.Valid(b) || bytes.ContainsRune(b, '\n') {
			t.Fatalf("JSON %q: %v", b, err)
		}
	}
}

var ansi = regexp.MustCompile("\x1b\\[[0-9;]*m")

// clean says that text cannot do harm to a terminal.
func clean(t testing.TB, s string, color bool) {
	t.Helper()
	if color {
		s = ansi.ReplaceAllString(s, "")
	}
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			t.Fatalf("byte 0x%02x in the output: %q", s[i], s[max(0, i-20):min(len(s), i+20)])
		}
	}
}

func checkFields(t testing.TB, l *explain.Layer, fields []explain.Field) {
	t.Helper()
	for _, f := range fields {
		if f.Offset < l.Offset || f.Size < 0 || f.Offset+f.Size > l.Offset+l.Size || f.Name == "" || f.Value == nil {
			t.Fatalf("%s, %d bytes at %d: field %+v", l.Name, l.Size, l.Offset, f)
		}
		switch f.Value.(type) {
		case uint64, bool, string:
		default:
			t.Fatalf("%s: %s has a %T", l.Name, f.Name, f.Value)
		}
		checkFields(t, l, f.Parts)
	}
}

// The layers of a real packet lie side by side from its first byte to its last.
func TestLayersCoverThePacket(t *testing.T) {
	for _, name := range captures {
		for _, e := range read(t, name+".pcap") {
			check(t, e)
			at := 0
			for _, l := range e.Layers {
				if l.Offset != at {
					t.Errorf("%s, packet %d: %s is at %d, the layer before ends at %d", name, e.Number, l.Name, l.Offset, at)
				}
				at = l.Offset + l.Size
			}
			if at != len(e.Bytes) {
				t.Errorf("%s, packet %d: the layers end at %d of %d", name, e.Number, at, len(e.Bytes))
			}
			for _, p := range e.Problems {
				if !p.Cut {
					t.Errorf("%s, packet %d: %v", name, e.Number, p)
				}
			}
			if err := e.Err(); err != nil {
				t.Errorf("%s, packet %d: %v", name, e.Number, err)
			}
		}
	}
}

func ExamplePacket() {
	b := []byte("\x08\x00\x00\x00\x00\x10\x01\x00" + // VXLAN, VNI 4097
		"\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x00\x01\x64\x08\x06" + // a broadcast
		"\x00\x01\x08\x00\x06\x04\x00\x01" + // ARP request
		"\x02\x42\x0a\x00\x01\x64\x0a\x00\x01\x64\x00\x00\x00\x00\x00\x00\x0a\x00\x01\x67")
	e := explain.Packet(b, explain.Detect, explain.Options{})
	fmt.Println(e.Start, e.VNIs)
	fmt.Println(e.OneLine())
	// Output:
	// vxlan [4097]
	// VXLAN, flags [I] (0x08), vni 4097 | ARP, Request who-has 10.0.1.103 tell 10.0.1.100, length 28
}
