package demo

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// testReport is a report as a demo fills it, of packets made by hand.
func testReport(t *testing.T, near, far EndKind) *Report {
	t.Helper()
	const vni = 4097
	stations := testStations()
	r := &Report{Version: "test", System: "Linux 6.18.0, 2 CPUs", VNI: vni, MTU: overlayMTU}
	r.Hosts = [2]Host{
		{Letter: "A", Namespace: "gvx-demo-1234567-hostA", Sandbox: "gvx-demo-1234567-sandboxA", Container: "gvx-demo-1234567-containerA", Underlay: hostA, Overlay: ipA, MAC: macA, End: near},
		{Letter: "B", Namespace: "gvx-demo-1234567-hostB", Sandbox: "gvx-demo-1234567-sandboxB", Container: "gvx-demo-1234567-containerB", Underlay: hostB, Overlay: ipB, MAC: macB, End: far},
	}
	for i := range r.Hosts {
		if h := &r.Hosts[i]; h.End == EndGovxlan {
			h.Control = "/run/govxlan/labs/gvx-demo-1234567/vtep" + h.Letter + ".sock"
			h.Command = []string{
				"up", "--vni", "4097", "--local", h.Underlay.String(), "--peer", r.Hosts[1-i].Underlay.String(),
				"--netns", h.Sandbox, "--name", vtepDev, "--bridge", bridgeDev,
			}
		}
	}
	events := passage(t, arpFrame([6]byte{255, 255, 255, 255, 255, 255}, 1, macA, ipA, [6]byte{}, ipB), 0, false, vni)
	events = append(events, passage(t, arpFrame(macA, 2, macB, ipB, macA, ipA), 100*time.Microsecond, true, vni)...)
	events = append(events, passage(t, echoFrame(macB, macA, 8, ipA, ipB, 77, 2), time.Millisecond, false, vni)...)
	events = append(events, passage(t, echoFrame(macA, macB, 0, ipB, ipA, 77, 2), 2345*time.Microsecond, true, vni)...)
	r.FirstContact = followExchange(events, stations, key{kind: arpRequest, asker: ipA, asked: ipB}, key{kind: arpReply, asker: ipA, asked: ipB}, vni)
	r.Walk = followExchange(events, stations, key{kind: echoRequest, id: 77, seq: 2}, key{kind: echoReply, id: 77, seq: 2}, vni)
	r.Packet = takeApart(r.Walk.Request[3])
	r.FDB = [2]FDB{
		{Host: "A", Bridge: []BridgeEntry{{macA, portDev}, {macB, vtepDev}}, VTEP: []VTEPEntry{
			{VNI: vni, VTEP: hostB, Port: 4789, Kind: "flood"}, {VNI: vni, MAC: macB, VTEP: hostB, Port: 4789, Kind: "learned", Age: 0.1},
		}},
		{Host: "B", Bridge: []BridgeEntry{{macA, vtepDev}, {macB, portDev}}, VTEP: []VTEPEntry{
			{VNI: vni, VTEP: hostA, Port: 4789, Kind: "flood"}, {VNI: vni, MAC: macA, VTEP: hostA, Port: 4789, Kind: "learned", Age: 0.1},
		}},
	}
	r.RTT = RTT{Sent: 20, Received: 20, Min: 182.2, Avg: 259.4, Max: 373, StdDev: 50.1}
	r.Transfer = Transfer{Bytes: 1_827_340_288, Seconds: 2.01, BitsPerSecond: 7.27e9, Sent: "8af995e3", Received: "8af995e3", Retransmitted: 46}
	return r
}

func printed(t *testing.T, r *Report, style Style) string {
	t.Helper()
	var out bytes.Buffer
	p := NewPrinter(&out, style)
	for part := PartStage; part <= PartRemoved; part++ {
		if err := p.Show(part, r); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

func TestPrinterGolden(t *testing.T) {
	for _, c := range []struct {
		file  string
		near  EndKind
		far   EndKind
		kept  bool
		style Style
	}{
		{"plain80.txt", EndGovxlan, EndGovxlan, false, Style{}},
		{"unicode80.txt", EndGovxlan, EndKernel, true, Style{Unicode: true, Columns: 80}},
		{"unicode110.txt", EndKernel, EndKernel, false, Style{Unicode: true, Columns: 110}},
	} {
		t.Run(c.file, func(t *testing.T) {
			r := testReport(t, c.near, c.far)
			if c.kept {
				r.Kept = "gvx-demo-1234567"
			}
			got := printed(t, r, c.style)
			path := filepath.Join("testdata", c.file)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the text differs from %s (go test -update writes it anew):\n%s", path, got)
			}
		})
	}
}

var escape = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestPrinterStyles holds every style to the same text: colours are an addition,
// ASCII is ASCII, and no line is wider than the terminal.
func TestPrinterStyles(t *testing.T) {
	r := testReport(t, EndGovxlan, EndGovxlan)
	for _, columns := range []int{0, 80, 100, 200} {
		for _, unicode := range []bool{false, true} {
			style := Style{Unicode: unicode, Columns: columns}
			text := printed(t, r, style)
			style.Color = true
			colored := printed(t, r, style)
			if !strings.Contains(colored, "\x1b[") {
				t.Errorf("%+v: no colours", style)
			}
			if bare := escape.ReplaceAllString(colored, ""); bare != text {
				t.Errorf("%+v: without its colours the text is another:\n%s\n%s", style, bare, text)
			}
			for _, l := range strings.Split(text, "\n") {
				if n := utf8.RuneCountInString(l); n > max(columns, 80) {
					t.Errorf("%+v: %d columns: %s", style, n, l)
				}
				if strings.HasSuffix(l, " ") {
					t.Errorf("%+v: ends with a space: %q", style, l)
				}
				if !unicode && len(l) != utf8.RuneCountInString(l) {
					t.Errorf("%+v: not ASCII: %s", style, l)
				}
			}
		}
	}
}

// TestPrinterTellsTheTruth changes what was found and looks for it in the text.
func TestPrinterTellsTheTruth(t *testing.T) {
	r := testReport(t, EndGovxlan, EndGovxlan)
	r.Walk.Request[6].Same = false
	r.Walk.Request[7].Same = false
	r.Walk.Request[3].Outer.ChecksumOK = false
	r.Walk.Request[4].raw = bytes.Clone(r.Walk.Request[4].raw)
	r.Walk.Request[4].raw[60] ^= 1
	r.RTT.Received = 19
	text := printed(t, r, Style{})
	for want, n := range map[string]int{
		"a changed frame": 2, "a changed packet": 1, "checksum wrong": 1, "checksum right": 0, "19 of 20 answered": 1,
		"the same frame ok": 1, // the reply's
	} {
		if got := strings.Count(text, want); got != n {
			t.Errorf("%q is there %d times, want %d:\n%s", want, got, n, text)
		}
	}
}

type brokenWriter struct{ error }

func (w brokenWriter) Write([]byte) (int, error) { return 0, w.error }

func TestPrinterReportsWriteErrors(t *testing.T) {
	want := errors.New("disk full")
	if err := NewPrinter(brokenWriter{want}, Style{}).Show(PartStage, testReport(t, EndGovxlan, EndGovxlan)); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
