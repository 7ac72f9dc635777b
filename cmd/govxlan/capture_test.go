package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/explain/input"
	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/vxlan"
)

var updateCapture = flag.Bool("update-capture", false, "write testdata/capture.* anew")

// blocks are a capture of n frames, from its section header on.
func blocks(t *testing.T, n, size int) []*pcapng.Block {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "test")
	if err == nil {
		_, err = w.AddInterface(pcapng.Interface{Name: "underlay"})
	}
	for i := 0; i < n && err == nil; i++ {
		if i == n/2 {
			if _, err = w.AddInterface(pcapng.Interface{Name: "vx4097"}); err != nil {
				break
			}
		}
		err = w.WritePacket(&pcapng.Packet{Time: time.Unix(int64(i), 0), Bytes: bytes.Repeat([]byte{byte(i)}, size), Comment: fmt.Sprint("frame ", i)})
	}
	if err == nil {
		err = w.WriteStatistics(&pcapng.Statistics{Missed: 1})
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []*pcapng.Block
	for r := pcapng.NewReader(&b); ; {
		block, err := r.Next()
		if err != nil {
			return all
		}
		kept := *block
		kept.Raw = bytes.Clone(block.Raw)
		all = append(all, &kept)
	}
}

// commentsIn are those of the frames in a file, as decode reads them.
func commentsIn(t *testing.T, path string) []string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := input.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var all []string
	for {
		p, err := r.Next()
		if err != nil {
			if err.Error() != "EOF" {
				t.Fatalf("%s: %v", path, err)
			}
			return all
		}
		all = append(all, p.Comment)
	}
}

// Files have the names that tcpdump gives them, each is a capture of its own, and
// together they have all frames, or the last ones.
func TestCaptureFiles(t *testing.T) {
	const n, size, limit = 25, 500, 2000
	all := blocks(t, n, size)
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint("frame ", i))
	}
	for _, tc := range []struct {
		limit int64
		files int
		names []string // in the order of their frames
	}{
		{0, 0, []string{"f"}},
		{limit, 0, []string{"f", "f1", "f2", "f3", "f4", "f5", "f6"}},
		{limit, 12, []string{"f00", "f01", "f02", "f03", "f04", "f05", "f06"}},
		{limit, 2, []string{"f1", "f0"}},
		{limit, 1, []string{"f"}},
	} {
		dir := t.TempDir()
		c, err := newCaptureFile(filepath.Join(dir, "f"), nil, tc.limit, tc.files)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range all {
			if err := c.take(b); err != nil {
				t.Fatal(err)
			}
			if i%3 == 0 {
				if err := c.flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(c.close(), c.close()); err != nil {
			t.Fatal(err)
		}
		if c.taken() != n {
			t.Errorf("%+v: %d frames taken", tc, c.taken())
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := slices.Sorted(slices.Values(tc.names)); !slices.Equal(names, got) {
			t.Errorf("limit %d, %d files: %q, want %q", tc.limit, tc.files, names, got)
			continue
		}
		var got []string
		for _, name := range tc.names {
			comments := commentsIn(t, filepath.Join(dir, name))
			if tc.limit > 0 && len(comments) > 5 {
				t.Errorf("%s has %d frames", name, len(comments))
			}
			got = append(got, comments...)
		}
		if tail := want[len(want)-len(got):]; !slices.Equal(got, tail) || tc.files != 1 && tc.files != 2 && len(got) != n || len(got) == 0 {
			t.Errorf("limit %d, %d files: frames %q", tc.limit, tc.files, got)
		}
	}
}

// A file system that has no more room leaves whole frames, and one sentence.
func TestCaptureFileFull(t *testing.T) {
	all := blocks(t, 100, 500)
	path := filepath.Join(t.TempDir(), "f")
	c, err := newCaptureFile(path, nil, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	full := &fullDisk{room: 20000}
	full.file, c.out = c.file, full
	for _, b := range all {
		if err = c.take(b); err != nil {
			break
		}
		if err = c.flush(); err != nil {
			break
		}
	}
	want := "capture: write " + path + ": no space left on device (the file ends with the last frame that is whole)"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	got := commentsIn(t, path)
	if len(got) != int(c.taken()) || len(got) < 30 || len(got) > 40 {
		t.Errorf("%d frames in the file, %d taken", len(got), c.taken())
	}

	// The same where many blocks are written at once.
	c, err = newCaptureFile(path, nil, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	full = &fullDisk{room: 30000, file: c.file}
	c.out = full
	for _, b := range all {
		if err = c.take(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.close(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if got := commentsIn(t, path); len(got) != int(c.taken()) || len(got) < 50 || len(got) > 58 {
		t.Errorf("%d frames in the file, %d taken", len(got), c.taken())
	}
}

// fullDisk has room for so many bytes more.
type fullDisk struct {
	file *os.File
	room int
}

func (d *fullDisk) Write(b []byte) (int, error) {
	n, err := d.file.Write(b[:min(len(b), d.room)])
	if d.room -= n; err == nil && n < len(b) {
		err = &os.PathError{Op: "write", Path: d.file.Name(), Err: syscall.ENOSPC}
	}
	return n, err
}

// sampleBlocks is what an endpoint says of some frames.
func sampleBlocks(t *testing.T) []*pcapng.Block {
	t.Helper()
	outer := vxlan.Outer{
		Src: netip.MustParseAddr("192.168.52.203"), Dst: netip.MustParseAddr("192.168.52.204"), TTL: 64,
		SrcPort: 54556, DstPort: 14789, VNI: 4097,
	}
	arp := []byte{
		0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0x42, 10, 0, 1, 100, 8, 6,
		0, 1, 8, 0, 6, 4, 0, 1, 2, 0x42, 10, 0, 1, 100, 10, 0, 1, 100, 0, 0, 0, 0, 0, 0, 10, 0, 1, 103,
	}
	packet := make([]byte, outer.Len()+len(arp))
	copy(packet[outer.Len():], arp)
	if err := outer.Put(packet); err != nil {
		t.Fatal(err)
	}
	vni, strange := vxlan.VNI(4097), vxlan.VNI(4099)
	peer := netip.MustParseAddrPort("192.168.52.204:14789")
	at := time.Date(2025, 11, 23, 21, 52, 3, 123456789, time.UTC)
	var b bytes.Buffer
	w, err := pcapng.NewWriter(&b, "test")
	for _, name := range []string{"underlay", "vx4097"} {
		if err == nil {
			_, err = w.AddInterface(pcapng.Interface{Name: name})
		}
	}
	for i, p := range []struct {
		pcapng.Packet
		note control.CaptureNote
	}{
		{pcapng.Packet{Direction: pcapng.Outbound, Bytes: packet}, control.CaptureNote{VNI: &vni, Device: "vx4097", Peer: peer, Verdict: "passed", Outer: true}},
		{pcapng.Packet{Direction: pcapng.Inbound, Bytes: packet, Comment: "dropped: rx_drop_unknown_vni: no such VNI is configured here"},
			control.CaptureNote{VNI: &strange, Peer: peer, Verdict: "rx_drop_unknown_vni", Dropped: true, Outer: true}},
		{pcapng.Packet{Direction: pcapng.Inbound, Bytes: packet[:46], Length: len(packet), Comment: "dropped: rx_drop_bad_header: no VXLAN header, or one without the I flag"},
			control.CaptureNote{Peer: peer, Verdict: "rx_drop_bad_header", Dropped: true, Outer: true}},
		{pcapng.Packet{Interface: 1, Direction: pcapng.Outbound, Bytes: arp}, control.CaptureNote{VNI: &vni, Device: "vx4097", Verdict: "passed"}},
		{pcapng.Packet{Interface: 1, Direction: pcapng.Outbound, Bytes: arp, Comment: "answered here instead of sent"},
			control.CaptureNote{VNI: &vni, Device: "vx4097", Verdict: "tx_arp_answered"}},
	} {
		p.Time = at.Add(time.Duration(i) * time.Microsecond)
		if p.Note, err = json.Marshal(p.note); err == nil {
			err = w.WritePacket(&p.Packet)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var all []*pcapng.Block
	for r := pcapng.NewReader(&b); ; {
		block, err := r.Next()
		if err != nil {
			return all
		}
		kept := *block
		kept.Packet.Bytes, kept.Packet.Note = bytes.Clone(block.Packet.Bytes), bytes.Clone(block.Packet.Note)
		all = append(all, &kept)
	}
}

// What people and programs read.
func TestCapturePrinted(t *testing.T) {
	t.Setenv("TZ", "UTC")
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	for name, style := range map[string]captureStyle{
		"lines":   {columns: 80},
		"color":   {columns: 80, color: true, arrows: true},
		"verbose": {columns: 80, verbose: true},
		"json":    {columns: 80, json: true},
	} {
		var out bytes.Buffer
		c := newCapturePrinter(&out, style)
		for _, b := range sampleBlocks(t) {
			if err := c.take(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.close(); err != nil || c.taken() != 5 {
			t.Errorf("%s: %d taken, %v", name, c.taken(), err)
		}
		path := filepath.Join("testdata", "capture."+name)
		if *updateCapture {
			if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s is not as in %s:\n%s", name, path, out.Bytes())
		}
		if style.json {
			for line := range strings.Lines(out.String()) {
				var v struct{ Capture map[string]any }
				if err := json.Unmarshal([]byte(line), &v); err != nil || v.Capture["verdict"] == nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		}
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"1": 1000, "100": 100000, "1k": 1 << 10, "3M": 3 << 20, "2G": 2 << 30} {
		if n, err := parseSize(s, 1000); n != want || err != nil {
			t.Errorf("%s: %d, %v", s, n, err)
		}
	}
	for _, s := range []string{"", "0", "-1", "M", "1T", "1.5", "99999999999999999999", "9999999G", "1kk"} {
		if n, err := parseSize(s, 1000); err == nil {
			t.Errorf("%q: %d", s, n)
		}
	}
}
