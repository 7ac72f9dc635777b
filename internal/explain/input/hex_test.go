package input

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testdata = "../testdata"

// packetsOf reads a file of testdata.
func packetsOf(t testing.TB, name string) []Packet {
	t.Helper()
	f, err := os.Open(filepath.Join(testdata, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	packets, err := all(r)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return packets
}

func all(r *Reader) (packets []Packet, err error) {
	for {
		p, err := r.Next()
		if err == io.EOF {
			return packets, nil
		}
		if err != nil {
			return packets, err
		}
		packets = append(packets, p)
	}
}

// Dumps of real programs give the bytes of the capture that they were made of.
func TestDumpsOfPrograms(t *testing.T) {
	wire := packetsOf(t, "v4-wire.pcap")
	one, err := os.ReadFile(filepath.Join(testdata, "hex", "one.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, wire[7].Bytes) {
		t.Fatal("one.bin is not packet 8 of v4-wire")
	}
	many := []string{"tcpdump-x.txt", "tcpdump-xx.txt", "tcpdump-X.txt", "tcpdump-XX.txt", "tshark.txt"}
	for _, name := range many {
		packets := packetsOf(t, "hex/"+name)
		if len(packets) != 8 {
			t.Errorf("%s: %d packets, want 8", name, len(packets))
			continue
		}
		for i, p := range packets {
			want := wire[i].Bytes
			if name == "tcpdump-x.txt" || name == "tcpdump-X.txt" {
				want = want[14:] // they leave the link header out
			}
			if !bytes.Equal(p.Bytes, want) || p.Length != len(want) {
				t.Errorf("%s, packet %d:\n% x\nwant\n% x", name, i+1, p.Bytes, want)
			}
		}
	}
	for _, name := range []string{"xxd.txt", "xxd-p.txt", "xxd-i.txt", "xxd-d.txt", "hexdump.txt", "hexdump-C.txt", "od-Ax-tx1.txt", "od-tx1.txt", "od-x.txt"} {
		packets := packetsOf(t, "hex/"+name)
		if len(packets) != 1 || !bytes.Equal(packets[0].Bytes, one) {
			t.Errorf("%s: %d packets, the first\n% x\nwant\n% x", name, len(packets), packets[0].Bytes, one)
		}
	}
	if p := packetsOf(t, "hex/one.bin"); len(p) != 1 || !bytes.Equal(p[0].Bytes, one) {
		t.Error("one.bin as it is")
	}
}

func TestPlainHex(t *testing.T) {
	want := "0800000000100100ffffffffffff02420a0001640806"
	for name, text := range map[string]string{
		"plain":         want,
		"upper case":    strings.ToUpper(want),
		"blanks":        "08 00 00 00 00 10 01 00 ff ff ff ff ff ff 02 42 0a 00 01 64 08 06",
		"words":         "0800 0000 0010 0100 ffff ffff ffff 0242 0a00 0164 0806",
		"colons":        "08:00:00:00:00:10:01:00:ff:ff:ff:ff:ff:ff:02:42:0a:00:01:64:08:06",
		"dashes":        "08-00-00-00-00-10-01-00-ff-ff-ff-ff-ff-ff-02-42-0a-00-01-64-08-06",
		"0x":            "0x0800000000100100ffffffffffff02420a0001640806",
		"0x each":       "0x08, 0x00, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0xff,0xff,0xff,0xff,0xff,0xff,0x02,0x42,0x0a,0x00,0x01,0x64,0x08,0x06",
		"escapes":       `"\x08\x00\x00\x00\x00\x10\x01\x00" "\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x00\x01\x64\x08\x06"`,
		"C":             "unsigned char pkt[] = {\n  0x08, 0x00, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00,\n 0xff,0xff,0xff,0xff,0xff,0xff,0x02,0x42,0x0a,0x00,0x01,0x64,0x08,0x06\n};\nunsigned int pkt_len = 22;\n",
		"Go":            "b := []byte{0x08, 0x00, 0x00, 0x00, 0x00, 0x10, 0x01, 0x00, 0xff,0xff,0xff,0xff,0xff,0xff,0x02,0x42,0x0a,0x00,0x01,0x64,0x08,0x06}",
		"lines":         "0800000000100100\nffffffffffff\r\n02420a0001640806\n",
		"comment":       "# a broadcast\n0800000000100100\nffffffffffff\n// its source\n02420a0001640806\n",
		"a mark at the": "\ufeff0800000000100100ffffffffffff02420a0001640806",
	} {
		packets, err := ParseHex(text)
		if err != nil || len(packets) != 1 || hex.EncodeToString(packets[0].Bytes) != want {
			t.Errorf("%s: %x, %v", name, packets, err)
		}
	}
	// Ethernet from and to zero, as on a loopback device: no offsets in it.
	zeros := "0000 0000 0000 0000 0000 0000 0800 4500\n0054 0000 4000 4001 0000 7f00 0001 7f00\n0001"
	if p, err := ParseHex(zeros); err != nil || len(p) != 1 || len(p[0].Bytes) != 34 {
		t.Errorf("zeros: %x, %v", p, err)
	}
	if p, err := ParseHex("0102\n0304\n\n05\n\n\n0607"); err != nil || len(p) != 3 || len(p[0].Bytes) != 4 || len(p[2].Bytes) != 2 {
		t.Errorf("three packets: %v, %v", p, err)
	}
}

func TestHexErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                       "there is not one hex digit in it",
		"\n\n  \n":               "there is not one hex digit in it",
		"080":                    "3 hex digits make no whole bytes",
		"0800 00zz":              `line 1 is no hex: "00zz"`,
		"0800\nhello":            `line 2 is no hex: "hello"`,
		"0x0000:  4500\n0x0010:": "line 1: its offsets do not fit the bytes between them",
		"00000000: 4500 0054  E..T\n00000008: 0000  ..": "line 1: its offsets do not fit the bytes between them",
	} {
		if p, err := ParseHex(text); err == nil || err.Error() != want {
			t.Errorf("%q: %x, %v, want %s", text, p, err, want)
		}
	}
}

// hexdump and od write "*" for lines like the one before.
func TestRepeatedLines(t *testing.T) {
	text := "00000000  08 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n" +
		"00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n*\n" +
		"00000050  01 02                                             |..|\n00000052\n"
	p, err := ParseHex(text)
	if err != nil || len(p) != 1 {
		t.Fatalf("%d packets, %v", len(p), err)
	}
	want := append(append([]byte{8}, make([]byte, 79)...), 1, 2)
	if !bytes.Equal(p[0].Bytes, want) {
		t.Errorf("% x", p[0].Bytes)
	}
}

func TestLooksLikeHex(t *testing.T) {
	for s, want := range map[string]bool{
		"0800": true, "08 00": true, "08:00:00": true, "0x0800": true, "deadbeef": true, "080": false,
		"080000001": true, "": false, "a": false, "capture.pcap": false, "-": false, "face.pcap": false, "zz": false, "08 zz": false,
	} {
		if got := LooksLikeHex(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

// Dumps as the programs write them, for any bytes.
var dumpers = map[string]func([]byte) string{
	"plain":      hex.EncodeToString,
	"colons":     func(b []byte) string { return strings.ReplaceAll(fmt.Sprintf("% x", b), " ", ":") },
	"tcpdump -X": func(b []byte) string { return rows(b, "\t0x%04x:  ", 2, false, 2, "%s", "") },
	"tcpdump -x": func(b []byte) string { return rows(b, "\t0x%04x:  ", 2, false, 0, "", "") },
	"xxd":        func(b []byte) string { return rows(b, "%08x: ", 2, false, 2, "%s", "") },
	"hexdump -C": func(b []byte) string { return rows(b, "%08x  ", 1, true, 2, "|%s|", "%08x") },
	"tshark":     func(b []byte) string { return rows(b, "%04x  ", 1, false, 3, "%s", "") },
	"od":         func(b []byte) string { return rows(b, "%06x ", 1, false, 0, "", "%06x") },
}

// rows writes 16 bytes a row in groups of so many; a gap in the middle where the
// program leaves one, the column of characters behind another.
func rows(b []byte, offset string, group int, middle bool, gap int, chars, end string) string {
	var out strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(len(b), at+16)]
		var h, c strings.Builder
		for i := 0; i < 16; i++ {
			if i > 0 && i%group == 0 {
				h.WriteByte(' ')
			}
			if middle && i == 8 {
				h.WriteByte(' ')
			}
			if i >= len(row) {
				h.WriteString("  ")
				continue
			}
			fmt.Fprintf(&h, "%02x", row[i])
			if row[i] >= ' ' && row[i] <= '~' {
				c.WriteByte(row[i])
			} else {
				c.WriteByte('.')
			}
		}
		fmt.Fprintf(&out, offset, at)
		if gap == 0 {
			out.WriteString(strings.TrimRight(h.String(), " "))
		} else {
			out.WriteString(h.String() + strings.Repeat(" ", gap))
			fmt.Fprintf(&out, chars, c.String())
		}
		out.WriteByte('\n')
	}
	if end != "" {
		fmt.Fprintf(&out, end+"\n", len(b))
	}
	return out.String()
}

// The characters beside a dump may be hex digits themselves.
func FuzzDumpRoundTrip(f *testing.F) {
	for _, p := range packetsOf(f, "v4-wire.pcap")[:8] {
		f.Add(p.Bytes)
	}
	f.Add([]byte("00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff"))
	f.Add([]byte("abcdef0123456789abcdef0123456789 dead beef 00"))
	f.Add([]byte("0123456701234567 01234567 0123456701234567|41 42 43|"))
	f.Add([]byte{0})
	f.Add(bytes.Repeat([]byte("aa"), 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) > 4096 {
			return
		}
		for name, dump := range dumpers {
			text := dump(b)
			packets, err := ParseHex(text)
			if err != nil || len(packets) != 1 || !bytes.Equal(packets[0].Bytes, b) {
				t.Fatalf("%s: %v\n%s\ngave %x", name, err, text, packets)
			}
		}
	})
}

// Any text: packets or an error, never a panic.
func FuzzParseHex(f *testing.F) {
	names, err := filepath.Glob(filepath.Join(testdata, "hex", "*.txt"))
	if err != nil || len(names) == 0 {
		f.Fatal(names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Add("0000000 0001 0002\n*\n0000100\n")
	f.Fuzz(func(t *testing.T, text string) {
		packets, err := ParseHex(text)
		if (err == nil) == (len(packets) == 0) {
			t.Fatalf("%d packets, %v", len(packets), err)
		}
		for _, p := range packets {
			if len(p.Bytes) == 0 || p.Length != len(p.Bytes) {
				t.Fatalf("%+v", p)
			}
		}
	})
}
