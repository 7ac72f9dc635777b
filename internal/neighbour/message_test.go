package neighbour

import (
	"encoding/binary"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/vxlan"
)

// The frames that the tests and the fuzzing begin with, and what they are.
func samples(t testing.TB) map[string]struct {
	frame []byte
	want  Message // without l3
} {
	ask4 := arp{op: 1, src: asker, spa: asker4, tpa: target4}
	ask6 := nd{src: asker, from: asker6, target: target6, options: sourceOption(asker)}
	tell6 := nd{advertise: true, src: target, dst: asker, from: target6, to: asker6, target: target6,
		flags: flagSolicited | flagOverride, options: targetOption(target)}
	request := Message{Kind: Request, Target: target4, Source: asker, Asker: asker, Claim: Claim{IP: asker4, MAC: asker}}
	solicitation := Message{Kind: Solicitation, Target: target6, Source: asker, Asker: asker, Claim: Claim{IP: asker6, MAC: asker}}
	advertisement := Message{Kind: Advertisement, Unicast: true, Source: target,
		Claim: Claim{IP: target6, MAC: target, TellsRouter: true}}
	with := func(m Message, change func(*Message)) Message {
		change(&m)
		return m
	}
	otherARP := Message{Kind: OtherARP, Source: asker}
	bad := Message{Kind: BadSolicitation, Source: asker}
	changed := func(change func(*layers.ARP)) []byte {
		a := ask4
		a.change = change
		return a.frame(t)
	}
	solicit := func(change func(*nd)) []byte {
		n := ask6
		change(&n)
		return n.frame(t)
	}
	advertise := func(change func(*nd)) []byte {
		n := tell6
		change(&n)
		return n.frame(t)
	}
	cut := func(f []byte, n int) []byte { return f[:len(f)-n] }
	return map[string]struct {
		frame []byte
		want  Message
	}{
		"ARP request":             {ask4.frame(t), request},
		"ARP request, 802.1Q":     {tagged(ask4.frame(t), tagQ), request},
		"ARP request, 802.1ad":    {tagged(ask4.frame(t), tagQinQ), request},
		"ARP request, four tags":  {tagged(ask4.frame(t), append(tagQinQ, tagQinQ...)), request},
		"ARP request, five tags":  {tagged(ask4.frame(t), append(append(tagQinQ, tagQinQ...), tagQ...)), Message{}},
		"ARP request, padded":     {append(ask4.frame(t), make([]byte, 18)...), request},
		"ARP request to one":      {arp{op: 1, dst: target, src: asker, spa: asker4, tpa: target4}.frame(t), with(request, func(m *Message) { m.Unicast = true })},
		"ARP request for another": {arp{op: 1, src: asker, sha: other, spa: asker4, tpa: target4}.frame(t), with(request, func(m *Message) { m.Asker, m.Claim = other, Claim{} })},
		"ARP probe":               {arp{op: 1, src: asker, spa: none4, tpa: target4}.frame(t), with(request, func(m *Message) { m.Probe, m.Claim = true, Claim{} })},
		"ARP announcement":        {arp{op: 1, src: asker, spa: target4, tpa: target4}.frame(t), with(request, func(m *Message) { m.Probe, m.Claim.IP = true, target4 })},
		"ARP reply":               {arp{op: 2, src: asker, dst: target, tha: target, spa: asker4, tpa: target4}.frame(t), Message{Kind: Reply, Unicast: true, Source: asker, Claim: request.Claim}},
		"gratuitous ARP reply":    {arp{op: 2, src: asker, spa: asker4, tpa: asker4}.frame(t), Message{Kind: Reply, Source: asker, Claim: request.Claim}},
		"ARP of a forger":         {arp{op: 2, src: asker, sha: other, spa: target4, tpa: target4}.frame(t), Message{Kind: Reply, Source: asker}},
		"ARP from a group":        {arp{op: 1, src: asker, sha: vxlan.Broadcast, spa: asker4, tpa: target4}.frame(t), otherARP},
		"ARP from zero":           {changed(func(l *layers.ARP) { l.SourceHwAddress = make([]byte, 6) }), otherARP},
		"ARP on IEEE 802":         {changed(func(l *layers.ARP) { l.AddrType = 6 }), otherARP},
		"ARP for IPX":             {changed(func(l *layers.ARP) { l.Protocol = 0x8137 }), otherARP},
		"RARP operation":          {changed(func(l *layers.ARP) { l.Operation = 3 }), otherARP},
		"ARP with long MACs": {changed(func(l *layers.ARP) {
			l.SourceHwAddress, l.DstHwAddress = make([]byte, 8), make([]byte, 8)
		}), otherARP},
		"ARP cut short":      {cut(ask4.frame(t), 1), otherARP},
		"ARP without a body": {ask4.frame(t)[:14], otherARP},
		"tag cut short":      {tagged(ask4.frame(t), tagQ)[:17], Message{}},
		"no Ethernet":        {ask4.frame(t)[:13], Message{}},

		"solicitation":                {ask6.frame(t), solicitation},
		"solicitation, 802.1Q":        {tagged(ask6.frame(t), tagQ), solicitation},
		"solicitation, padded":        {append(ask6.frame(t), 1, 2, 3), solicitation},
		"solicitation to one":         {solicit(func(n *nd) { n.dst, n.to = target, target6 }), with(solicitation, func(m *Message) { m.Unicast = true })},
		"solicitation without option": {solicit(func(n *nd) { n.options = nil }), with(solicitation, func(m *Message) { m.Claim = Claim{} })},
		"solicitation for another":    {solicit(func(n *nd) { n.options = sourceOption(other) }), with(solicitation, func(m *Message) { m.Asker, m.Claim = other, Claim{} })},
		"solicitation, more options": {solicit(func(n *nd) {
			n.options = append(option(14, asker), n.options...) // a nonce, RFC 3971
		}), solicitation},
		"duplicate address detection":   {solicit(func(n *nd) { n.from, n.options = none6, nil }), with(solicitation, func(m *Message) { m.Probe, m.Claim = true, Claim{} })},
		"the same with an option":       {solicit(func(n *nd) { n.from = none6 }), bad},
		"the same to one":               {solicit(func(n *nd) { n.from, n.to, n.options = none6, target6, nil }), bad},
		"hop limit 254":                 {solicit(func(n *nd) { n.hops = 254 }), bad},
		"code 1":                        {solicit(func(n *nd) { n.code = 1 }), bad},
		"for a group":                   {solicit(func(n *nd) { n.to, n.target = group(target6), group(target6) }), bad},
		"from a group":                  {solicit(func(n *nd) { n.from = group(asker6) }), bad},
		"checksum wrong":                {append(cut(ask6.frame(t), 1), 0xEE), bad},
		"checksum missing":              {func() []byte { f := ask6.frame(t); f[56], f[57] = 0, 0; return f }(), bad},
		"option of length 0":            {edited(t, ask6.frame(t), func(b []byte) { b[25] = 0 }), bad},
		"option past the end":           {edited(t, ask6.frame(t), func(b []byte) { b[25] = 2 }), bad},
		"option that names a group":     {solicit(func(n *nd) { n.options = sourceOption(vxlan.Broadcast) }), bad},
		"option of 16 bytes":            {solicit(func(n *nd) { n.options = layers.ICMPv6Options{{Type: 1, Data: make([]byte, 14)}} }), bad},
		"one byte behind the options":   {longer(t, ask6.frame(t), 1), bad},
		"shorter than its target":       {longer(t, cut(ask6.frame(t), 9), 0), bad},
		"payload length past the frame": {cut(ask6.frame(t), 1), Message{}},
		"behind hop-by-hop":             {func() []byte { f := ask6.frame(t); f[20] = 0; return f }(), Message{}},
		"payload length 0":              {func() []byte { f := ask6.frame(t); f[18], f[19] = 0, 0; return f }(), Message{}},
		"version 5":                     {func() []byte { f := ask6.frame(t); f[14] = 0x50; return f }(), Message{}},

		"advertisement":            {tell6.frame(t), advertisement},
		"of a router":              {advertise(func(n *nd) { n.flags |= flagRouter }), with(advertisement, func(m *Message) { m.Claim.Router = true })},
		"without override":         {advertise(func(n *nd) { n.flags = flagSolicited }), with(advertisement, func(m *Message) { m.Claim.Weak = true })},
		"without target option":    {advertise(func(n *nd) { n.options = nil }), with(advertisement, func(m *Message) { m.Claim = Claim{} })},
		"unsolicited":              {advertise(func(n *nd) { n.to, n.dst, n.flags = group(asker6), vxlan.MAC{}, flagOverride }), with(advertisement, func(m *Message) { m.Unicast = false })},
		"solicited, to a group":    {advertise(func(n *nd) { n.to = group(asker6) }), Message{}},
		"advertised, hop limit 64": {advertise(func(n *nd) { n.hops = 64 }), Message{}},
		"of a forger":              {advertise(func(n *nd) { n.options = targetOption(other) }), with(advertisement, func(m *Message) { m.Claim = Claim{} })},
		"echo request":             {edited(t, ask6.frame(t), func(b []byte) { b[0] = 128 }), Message{}},
		"router solicitation":      {edited(t, ask6.frame(t), func(b []byte) { b[0] = 133 }), Message{}},
	}
}

// longer appends bytes to an ICMPv6 packet and mends lengths and checksum.
func longer(t testing.TB, frame []byte, n int) []byte {
	f := append(append([]byte(nil), frame...), make([]byte, n)...)
	binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	return rechecked(f)
}

func TestParse(t *testing.T) {
	for name, c := range samples(t) {
		// Parse must set every field.
		m := Message{Kind: Reply, Unicast: true, Probe: true, Target: asker4, Source: other, Asker: other, Claim: Claim{IP: asker4}, l3: 99}
		m.Parse(c.frame)
		m.l3 = 0
		if c.want.Kind == Other || c.want.Kind == OtherARP || c.want.Kind == BadSolicitation {
			// Nothing else is told of those.
			if m.Kind != c.want.Kind || m.Claim != (Claim{}) {
				t.Errorf("%s: %+v, want %+v", name, m, c.want)
			}
			continue
		}
		if m != c.want {
			t.Errorf("%s:\n got %+v\nwant %+v", name, m, c.want)
		}
	}
}

// What Candidate turns away, Parse finds nothing in.
func TestCandidate(t *testing.T) {
	for name, c := range samples(t) {
		if !Candidate(c.frame) && c.want.Kind != Other {
			t.Errorf("%s is no candidate", name)
		}
	}
	for _, etherType := range []uint16{0x0800, 0x88B5, 0x8035} {
		f := arp{op: 1, src: asker, spa: asker4, tpa: target4}.frame(t)
		binary.BigEndian.PutUint16(f[12:], etherType)
		if Candidate(f) {
			t.Errorf("EtherType %#x is a candidate", etherType)
		}
	}
	f := nd{src: asker, from: asker6, target: target6}.frame(t)
	if f[20] = 6; Candidate(f) {
		t.Error("TCP over IPv6 is a candidate")
	}
	if Candidate(f[:20]) || Candidate(nil) {
		t.Error("a cut frame is a candidate")
	}
}

func TestAllocatesNothing(t *testing.T) {
	table := New(Config{Snoop: true})
	must(t, table.Add(target4, target, false))
	must(t, table.Add(target6, target, true))
	buf := make([]byte, 0, MaxAnswer)
	answers := 0
	for name, c := range samples(t) {
		var m Message
		now := DefaultAgeing
		n := testing.AllocsPerRun(50, func() {
			m.Parse(c.frame)
			if e, ok := table.Lookup(m.Target); ok && m.Kind.Asks() {
				m.AppendAnswer(buf, c.frame, e.MAC, e.Router)
				answers++
			}
			now += DefaultAgeing
			table.Note(m.Claim, true, now) // adds once, then refreshes
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if answers < 500 {
		t.Errorf("only %d answers: not what was to be measured", answers)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
