package membership

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/vxlan"
)

// samples has a message of each kind.
func samples() []*message {
	facts := []fact{
		{place: place{vni: 4097}, version: 2},
		{place: place{4097, macOf(1)}, version: 300, ips: []netip.Addr{netip.MustParseAddr("10.0.1.100"), netip.MustParseAddr("fd00::1")}},
		{place: place{vxlan.MaxVNI, macOf(2)}, version: 1 << 40, gone: true},
	}
	return []*message{
		{kind: msgFacts, id: "a", facts: facts},
		{kind: msgState, states: []nodeState{{id: "a", version: 5, facts: facts}, {id: strings.Repeat("b", idBytes), version: 1, facts: []fact{}}}},
		{kind: msgWant, id: "a", wanted: []string{"b", "c"}},
		{kind: msgDigest, id: "a", versions: []version{{"a", 7}, {"b", 1 << 63}}},
		{kind: msgBye, id: "a"},
		{kind: msgNews, states: []nodeState{{id: "a", version: 5, facts: facts}}},
	}
}

func TestWire(t *testing.T) {
	for _, m := range samples() {
		b := m.append(nil)
		got, err := parse(b)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("kind %d: %+v, %v; want %+v", m.kind, got, err, m)
		}
		for n := range b {
			if _, err := parse(b[:n]); err == nil {
				t.Errorf("kind %d: the first %d bytes of %d are a message", m.kind, n, len(b))
			}
		}
		if _, err := parse(append(b, 0)); err == nil {
			t.Errorf("kind %d: a byte too many", m.kind)
		}
	}
	a := about{started: 12345, vtep: netip.MustParseAddrPort("[fd00::1]:4789"), name: "nodé"}
	b := a.append(nil)
	if got, err := parseAbout(b); err != nil || got != a {
		t.Errorf("about: %+v, %v", got, err)
	}
	bad := about{vtep: a.vtep, name: "x\x1b[2J"}
	if _, err := parseAbout(bad.append(nil)); err == nil {
		t.Error("a name that does things to a terminal")
	}
}

// FuzzParse: what is taken for a message is one, and says the same when it is encoded
// again.
func FuzzParse(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := parseAbout(b); err == nil && !bytes.Equal(a.append(nil), b) {
			t.Errorf("about %x became %x", b, a.append(nil))
		}
		m, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(m.append(nil))
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// TestLedger: in whatever order facts arrive, and with states of other nodes in between,
// the newest word of each place wins.
func TestLedger(t *testing.T) {
	for range 200 {
		var words []fact
		newest := make(map[place]fact)
		for v := uint64(1); v <= 40; v++ {
			f := fact{place: place{vni: vxlan.VNI(rand.N(6))}, version: v, gone: rand.N(2) == 0}
			words = append(words, f)
			newest[f.place] = f
		}
		var early, late ledger
		for _, f := range words[:20] {
			early.apply(f, MaxFacts)
		}
		order := rand.Perm(len(words))
		for n, i := range order {
			late.apply(words[i], MaxFacts)
			if n == 15 {
				late.replace(early.state("x"), MaxFacts)
			}
		}
		if late.missing() || late.version != 40 || len(late.ahead) != 0 {
			t.Fatalf("at version %d of 40, %d ahead", late.version, len(late.ahead))
		}
		for at, f := range newest {
			if got, ok := late.facts[at]; ok == f.gone || ok && got.version != f.version {
				t.Fatalf("%+v: %+v, %v", f, got, ok)
			}
		}
	}
}
