package explain_test

import (
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/explain"
)

// Every packet of the captures, cut at each place where people cut: the
// beginning is found, and read to the same end.
func TestDetectStart(t *testing.T) {
	n := 0
	for _, name := range captures {
		switch name {
		case "sll", "sll2":
			continue // a link type tells them, nothing else does
		case "fragments":
			continue // the outer header is needed to know that the inner packet goes on
		}
		for _, e := range read(t, name+".pcap") {
			for i := range e.Layers {
				l := &e.Layers[i]
				var want explain.Start
				switch l.Key {
				case "ethernet":
					want = explain.Ethernet
				case "ipv4", "ipv6":
					want = explain.IP
				case "vxlan":
					want = explain.VXLAN
				default:
					continue
				}
				if len(e.Bytes)-l.Offset < 42 {
					continue // cut short by -s: too little to tell anything
				}
				n++
				rest := e.Bytes[l.Offset:]
				if got := explain.DetectStart(rest); got != want {
					t.Errorf("%s, packet %d from %s at %d: taken for %v", name, e.Number, e.Title(l), l.Offset, got)
					continue
				}
				again := explain.Packet(rest, explain.Detect, explain.Options{Length: e.Length - l.Offset})
				if got, want := again.Lines[len(again.Lines)-1], e.Lines[len(e.Lines)-1]; !strings.HasSuffix(want, got) {
					t.Errorf("%s, packet %d from %s: %q, want %q", name, e.Number, e.Title(l), got, want)
				}
			}
		}
	}
	if n < 500 {
		t.Errorf("only %d places were tried", n)
	}
}

func TestDetectNothing(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":   {},
		"zeros":   make([]byte, 64),
		"text":    []byte("this is a sentence, and no packet of any kind at all, you know"),
		"one":     {0x45},
		"half":    unhex(t, "4500 0054 0000"),
		"bad len": unhex(t, "4500 0002 0000 4000 4001 0000 0a000164 0a000167"),
	} {
		if got := explain.DetectStart(b); got != explain.Detect {
			t.Errorf("%s: taken for %v", name, got)
		}
	}
}

func TestParseStart(t *testing.T) {
	for _, s := range []explain.Start{explain.Ethernet, explain.IP, explain.VXLAN} {
		if got, err := explain.ParseStart(s.String()); err != nil || got != s {
			t.Errorf("%v: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "detect", "udp", "Ethernet", "linux-sll"} {
		if _, err := explain.ParseStart(s); err == nil || !strings.Contains(err.Error(), `"`+s+`"`) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestLinkStart(t *testing.T) {
	for link, want := range map[uint32]explain.Start{
		0: explain.Loopback, 1: explain.Ethernet, 12: explain.IP, 101: explain.IP, 108: explain.Loopback,
		113: explain.LinuxSLL, 147: explain.Detect, 228: explain.IP, 229: explain.IP, 276: explain.LinuxSLL2,
	} {
		if got, ok := explain.LinkStart(link); !ok || got != want {
			t.Errorf("%d: %v, %v, want %v", link, got, ok, want)
		}
	}
	for _, link := range []uint32{20, 105, 127, 1 << 20} {
		if got, ok := explain.LinkStart(link); ok {
			t.Errorf("%d is taken for %v", link, got)
		}
	}
}

// VXLAN on a port that says nothing is recognised by its looks, ordinary
// datagrams are not.
func TestLooksLikeVXLAN(t *testing.T) {
	header := "0800000000100100"
	frame := "ffffffffffff 02420a000164 0806 0001080006040001 02420a000164 0a000164 000000000000 0a000167"
	for _, c := range []struct {
		name, bytes string
		want        bool
	}{
		{"plain", header + frame, true},
		{"group policy", "8808123400100100" + frame, true},
		{"group policy, applied and not to be learned", "8848123400100100" + frame, true},
		{"I clear", "0000000000100100" + frame, false},
		{"another flag", "0c00000000100100" + frame, false},
		{"reserved bytes", "0800010000100100" + frame, false},
		{"last byte", "0800000000100101" + frame, false},
		{"an unknown type inside", header + "ffffffffffff 02420a000164 1234" + "00000000", false},
		{"too short", header + "ffffffffffff02420a000164", false},
		{"a DNS query", "0800 0100 0001 0000 0000 0000 07 6578616d706c65 03 636f6d 00 0001 0001", false},
	} {
		if got := explain.LooksLikeVXLAN(unhex(t, c.bytes)); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
