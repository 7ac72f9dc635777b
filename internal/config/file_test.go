package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load is New of a file's text.
func load(text string) (*Config, error) {
	f, err := Parse("govxlan.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	return New(Values{}, f)
}

// What is wrong with a file is told with its place, and the text in question.
func TestWrongFiles(t *testing.T) {
	const vni = "vnis:\n  - vni: 1\n"
	for _, c := range []struct{ text, want string }{
		{"prot: 4789\n", `1:1: there is no key "prot": did you mean "port"?`},
		{"vinis: []\n", `1:1: there is no key "vinis": did you mean "vnis"?`},
		{"zzzzzzzz: 1\n", `1:1: there is no key "zzzzzzzz"`},
		{vni + "    agein: 3s\n", `3:5: there is no key "agein": did you mean "ageing"?`},
		{vni + "    port: 4789\n", "3:5: port is for the endpoint as a whole: put it at the top of the file"},
		{"name: vx0\n", `1:1: name is for one VNI: put it below "vnis:", beside its "vni:"`},
		{"vni: 4097\n", `1:1: vni is for one VNI: put it below "vnis:", beside its "vni:"`},
		{"port: x\n", `1:7: port "x": this takes a number`},
		{"port: \"4789\"\n", `1:7: port "4789": this takes a number`},
		{"port: 0\n", "1:7: port 0: give the UDP port to listen on, such as 4789"},
		{"port: 65536\n", "1:7: port 65536: give the UDP port to listen on, such as 4789"},
		{"port:\n", "1:7: port has no value: give a number, or leave it out"},
		{"port: [1]\n", `1:7: port "[": this takes a number`},
		{"learning: yes\n", `1:11: learning "yes": this takes true or false`},
		{"ageing: 300\n", `1:9: ageing "300": this takes a duration such as 300s or 50us`},
		{vni + "    ageing: -1s\n", "3:13: ageing -1s: give a duration such as 300s, or 0 to keep entries"},
		{"ttl: 300\n" + vni, `1:6: ttl "300": give 1 to 255, auto or inherit`},
		{"bridge: {a: b}\n", `1:9: bridge "{": this takes one line of text`},
		{"bridge: |\n  br0\n", `1:9: bridge "|": this takes one line of text`},
		{"port: 1\nport: 2\n", `2:1: mapping key "port" already defined at [1:1]`},
		{"peer: a\npeers: b\n", "2:1: peers is there twice"},
		{"- vni: 1\n", `1:1: "-": the file has lines such as "key: value"`},
		{"vnis: 4097\n", `1:7: vnis is a list: begin each VNI with "- vni: N"`},
		{"vnis:\n  - 4097\n", `2:5: "4097": a VNI has lines such as "key: value"`},
		{"vnis:\n  - addr: 10.0.1.1/24\n", `2:5: this VNI has no number: add "vni: N"`},
		{"vnis:\n  - vni: 16777216\n", "2:10: vni 16777216: a VNI has 24 bits, so 0 to 16777215"},
		{vni + "  - vni: 2\n  - vni: 1\n", "4:10: vni 1 is there twice"},
		{vni + "  - vlan-map: {5: 1}\n", "3:16: vlan-map 5=1: VNI 1 is there twice"},
		{vni + "  - {vni: 2, name: vx1}\n", `3:20: name "vx1" is the device of VNI 1 already`},
		{vni + "    addr: [10.0.1.1/24, 10.0.1]\n", `3:25: addr "10.0.1": give an address with its prefix length, such as 10.0.1.100/24`},
		{vni + "    peers:\n      - 192.168.52.204\n      - 192.168.52.256\n", `5:9: peer`},
		{vni + "    group: 239.1.1.1\n", "3:12: group 239.1.1.1 needs --dev IF"},
		{vni + "    dev: ens160\n", "3:10: dev ens160 differs from that of the endpoint"},
		{vni + "    fdb: [{mac: 02:42:0a:00:01:67}]\n", `3:11: fdb: "vtep" is missing`},
		{vni + "    fdb:\n      - mac: 02:42:0a:00:01:67\n        vtpe: a\n", `5:9: fdb has no field "vtpe": did you mean "vtep"?`},
		{vni + "    fdb: [{mac: 02:42, vtep: 192.168.52.204}]\n", `3:11: fdb "02:42=192.168.52.204": "02:42" is no MAC address`},
		{vni + "    fdb: [{mac: 02:42:0a:00:01:67, vtep: host}]\n", `"host" is no address of a VTEP`},
		{vni + "    fdb: [{mac: 02:42:0a:00:01:67, vtep: 1.2.3.4, kind: learned}]\n", `there is no kind "learned"`},
		{vni + "    fdb: [{mac: \"a=b\", vtep: 1.2.3.4}]\n", `3:17: mac "a=b": there is no equals sign in it`},
		{vni + "    fdb: [{}]\n", `3:11: fdb: "mac" is missing`},
		{vni + "    peers: [{a: b}]\n", "3:13: peers is a list of texts, and this is a mapping: put it in quotes"},
		{vni + "    neigh: [{ip: 10.0.1.1, mac: 02:42:0a:00:01:67}]\n", "3:13: neigh and --arp flood"},
		{vni + "    proxy: true\n    arp: suppress\n", "3:12: proxy and --arp suppress"},
		{"local: &a 1\n", "anchors, tags, merges, complex keys and directives have no meaning here"},
		{"local: *a\n", "anchors, tags, merges"},
		{"local: !!str a\n", "anchors, tags, merges"},
		{"a: {b: 1\n", "1:4: could not find flow mapping end token '}'"},
		{"a:\n\tb: 1\n", "2:1: found"},
		{"port: 1\n---\nport: 2\n", "3:5: a second document begins here"},
		{"\xff\xfe", "1:1: the file is no text (UTF-8)"},
		{strings.Repeat("[", 100000), "this is nested deeper than any configuration"},
		{strings.Repeat("- ", 100000), "this is nested deeper than any configuration"},
		{strings.Repeat("a: ", 100000), "this is nested deeper than any configuration"},
		{strings.Repeat("-\n", 100000), "1:1: this element of a list is empty"},
		{strings.Repeat("#\n", MaxFile), "1:1: the file is longer than 8 MB"},
		{"ttl: auto\n" + vni + "  - {vni: 2, flow-label: auto}\n", "flow-label auto: auto is chosen for the endpoint as a whole"},
	} {
		_, err := load(c.text)
		short := c.text[:min(len(c.text), 200)]
		if err == nil {
			t.Errorf("%q is accepted", short)
			continue
		}
		var e *Error
		if !errors.As(err, &e) || IsUsage(err) {
			t.Errorf("%q: %v: not an error of a file", short, err)
		}
		if text := err.Error(); !strings.HasPrefix(text, "govxlan.yaml:") || !strings.Contains(text, c.want) || strings.Contains(text, "\n") {
			t.Errorf("%q:\n got %s\nwant %s", short, text, c.want)
		}
	}
}

// What stands at the top is for every VNI that does not say otherwise, and what
// was typed wins over both.
func TestLayers(t *testing.T) {
	const text = `
ageing: 60s
peers: [192.168.52.204]
arp: suppress
vnis:
  - vni: 1
  - vni: 2
    ageing: 0
    peers: []
    proxy: true
`
	f, err := Parse("govxlan.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	show := func(typed Values) string {
		c, err := New(typed, f)
		if err != nil {
			return err.Error()
		}
		var b strings.Builder
		for _, s := range c.Specs {
			fmt.Fprintf(&b, "%v %v %v %v %d; ", s.VNI, s.Ageing, s.List("peer"), s.ARP.Mode, s.Device.MTU)
		}
		return b.String()
	}
	typed := func(words ...string) Values {
		v := Values{}
		for i := 0; i < len(words); i += 2 {
			v[words[i]] = Value{Texts: []string{words[i+1]}}
		}
		return v
	}
	for _, c := range []struct {
		typed Values
		want  string
	}{
		{nil, "1 1m0s [192.168.52.204] suppress 0; 2 -1ns [] proxy 0; "},
		{typed("mtu", "1400"), "1 1m0s [192.168.52.204] suppress 1400; 2 -1ns [] proxy 1400; "},
		{typed("vni", "2", "mtu", "1400", "ageing", "5s"), "1 1m0s [192.168.52.204] suppress 0; 2 5s [] proxy 1400; "},
		{typed("vni", "3", "mtu", "1400"), "1 1m0s [192.168.52.204] suppress 0; 2 -1ns [] proxy 0; 3 1m0s [192.168.52.204] suppress 1400; "},
		{typed("addr", "10.0.1.1/24"), "--addr is for one VNI, and govxlan.yaml has 2: say with --vni which"},
	} {
		if got := show(c.typed); got != c.want {
			t.Errorf("%v:\n got %s\nwant %s", c.typed, got, c.want)
		}
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadFile(filepath.Join(dir, "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := ReadFile(dir); err == nil {
		t.Error("a directory is read")
	}
	long := filepath.Join(dir, "long.yaml")
	if err := os.WriteFile(long, []byte(strings.Repeat("#\n", 5<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(long); err == nil || !strings.Contains(err.Error(), "longer than 8 MB") {
		t.Errorf("10 MB: %v", err)
	}
	empty := filepath.Join(dir, "empty.yaml")
	if err := os.WriteFile(empty, []byte("# nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := (&Source{Path: empty}).Load()
	if err != nil || len(c.Specs) != 0 || c.Endpoint.Port != 4789 {
		t.Errorf("an empty file: %+v, %v", c, err)
	}
}

// The defaults of all options are values that they take, and names are given once.
func TestOptions(t *testing.T) {
	keys := make(map[string]bool)
	for i := range Options {
		o := &Options[i]
		if o.Default != "" && o.Kind.check(o.Default) != nil {
			t.Errorf("%s: its default %q is not %s", o.Name, o.Default, o.Kind)
		}
		for key := range map[string]bool{o.Name: true, o.key(): true} {
			if keys[key] {
				t.Errorf("%s is there twice", key)
			}
			keys[key] = true
		}
		if o.Usage == "" || o.Needed > len(o.Fields) || o.Kind == Bool && o.Default == "" {
			t.Errorf("%s is incomplete: %+v", o.Name, o)
		}
	}
	c, err := New(Values{"vni": {Texts: []string{"1"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Specs) != 1 || c.Specs[0].Device.Name != "vx1" || c.Sockets.TTL != 64 {
		t.Errorf("%+v", c)
	}
}

// A thousand VNIs are read in no time, and shown as they are.
func TestManyVNIs(t *testing.T) {
	var b strings.Builder
	b.WriteString("local: 192.168.52.203\npeers: [192.168.52.204]\nvnis:\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  - {vni: %d, addr: 10.%d.%d.1/24}\n", i, i>>8, i&255)
	}
	c, err := load(b.String())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Specs) != 5000 || c.Specs[4999].Device.Name != "vx4999" {
		t.Errorf("%d VNIs", len(c.Specs))
	}
}

func FuzzConfig(f *testing.F) {
	for _, seed := range []string{
		"vnis: []\n",
		"port: 4790\nlocal: \"fd00::1,10.0.0.1\"\nvnis:\n  - {vni: 1, peers: a:1, netns: \"~\", bridge: 0x1}\n",
		"arp: proxy\nttl: inherit\nvnis:\n  - vni: 1\n    neigh: [{ip: fd10::1, mac: 02:42:0a:00:01:67, router: true}]\n    fdb:\n      - {mac: 02:42:0a:00:01:67, vtep: 1.2.3.4, vni: 5}\n",
		"vnis:\n  - vlan-map:\n      5: 6\n      7: 8\n    gbp: 5,applied\n    gbp-accept: [1, 2]\n    addr: []\n",
		"dev: e\nvnis:\n  - {vni: 2, group: [239.1.1.1, \"[ff05::1]:99\"], mac: 02-42-0A-00-01-64}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := load(string(b))
		if err != nil {
			if text := err.Error(); strings.Contains(text, "\n") || !strings.HasPrefix(text, "govxlan.yaml:") {
				t.Errorf("%q: its error is %q", b, text)
			}
			return
		}
		first := (&Shown{Config: c}).String()
		again, err := load(first)
		if err != nil {
			t.Fatalf("%q is shown as\n%s\nof which is said: %v", b, first, err)
		}
		if diff := cmp.Diff(first, (&Shown{Config: again}).String()); diff != "" {
			t.Errorf("%q, read, shown and read again: %s", b, diff)
		}
		for i, s := range c.Specs {
			if diff := cmp.Diff(s.meaning(), again.Specs[i].meaning()); diff != "" {
				t.Errorf("%q, read, shown and read again: %s", b, diff)
			}
		}
	})
}

// meaning is all of a spec but how it was written.
func (s *Spec) meaning() string {
	bare := *s
	bare.View, bare.Header.Policy = nil, nil
	return fmt.Sprintf("%+v %+v", bare, s.Header.Policy)
}
