package firewall

import (
	"net/netip"
	"slices"
	"testing"
)

func TestWords(t *testing.T) {
	for line, want := range map[string][]string{
		"":                                    nil,
		"-A INPUT -j DROP":                    {"-A", "INPUT", "-j", "DROP"},
		`-m comment --comment "two words" -j`: {"-m", "comment", "--comment", "two words", "-j"},
		`--comment "a \"quoted\" one"`:        {"--comment", `a "quoted" one`},
		`--comment ""  -j`:                    {"--comment", "", "-j"},
	} {
		if got := words(line); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// FuzzLegacy: whatever iptables-save prints, an answer comes of it.
func FuzzLegacy(f *testing.F) {
	f.Add("*filter\n:INPUT DROP [0:0]\n:sub - [0:0]\n-A INPUT -i ens+ ! -s 10.0.0.0/8 -p udp -m udp --dport 4000:5000 -m comment --comment \"a b\" -j sub\n-A sub -g sub\nCOMMIT\n")
	f.Add("*nat\n:PREROUTING ACCEPT\n-A PREROUTING -j DNAT --to 1.2.3.4\n")
	f.Add("*filter\n:INPUT ACCEPT\n:a -\n-A INPUT -j a\n-A a -j a\n")
	f.Add("*filter\n:INPUT ACCEPT\n-A INPUT !\n-A INPUT -p\n-A")
	p := Packet{Incoming: true, Src: netip.MustParseAddr("192.168.52.204"), Dst: netip.MustParseAddr("192.168.52.203"), DstPort: 4789, Device: "ens160"}
	f.Fuzz(func(t *testing.T, text string) {
		for _, d := range checkLegacy(parseLegacy(text), &p) {
			if d.Where == "" || d.Command == "" {
				t.Errorf("%q: a drop without a name or a command: %+v", text, d)
			}
		}
	})
}
