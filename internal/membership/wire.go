package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// format is the first byte of all that is sent. Another one is left out.
const format = 1

// The second byte says what a message is. What follows are IDs (one byte of length,
// then that many), numbers (uvarint) and facts (appendFact).
const (
	// msgFacts: new facts of one node. ID, count, facts.
	msgFacts byte = iota + 1
	// msgState: all facts of nodes. Count, then of each: ID, version, count, facts.
	msgState
	// msgWant asks for states. ID of who asks, count, IDs.
	msgWant
	// msgDigest says who knows what. ID of who says so, count, then of each node: ID,
	// version.
	msgDigest
	// msgBye: a node is about to leave. ID.
	msgBye
	// msgNews is as msgState, of one node that is new, and gossiped.
	msgNews
)

// most is how long a message may be. A state that is longer is sent as several.
const most = 4 << 20

// idBytes is the length of an ID at most.
const idBytes = 32

// A place is what a fact is about: a station in a VNI, or with the zero MAC, the VNI.
type place struct {
	vni vxlan.VNI
	mac vxlan.MAC
}

// fact is a node's word about a place.
type fact struct {
	place
	version uint64
	gone    bool // there is no such station any more
	ips     []netip.Addr
}

// nodeState is all of them.
type nodeState struct {
	id      string
	version uint64 // all facts up to it are in facts, or have been replaced
	facts   []fact
}

type version struct {
	id      string
	version uint64
}

// message is any of those above, decoded.
type message struct {
	kind     byte
	id       string
	facts    []fact
	states   []nodeState
	wanted   []string
	versions []version
}

func appendID(b []byte, id string) []byte { return append(append(b, byte(len(id))), id...) }

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := a.AsSlice()
	return append(append(b, byte(len(raw))), raw...)
}

// appendFact: a byte, which is 1 for a place that is gone; version; 3 bytes of VNI, 6 of
// MAC; count of addresses, and each with a byte of length.
func appendFact(b []byte, f fact) []byte {
	var gone byte
	if f.gone {
		gone = 1
	}
	b = binary.AppendUvarint(append(b, gone), f.version)
	b = append(b, byte(f.vni>>16), byte(f.vni>>8), byte(f.vni))
	b = append(b, f.mac[:]...)
	b = binary.AppendUvarint(b, uint64(len(f.ips)))
	for _, ip := range f.ips {
		b = appendAddr(b, ip)
	}
	return b
}

func appendFacts(b []byte, facts []fact) []byte {
	b = binary.AppendUvarint(b, uint64(len(facts)))
	for _, f := range facts {
		b = appendFact(b, f)
	}
	return b
}

// append encodes the message.
func (m *message) append(b []byte) []byte {
	b = append(b, format, m.kind)
	switch m.kind {
	case msgFacts:
		b = appendFacts(appendID(b, m.id), m.facts)
	case msgState, msgNews:
		b = binary.AppendUvarint(b, uint64(len(m.states)))
		for _, s := range m.states {
			b = appendFacts(binary.AppendUvarint(appendID(b, s.id), s.version), s.facts)
		}
	case msgWant:
		b = binary.AppendUvarint(appendID(b, m.id), uint64(len(m.wanted)))
		for _, id := range m.wanted {
			b = appendID(b, id)
		}
	case msgDigest:
		b = binary.AppendUvarint(appendID(b, m.id), uint64(len(m.versions)))
		for _, v := range m.versions {
			b = binary.AppendUvarint(appendID(b, v.id), v.version)
		}
	case msgBye:
		b = appendID(b, m.id)
	}
	return b
}

var errMalformed = errors.New("malformed message")

// reader takes a message apart. After a mistake all it gives is zero.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errMalformed, what)
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.fail("it ends early")
		return make([]byte, min(n, 64))
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("a number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads how many of something follow, each of which has least bytes.
func (r *reader) count(least int, limit int) int {
	n := r.number()
	if n > uint64(limit) || n > uint64(len(r.b)/least) {
		r.fail("a count")
		return 0
	}
	return int(n)
}

func (r *reader) id() string {
	n := int(r.byte())
	if n == 0 || n > idBytes {
		r.fail("an identity")
		return ""
	}
	return string(r.take(n))
}

func (r *reader) addr() netip.Addr {
	n := int(r.byte())
	if n != 4 && n != 16 {
		r.fail("an address")
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(r.take(n))
	if a.Is4In6() {
		r.fail("an address")
	}
	return a
}

// factBytes is the length of the shortest fact.
const factBytes = 1 + 1 + 3 + 6 + 1

func (r *reader) fact() fact {
	var f fact
	switch r.byte() {
	case 0:
	case 1:
		f.gone = true
	default:
		r.fail("a flag")
	}
	f.version = r.number()
	v := r.take(3)
	f.vni = vxlan.VNI(v[0])<<16 | vxlan.VNI(v[1])<<8 | vxlan.VNI(v[2])
	copy(f.mac[:], r.take(6))
	if f.mac[0]&1 != 0 {
		r.fail("a MAC")
	}
	n := r.count(5, MaxIPs)
	for range n {
		f.ips = append(f.ips, r.addr())
	}
	return f
}

func (r *reader) facts() []fact {
	n := r.count(factBytes, MaxFacts)
	facts := make([]fact, 0, n)
	for range n {
		facts = append(facts, r.fact())
	}
	return facts
}

// parse decodes a message. It keeps nothing of b.
func parse(b []byte) (*message, error) {
	if len(b) > most {
		return nil, fmt.Errorf("%w: longer than %d bytes", errMalformed, most)
	}
	r := &reader{b: b}
	if r.byte() != format {
		r.fail("another format")
	}
	m := &message{kind: r.byte()}
	switch m.kind {
	case msgFacts:
		m.id, m.facts = r.id(), r.facts()
	case msgState, msgNews:
		for range r.count(4, MaxMembers) {
			m.states = append(m.states, nodeState{id: r.id(), version: r.number(), facts: r.facts()})
		}
	case msgWant:
		m.id = r.id()
		for range r.count(2, MaxMembers) {
			m.wanted = append(m.wanted, r.id())
		}
	case msgDigest:
		m.id = r.id()
		for range r.count(3, 2*MaxMembers) {
			m.versions = append(m.versions, version{id: r.id(), version: r.number()})
		}
	case msgBye:
		m.id = r.id()
	default:
		r.fail("an unknown kind")
	}
	if len(r.b) > 0 {
		r.fail("something follows")
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, nil
}

// about is what memberlist tells with a member: its metadata.
type about struct {
	started int64 // nanoseconds since 1970, by the node's clock
	vtep    netip.AddrPort
	name    string
}

func (a *about) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, format), uint64(a.started))
	b = binary.BigEndian.AppendUint16(appendAddr(b, a.vtep.Addr()), a.vtep.Port())
	return append(append(b, byte(len(a.name))), a.name...)
}

// parseAbout decodes it.
func parseAbout(b []byte) (a about, err error) {
	r := &reader{b: b}
	if r.byte() != format {
		r.fail("another format")
	}
	a.started = int64(binary.BigEndian.Uint64(r.take(8)))
	ip := r.addr()
	a.vtep = netip.AddrPortFrom(ip, binary.BigEndian.Uint16(r.take(2)))
	if a.vtep.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() {
		r.fail("a VTEP")
	}
	n := int(r.byte())
	if n > MaxName {
		r.fail("a name")
		n = 0
	}
	a.name = string(r.take(n))
	for _, c := range a.name {
		if c < ' ' || c == 0x7f || c == 0xfffd {
			r.fail("a name") // it is printed on terminals
		}
	}
	if len(r.b) > 0 {
		r.fail("something follows")
	}
	if r.err != nil {
		return about{}, r.err
	}
	return a, nil
}
