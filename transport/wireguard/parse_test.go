package wireguard

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Two keys, and a public one that belongs to neither.
const (
	keyA = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
	keyB = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
	keyC = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
)

func key(t testing.TB, s string) Key {
	t.Helper()
	k, err := ParseKey(s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	text := `# a comment
[interface]
  privatekey=` + keyA + `   # and one behind
ListenPort = 51820
FwMark = 0x51820
Address = 10.9.0.1/24, fd09::1/64
MTU = 1400
DNS = 10.9.0.53
PostUp = iptables -A FORWARD -i %i

[Peer]
AllowedIPs = 10.9.0.2, 10.8.0.0/16
AllowedIPs = fd09::2/128
PublicKey = ` + keyB + `
PresharedKey = ` + keyC + `
Endpoint = vtep.example.net:51821
PersistentKeepalive = 25

[PEER]
PublicKey = ` + keyC + `
AllowedIPs =
PersistentKeepalive = off
`
	want := &Config{
		PrivateKey: key(t, keyA), ListenPort: 51820, FirewallMark: 0x51820, MTU: 1400,
		Addresses: []netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("fd09::1")},
		Ignored:   []Ignored{{8, "DNS"}, {9, "PostUp"}},
		Peers: []Peer{
			{
				PublicKey: key(t, keyB), PresharedKey: key(t, keyC), Endpoint: "vtep.example.net:51821", Keepalive: 25 * time.Second,
				AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.9.0.2/32"), netip.MustParsePrefix("10.8.0.0/16"), netip.MustParsePrefix("fd09::2/128")},
			},
			{PublicKey: key(t, keyC)},
		},
	}
	got, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
	for at, want := range map[string]int{"10.9.0.2": 0, "10.8.7.6": 0, "fd09::2": 0, "10.9.0.3": -1} {
		p := got.PeerOf(netip.MustParseAddr(at))
		if (p == nil) != (want < 0) || p != nil && p != &got.Peers[want] {
			t.Errorf("%s is at %v, want peer %d", at, p, want)
		}
	}
}

// TestParseBad: every mistake is told with its line, and no secret is quoted.
func TestParseBad(t *testing.T) {
	head := "[Interface]\nPrivateKey = " + keyA + "\n"
	peer := head + "[Peer]\nPublicKey = " + keyB + "\n"
	for name, c := range map[string]struct {
		text string
		line int
		says string
	}{
		"empty":              {"", 1, "no [Interface]"},
		"no interface":       {"[Peer]\nPublicKey = " + keyB, 2, "no [Interface]"},
		"no key":             {"\n[Interface]\n", 2, "no PrivateKey"},
		"two interfaces":     {head + "[Interface]", 3, "line 1"},
		"other section":      {head + "[Pear]", 3, "[Pear]"},
		"before a section":   {"PrivateKey = " + keyA, 1, "before"},
		"no equals":          {head + "ListenPort 5", 3, "key = value"},
		"unknown":            {head + "Speed = 5", 3, "Speed"},
		"unknown of peer":    {peer + "ListenPort = 5", 5, "ListenPort"},
		"twice":              {head + "PrivateKey = " + keyB, 3, "twice"},
		"short key":          {"[Interface]\nPrivateKey = abcd", 2, "44 characters"},
		"zero key":           {"[Interface]\nPrivateKey = " + Key{}.String(), 2, "zeros"},
		"port":               {head + "ListenPort = 65536", 3, "65535"},
		"MTU":                {head + "MTU = 5", 3, "576"},
		"mark":               {head + "FwMark = red", 3, "FwMark"},
		"address":            {head + "Address = 10.9.0", 3, "10.9.0"},
		"two addresses":      {head + "Address = 10.9.0.1\nAddress = 10.9.0.2/24", 4, "10.9.0.1"},
		"any address":        {head + "Address = 0.0.0.0/0", 3, "0.0.0.0"},
		"no public key":      {head + "[Peer]\nAllowedIPs = 10.9.0.2\n", 4, "of line 3"},
		"no public key next": {head + "[Peer]\n[Peer]\n", 4, "of line 3"},
		"same public key":    {peer + "[Peer]\nPublicKey = " + keyB, 6, "before it"},
		"itself":             {head + "[Peer]\nPublicKey = " + key(t, keyA).Public().String(), 4, "itself"},
		"allowed":            {peer + "AllowedIPs = 10.9.0.2/33", 5, "10.9.0.2/33"},
		"allowed twice":      {peer + "AllowedIPs = 10.9.0.2\n[Peer]\nPublicKey = " + keyC + "\nAllowedIPs = 10.9.0.2/32", 8, "another"},
		"mapped":             {peer + "AllowedIPs = ::ffff:10.9.0.2/120", 5, "mapped"},
		"endpoint":           {peer + "Endpoint = 192.168.52.204", 5, "HOST:PORT"},
		"endpoint port":      {peer + "Endpoint = 192.168.52.204:http", 5, "HOST:PORT"},
		"keepalive":          {peer + "PersistentKeepalive = 1s", 5, "65535"},
	} {
		_, err := Parse(strings.NewReader(c.text))
		var at *LineError
		if !errors.As(err, &at) {
			t.Errorf("%s: %v, want a LineError", name, err)
			continue
		}
		if at.Line != c.line || name != "mapped" && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, want line %d and %q", name, err, c.line, c.says)
		}
		if strings.Contains(err.Error(), keyA) {
			t.Errorf("%s: %q quotes the private key", name, err)
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wg0.conf")
	for _, c := range []struct {
		mode os.FileMode
		want bool
	}{{0o600, false}, {0o640, true}, {0o604, true}} {
		if err := os.WriteFile(path, []byte("[Interface]\nPrivateKey = "+keyA), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.Readable != c.want || got.File != path {
			t.Errorf("mode %v: readable %v, file %s", c.mode, got.Readable, got.File)
		}
	}
	if err := os.WriteFile(path, []byte("[Interface]\nx"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), path+": line 2: ") {
		t.Errorf("%v, want it with its place", err)
	}
}

func TestResolve(t *testing.T) {
	c := Config{Peers: []Peer{{Endpoint: "[fd52::204]:51820"}, {Endpoint: "192.168.52.204:1"}, {}}}
	if err := c.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"[fd52::204]:51820", "192.168.52.204:1", "invalid AddrPort"} {
		if got := c.Peers[i].Addr.String(); got != want {
			t.Errorf("peer %d: %s, want %s", i, got, want)
		}
	}
}

// TestKeys: RFC 7748 section 6.1 has the pair; a private key is clamped.
func TestKeys(t *testing.T) {
	private := key(t, "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=")
	if got := private.Public().String(); got != "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=" {
		t.Errorf("public key %s", got)
	}
	a, b := NewPrivateKey(), NewPrivateKey()
	if a == b || a[0]&7 != 0 || a[31]&0xC0 != 0x40 {
		t.Errorf("private keys %x and %x", a[:1], a[31:])
	}
	if NewPresharedKey().IsZero() {
		t.Error("a preshared key of zeros")
	}
	for _, s := range []string{"", keyA[:43], keyA + "=", keyA + "\n", strings.Replace(keyA, "=", "!", 1), "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBml="} {
		if _, err := ParseKey(s); !errors.Is(err, ErrKey) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// FuzzParse: a configuration that is accepted is one that the library accepts
// too, and an error has a line that is there.
func FuzzParse(f *testing.F) {
	f.Add("[Interface]\nPrivateKey = " + keyA + "\nAddress = 10.9.0.1/24\nFwMark=off\n[Peer]\nPublicKey=" + keyB + "\nAllowedIPs = 10.9.0.2/32, fd09::/64\nEndpoint = [fe80::1%eth0]:1\n")
	f.Add("[Interface]\r\nMTU = 1400 # x\r\n[Peer]")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(strings.NewReader(text))
		if err != nil {
			var at *LineError
			if !errors.As(err, &at) || at.Line < 1 || at.Line > 1+strings.Count(text, "\n") {
				t.Fatalf("%v, of %d lines", err, 1+strings.Count(text, "\n"))
			}
			return
		}
		for i := range c.Peers {
			// Names need a resolver.
			if p := &c.Peers[i]; p.Endpoint != "" {
				if a, err := netip.ParseAddrPort(p.Endpoint); err == nil {
					p.Addr = a
				}
			}
		}
		c.ListenPort = 0
		checkSettings(t, c)
	})
}
