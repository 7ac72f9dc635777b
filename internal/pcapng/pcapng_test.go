package pcapng

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket/pcapgo"
	"pgregory.net/rapid"
)

// section is what a capture has in it.
type section struct {
	Interfaces []Interface
	Packets    []Packet
	Statistics []Statistics
}

// write writes it: each interface when the first packet of it comes, as captures
// do.
func (s *section) write(t rapid.TB, w io.Writer) {
	t.Helper()
	p, err := NewWriter(w, "govxlan test")
	if err != nil {
		t.Fatal(err)
	}
	added := 0
	for i := range s.Packets {
		for ; added <= int(s.Packets[i].Interface); added++ {
			if n, err := p.AddInterface(s.Interfaces[added]); err != nil || n != uint32(added) {
				t.Fatalf("interface %d is number %d, %v", added, n, err)
			}
		}
		if err := p.WritePacket(&s.Packets[i]); err != nil {
			t.Fatal(err)
		}
	}
	for ; added < len(s.Interfaces); added++ {
		if _, err := p.AddInterface(s.Interfaces[added]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range s.Statistics {
		if err := p.WriteStatistics(&s.Statistics[i]); err != nil {
			t.Fatal(err)
		}
	}
}

// read reads it back; raw is all blocks as they were.
func read(t rapid.TB, r io.Reader) (s section, raw []byte) {
	t.Helper()
	p := NewReader(r)
	for {
		b, err := p.Next()
		if err == io.EOF {
			return s, raw
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = append(raw, b.Raw...)
		switch b.Type {
		case TypeInterface:
			s.Interfaces = append(s.Interfaces, b.Interface)
		case TypePacket:
			k := b.Packet
			k.Bytes, k.Note = bytes.Clone(k.Bytes), bytes.Clone(k.Note)
			s.Packets = append(s.Packets, k)
		case TypeStatistics:
			s.Statistics = append(s.Statistics, b.Statistics)
		}
	}
}

func drawSection(t *rapid.T) section {
	text := rapid.OneOf(rapid.Just(""), rapid.StringN(1, 40, -1))
	moment := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "s"), rapid.Int64Range(0, 999999999).Draw(t, "ns"))
	})
	var s section
	for range rapid.IntRange(1, 4).Draw(t, "interfaces") {
		s.Interfaces = append(s.Interfaces, Interface{Name: text.Draw(t, "name"), Description: text.Draw(t, "description")})
	}
	for range rapid.IntRange(0, 8).Draw(t, "packets") {
		k := Packet{
			Interface: uint32(rapid.IntRange(0, len(s.Interfaces)-1).Draw(t, "interface")),
			Time:      moment.Draw(t, "time"),
			Direction: Direction(rapid.IntRange(0, 2).Draw(t, "direction")),
			Bytes:     rapid.SliceOfN(rapid.Byte(), 1, 80).Draw(t, "bytes"),
			Comment:   text.Draw(t, "comment"),
		}
		k.Length = len(k.Bytes) + rapid.SampledFrom([]int{0, 0, 1000}).Draw(t, "cut")
		if note := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "note"); len(note) > 0 {
			k.Note = note
		}
		s.Packets = append(s.Packets, k)
	}
	for i := range s.Interfaces {
		s.Statistics = append(s.Statistics, Statistics{
			Interface: uint32(i), Time: moment.Draw(t, "time"), Start: moment.Draw(t, "start"),
			Missed: rapid.Uint64().Draw(t, "missed"), Delivered: rapid.Uint64().Draw(t, "delivered"),
		})
	}
	return s
}

// What is written is read back the same, here and by gopacket.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSection(t)
		var b bytes.Buffer
		s.write(t, &b)
		got, raw := read(t, bytes.NewReader(b.Bytes()))
		if d := cmp.Diff(s, got); d != "" {
			t.Fatal(d)
		}
		if !bytes.Equal(raw, b.Bytes()) {
			t.Fatal("blocks differ from what was written")
		}

		r, err := pcapgo.NewNgReader(bytes.NewReader(b.Bytes()), pcapgo.DefaultNgReaderOptions)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range s.Packets {
			data, ci, err := r.ReadPacketData()
			if err != nil {
				t.Fatalf("packet %d: %v", i, err)
			}
			if !bytes.Equal(data, k.Bytes) || ci.Length != k.Length || ci.InterfaceIndex != int(k.Interface) || !ci.Timestamp.Equal(k.Time) {
				t.Fatalf("packet %d: %+v, gopacket reads %x, %+v", i, k, data, ci)
			}
		}
		if _, _, err := r.ReadPacketData(); err != io.EOF {
			t.Fatal(err)
		}
		for i, s := range s.Interfaces {
			if got, err := r.Interface(i); err != nil || got.Name != s.Name || got.Description != s.Description || got.TimestampResolution != 9 {
				t.Fatalf("interface %d: %+v, gopacket reads %+v, %v", i, s, got, err)
			}
		}
	})
}

// Wireshark's reader finds what is not gopacket's to find.
func TestTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed")
	}
	frame := []byte{2, 0, 0, 0, 2, 0, 2, 0, 0, 0, 1, 0, 0x88, 0xB5, 1, 2, 3}
	at := time.Date(2025, 11, 23, 21, 52, 3, 123456789, time.UTC)
	s := section{
		Interfaces: []Interface{{Name: "underlay", Description: "made up"}, {Name: "vx4097"}},
		Packets: []Packet{
			{Time: at, Direction: Inbound, Bytes: frame, Comment: "dropped: rx_drop_unknown_vtep: the sender is no peer"},
			{Interface: 1, Time: at.Add(1), Direction: Outbound, Bytes: frame[:15], Length: 2000, Note: []byte("for us")},
			{Interface: 1, Time: at.Add(2), Bytes: frame, Comment: "two\nlines — and more than ASCII"},
		},
		Statistics: []Statistics{{Time: at, Start: at, End: at.Add(time.Second), Missed: 7, Delivered: 3}},
	}
	var b bytes.Buffer
	s.write(t, &b)
	cmd := exec.Command("tshark", "-r", "-", "-T", "json")
	cmd.Stdin = bytes.NewReader(b.Bytes())
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, stderr.String())
	}
	type seen struct {
		Source struct {
			Layers struct {
				Frame   map[string]any `json:"frame"`
				Comment map[string]any `json:"pkt_comment"`
			} `json:"layers"`
		} `json:"_source"`
	}
	var got []seen
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(got) != len(s.Packets) {
		t.Fatalf("tshark reads %d packets of %d", len(got), len(s.Packets))
	}
	for i, k := range s.Packets {
		f := got[i].Source.Layers.Frame
		field := func(name string) string { return fmt.Sprint(f[name]) }
		sub := func(tree, name string) string {
			m, _ := f[tree].(map[string]any)
			return fmt.Sprint(m[name])
		}
		want := map[string]string{
			"frame.time_epoch": fmt.Sprintf("%d.%09d", k.Time.Unix(), k.Time.Nanosecond()),
			"frame.len":        fmt.Sprint(max(k.Length, len(k.Bytes))),
			"frame.cap_len":    fmt.Sprint(len(k.Bytes)),
		}
		for name, w := range want {
			if field(name) != w {
				t.Errorf("packet %d: %s is %s, want %s", i, name, field(name), w)
			}
		}
		if name := sub("frame.interface_id_tree", "frame.interface_name"); name != s.Interfaces[k.Interface].Name {
			t.Errorf("packet %d: interface %s", i, name)
		}
		if d := sub("frame.packet_flags_tree", "frame.packet_flags_direction"); k.Direction != 0 && d != fmt.Sprintf("0x%08x", k.Direction) {
			t.Errorf("packet %d: direction %s", i, d)
		}
		if c := got[i].Source.Layers.Comment["frame.comment"]; k.Comment != "" && c != k.Comment {
			t.Errorf("packet %d: comment %q", i, c)
		}
	}
}

// A capture that ends anywhere is whole up to the last whole block.
func TestCutShort(t *testing.T) {
	s := section{Interfaces: []Interface{{Name: "a"}}, Packets: []Packet{{Bytes: []byte{1, 2, 3}, Comment: "c"}, {Bytes: []byte{4}}}}
	var b bytes.Buffer
	s.write(t, &b)
	ends := map[int]bool{0: true}
	for n := range b.Len() + 1 {
		r := NewReader(bytes.NewReader(b.Bytes()[:n]))
		read := 0
		var err error
		for err == nil {
			var block *Block
			if block, err = r.Next(); err == nil {
				read += len(block.Raw)
				ends[read] = true
			}
		}
		want := io.ErrUnexpectedEOF
		if ends[n] {
			want = io.EOF
		}
		if err != want || read > n {
			t.Fatalf("%d of %d bytes: %v after %d, want %v", n, b.Len(), err, read, want)
		}
	}
	if len(ends) != 5 {
		t.Errorf("blocks end at %v", ends)
	}
}

func TestMistakes(t *testing.T) {
	p, err := NewWriter(io.Discard, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WritePacket(&Packet{}); err == nil || !strings.Contains(err.Error(), "interface 0, there are 0") {
		t.Error(err)
	}
	if err := p.WriteStatistics(&Statistics{Interface: 2}); err == nil || !strings.Contains(err.Error(), "interface 2, there are 0") {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := NewWriter(failing{broken}, ""); err != broken {
		t.Error(err)
	}
}

type failing struct{ error }

func (f failing) Write([]byte) (int, error) { return 0, f.error }

// Bytes from anywhere: no panic, no block longer than there are bytes, and what
// is understood can be written and is understood the same.
func FuzzReader(f *testing.F) {
	s := section{
		Interfaces: []Interface{{Name: "underlay", SnapLen: 80}},
		Packets:    []Packet{{Direction: Outbound, Bytes: []byte{1, 2, 3}, Length: 9, Comment: "c", Note: []byte("n")}},
		Statistics: []Statistics{{Missed: 1}},
	}
	var b bytes.Buffer
	s.write(f, &b)
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		read := 0
		var out bytes.Buffer
		w, err := NewWriter(&out, "")
		if err != nil {
			t.Fatal(err)
		}
		var packets []Packet
		for {
			block, err := r.Next()
			if err != nil {
				if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				break
			}
			if read += len(block.Raw); read > len(b) || !bytes.Equal(b[read-len(block.Raw):read], block.Raw) {
				t.Fatalf("%d bytes read of %d", read, len(b))
			}
			switch block.Type {
			case TypeInterface:
				_, err = w.AddInterface(block.Interface)
			case TypePacket:
				k := block.Packet
				k.Bytes, k.Note = bytes.Clone(k.Bytes), bytes.Clone(k.Note)
				if len(k.Comment) > longestOption || len(k.Note) > longestOption || k.Direction == 3 {
					return // cut when written, and reserved
				}
				packets = append(packets, k)
				err = w.WritePacket(&k)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		again := NewReader(&out)
		for i := 0; i < len(packets); {
			block, err := again.Next()
			if err != nil {
				t.Fatal(err)
			}
			if block.Type != TypePacket {
				continue
			}
			got, want := block.Packet, packets[i]
			if len(got.Note) == 0 {
				got.Note, want.Note = nil, want.Note[:0]
			}
			if got.Comment != want.Comment || !bytes.Equal(got.Bytes, want.Bytes) || !bytes.Equal(got.Note, want.Note) ||
				got.Length != want.Length || got.Direction != want.Direction || !got.Time.Equal(want.Time) {
				t.Fatalf("%+v\nwritten and read as\n%+v", want, got)
			}
			i++
		}
	})
}
