package input

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"github.com/govxlan/govxlan/internal/explain"
)

func file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKinds(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write(file(t, "v4-wire.pcapng"))
	w.Close()
	for _, c := range []struct {
		name    string
		b       []byte
		kind    string
		packets int
		start   explain.Start
	}{
		{"pcap", file(t, "v4-wire.pcap"), "pcap", len(packetsOf(t, "v4-wire.pcap")), explain.Ethernet},
		{"pcapng", file(t, "v4-wire.pcapng"), "pcapng", 4, explain.Ethernet},
		{"pcapng in gzip", zipped.Bytes(), "pcapng", 4, explain.Ethernet},
		{"cooked", file(t, "sll.pcap"), "pcap", len(packetsOf(t, "sll.pcap")), explain.LinuxSLL},
		{"cooked, second form", file(t, "sll2.pcap"), "pcap", len(packetsOf(t, "sll2.pcap")), explain.LinuxSLL2},
		{"a dump", file(t, "hex/tcpdump-x.txt"), "hex", 8, explain.Detect},
		{"bytes", file(t, "hex/one.bin"), "bytes", 1, explain.Detect},
		{"two bytes", []byte{0x45, 0x00}, "bytes", 1, explain.Detect},
	} {
		r, err := NewReader(bytes.NewReader(c.b))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		count := r.Count()
		packets, err := all(r)
		if known := c.kind == "hex" || c.kind == "bytes"; known && count != c.packets || !known && count != 0 {
			t.Errorf("%s: told %d packets beforehand, there are %d", c.name, count, c.packets)
		}
		if r.Kind() != c.kind || len(packets) != c.packets || err != nil {
			t.Errorf("%s: %s with %d packets, %v; want %s with %d", c.name, r.Kind(), len(packets), err, c.kind, c.packets)
			continue
		}
		if packets[0].Start != c.start {
			t.Errorf("%s: begins with %v, want %v", c.name, packets[0].Start, c.start)
		}
	}
}

// What a capture says about a packet beside its bytes.
func TestCaptureTells(t *testing.T) {
	cut := packetsOf(t, "snap70.pcap")[0]
	if len(cut.Bytes) != 70 || cut.Length != 148 {
		t.Errorf("snap70: %d of %d bytes", len(cut.Bytes), cut.Length)
	}
	pcap, ng := packetsOf(t, "v4-wire.pcap"), packetsOf(t, "v4-wire.pcapng")
	for i, p := range ng {
		if !bytes.Equal(p.Bytes, pcap[i].Bytes) || !p.Time.Equal(pcap[i].Time) || p.Time.IsZero() {
			t.Errorf("packet %d differs between pcap and pcapng", i+1)
		}
	}
	if ng[0].Comment != "rx vni 4097: flooded" || ng[1].Comment != "" {
		t.Errorf("comments %q and %q", ng[0].Comment, ng[1].Comment)
	}
}

// Every link type and both byte orders and resolutions of pcap.
func TestPcapForms(t *testing.T) {
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		for magic, unit := range map[uint32]time.Duration{0xa1b2c3d4: time.Microsecond, 0xa1b23c4d: time.Nanosecond} {
			b := order.AppendUint32(nil, magic)
			b = order.AppendUint16(b, 2)
			b = order.AppendUint16(b, 4)
			b = append(b, make([]byte, 8)...)
			b = order.AppendUint32(b, 64) // snap length, less than the packet has
			b = order.AppendUint32(b, 101|2<<28)
			b = order.AppendUint32(b, 1700000000)
			b = order.AppendUint32(b, 5)
			b = order.AppendUint32(b, 100)
			b = order.AppendUint32(b, 200)
			b = append(b, bytes.Repeat([]byte{0x45}, 100)...)
			r, err := NewReader(bytes.NewReader(b))
			if err != nil {
				t.Fatalf("%v, %v: %v", order, unit, err)
			}
			p, err := r.Next()
			if err != nil || len(p.Bytes) != 100 || p.Length != 200 || p.Start != explain.IP || !p.Time.Equal(time.Unix(1700000000, int64(5*unit))) {
				t.Errorf("%v, %v: %+v, %v", order, unit, p, err)
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("%v, %v: %v at the end", order, unit, err)
			}
		}
	}
}

// A pcapng of two interfaces, as dumpcap -i eth0 -i any makes.
func TestPcapngOfTwoInterfaces(t *testing.T) {
	var out bytes.Buffer
	w, err := pcapgo.NewNgWriterInterface(&out, pcapgo.NgInterface{LinkType: layers.LinkTypeEthernet, SnapLength: 0}, pcapgo.DefaultNgWriterOptions)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := w.AddInterface(pcapgo.NgInterface{LinkType: layers.LinkTypeRaw})
	if err != nil {
		t.Fatal(err)
	}
	b := bytes.Repeat([]byte{0x45}, 33)
	for i, interf := range []int{0, raw, 0} {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: 33, Length: 33, InterfaceIndex: interf}, b); err != nil {
			t.Fatal(err)
		}
	}
	w.Flush()
	r, err := NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := all(r)
	if err != nil {
		t.Fatal(err)
	}
	var starts []explain.Start
	for _, p := range packets {
		starts = append(starts, p.Start)
	}
	if !slices.Equal(starts, []explain.Start{explain.Ethernet, explain.IP, explain.Ethernet}) {
		t.Errorf("the packets begin with %v", starts)
	}
}

func TestBadInput(t *testing.T) {
	pcap, ng := file(t, "v4-wire.pcap"), file(t, "v4-wire.pcapng")
	patch := func(b []byte, off int, v ...byte) []byte {
		b = slices.Clone(b)
		copy(b[off:], v)
		return b
	}
	interfaceAt := int(binary.LittleEndian.Uint32(ng[4:]))
	packetAt := interfaceAt + int(binary.LittleEndian.Uint32(ng[interfaceAt+4:]))
	for _, c := range []struct {
		name string
		b    []byte
		want string // part of the error of NewReader or of the packet it ends with
		read int    // packets before it
	}{
		{"nothing", nil, "the input is empty", 0},
		{"pcap, half a header", pcap[:20], "it is a pcap, cut short in its header", 0},
		{"pcap, half a packet header", pcap[:24+8], "the capture is cut short in packet 1", 0},
		{"pcap, no byte of a packet", pcap[:24+16], "the capture is cut short in packet 1", 0},
		{"pcap, half a packet", pcap[:24+16+40], "the capture is cut short in packet 1", 0},
		{"pcap, half the second packet", pcap[:24+16+92+16+3], "the capture is cut short in packet 2", 1},
		{"pcap, gigantic packet", patch(pcap, 24+8, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f), "the capture is damaged at packet 1: capture length exceeds snap length", 0},
		{"pcap, negative length", patch(pcap, 24+8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "the capture is damaged at packet 1", 0},
		{"pcap, more here than sent", patch(pcap, 24+12, 1, 0, 0, 0), "the capture is damaged at packet 1: capture length exceeds original", 0},
		{"pcap, wireless", patch(pcap, 20, 105, 0, 0, 0), "its link type is 105 (802.11): only", 0},
		{"pcap, unheard of", patch(pcap, 20, 20, 0, 0, 0), "its link type is 20: only", 0},
		{"pcap, version", patch(pcap, 4, 9), "it is a pcap, but damaged: Unknown major version", 0},
		{"modified pcap", patch(pcap, 0, 0x34, 0xcd, 0xb2, 0xa1), "it is a pcap of the modified form", 0},
		{"snoop", append([]byte("snoop\x00\x00\x00"), make([]byte, 20)...), "it is a Solaris snoop capture", 0},
		{"gzip", []byte{0x1f, 0x8b, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, "it is compressed with gzip, but damaged", 0},
		{"pcapng, half a header", ng[:20], "it is a pcapng, cut short in its header", 0},
		{"pcapng, no byte order", patch(ng, 8, 1, 2, 3, 4), "its section header has no byte order (01 02 03 04)", 0},
		{"pcapng, version", patch(ng, 12, 2), "it is pcapng version 2, 1 is known here", 0},
		{"pcapng, block of nothing", patch(ng, interfaceAt+4, 0, 0, 0, 0), "a block says that it has 0 bytes", 0},
		{"pcapng, gigantic block", patch(ng, interfaceAt+4, 0, 0, 0, 0x40), "a block says that it has 1073741824 bytes", 0},
		{"pcapng, odd block", patch(ng, interfaceAt+4, 21), "a block says that it has 21 bytes", 0},
		{"pcapng, two lengths", patch(ng, packetAt-4, 0), "a block has", 0},
		{"pcapng, another interface", patch(ng, packetAt+8, 7), "a packet is of interface 7, there are 1", 0},
		{"pcapng, too large a packet", patch(ng, packetAt+20, 0xff, 0xff), "a packet says that it has 65535 bytes in a block of", 0},
		{"pcapng, half a packet", ng[:packetAt+30], "the capture is cut short in packet 1", 0},
		{"text", []byte("tcpdump: listening on eth0"), "line 1 is no hex", 0},
	} {
		r, err := NewReader(bytes.NewReader(c.b))
		var packets []Packet
		if err == nil {
			packets, err = all(r)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || len(packets) != c.read {
			t.Errorf("%s: %d packets, %v; want %d and %q", c.name, len(packets), err, c.read, c.want)
		}
	}
	if _, err := NewReader(bytes.NewReader(nil)); !errors.Is(err, ErrEmpty) {
		t.Errorf("nothing: %v", err)
	}
	broken := errors.New("the disk is on fire")
	if _, err := NewReader(io.MultiReader(bytes.NewReader(nil), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a failing reader: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A live capture: each packet comes out as soon as it is in, and Ready tells
// when the next one is not.
func TestLive(t *testing.T) {
	for _, name := range []string{"v4-wire.pcap", "v4-wire.pcapng"} {
		b := file(t, name)
		whole := packetsOf(t, name)
		// Where each packet's bytes end in the file.
		var ends []int
		at := 0
		for _, p := range whole {
			at = at + bytes.Index(b[at:], p.Bytes) + len(p.Bytes)
			ends = append(ends, at)
		}
		if name == "v4-wire.pcapng" {
			for i := range ends {
				if i+1 < len(ends) { // to the end of the block: the beginning of the next
					ends[i] = ends[i+1] - len(whole[i+1].Bytes) - 28
				} else {
					ends[i] = len(b)
				}
			}
		}
		r, w := io.Pipe()
		go w.Write(b[:ends[0]])
		live, err := NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		for i := range whole {
			p, err := live.Next()
			if err != nil || !bytes.Equal(p.Bytes, whole[i].Bytes) {
				t.Fatalf("%s, packet %d: %v", name, i+1, err)
			}
			if live.Ready() {
				t.Errorf("%s: ready for packet %d, which is not there", name, i+2)
			}
			if i+1 < len(whole) {
				go w.Write(b[ends[i]:ends[i+1]])
			}
		}
		w.Close()
		if _, err := live.Next(); err != io.EOF {
			t.Errorf("%s: %v at the end", name, err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, name := range []string{"snap70.pcap", "sll2.pcap", "v4-wire.pcapng", "hex/one.bin", "hex/tshark.txt"} {
		f.Add(file(f, name))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := NewReader(bytes.NewReader(b))
		if err != nil {
			return
		}
		for range 1000 {
			r.Ready()
			p, err := r.Next()
			if err != nil {
				break
			}
			if len(p.Bytes) > maxBlock && r.Kind() != "bytes" && r.Kind() != "hex" {
				t.Fatalf("a packet of %d bytes", len(p.Bytes))
			}
		}
	})
}
