package firewall

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// ruleset is what nftables holds.
type ruleset struct {
	chains []*nftables.Chain
	rules  map[string][]*nftables.Rule
	sets   map[string]*set
}

type set struct {
	*nftables.Set
	elements []nftables.SetElement
}

func chainKey(t *nftables.Table, name string) string {
	return fmt.Sprintf("%d %s %s", t.Family, t.Name, name)
}

// readNFT reads the rules of this thread's network namespace. A kernel without
// nftables has none.
func readNFT() (*ruleset, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	r := &ruleset{rules: make(map[string][]*nftables.Rule), sets: make(map[string]*set)}
	if r.chains, err = c.ListChains(); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			return r, nil
		}
		return nil, err
	}
	tables := make(map[string]bool)
	for _, ch := range r.chains {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("rules of chain %s: %w", ch.Name, err)
		}
		r.rules[chainKey(ch.Table, ch.Name)] = rules
		if key := chainKey(ch.Table, ""); !tables[key] {
			tables[key] = true
			sets, err := c.GetSets(ch.Table)
			if err != nil {
				return nil, fmt.Errorf("sets of table %s: %w", ch.Table.Name, err)
			}
			for _, s := range sets {
				s.Table = ch.Table
				elements, err := c.GetSetElements(s)
				if err != nil {
					continue // what is looked up there is not known
				}
				r.sets[chainKey(ch.Table, s.Name)] = &set{s, elements}
			}
		}
	}
	return r, nil
}

var familyNames = map[nftables.TableFamily]string{
	nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6", nftables.TableFamilyINet: "inet",
	nftables.TableFamilyNetdev: "netdev", nftables.TableFamilyBridge: "bridge", nftables.TableFamilyARP: "arp",
}

// check walks through the chains that a packet passes.
func (r *ruleset) check(p *Packet) []Drop {
	hooks := []nftables.ChainHook{unix.NF_INET_LOCAL_OUT, unix.NF_INET_POST_ROUTING}
	if p.Incoming {
		hooks = []nftables.ChainHook{unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_IN}
	}
	family := nftables.TableFamilyIPv4
	if p.Src.Is6() {
		family = nftables.TableFamilyIPv6
	}
	var drops []Drop
	e := evaluation{ruleset: r, packet: p, ctState: expr.CtStateBitNEW}
	for _, hook := range hooks {
		var base []*nftables.Chain
		for _, c := range r.chains {
			if c.Hooknum != nil && *c.Hooknum == hook && (c.Table.Family == family || c.Table.Family == nftables.TableFamilyINet) {
				base = append(base, c)
			}
		}
		slices.SortStableFunc(base, func(a, b *nftables.Chain) int { return cmp.Compare(*a.Priority, *b.Priority) })
		for _, c := range base {
			s := e.walk(c.Table, c.Name, 0)
			if s.result&returned != 0 && c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop {
				s.result |= dropped
				if s.drop == "" {
					s.drop = fmt.Sprintf("the policy of %s", chainName(c.Table, c.Name))
				}
				s.result &^= returned
			}
			if s.result&dropped != 0 {
				drops = append(drops, Drop{Maybe: s.result != dropped, Where: s.drop, Command: p.nftCommand(c)})
			}
		}
	}
	return drops
}

func chainName(t *nftables.Table, chain string) string {
	return fmt.Sprintf("nftables chain %s %s %s", familyNames[t.Family], t.Name, chain)
}

// nftCommand lets the packet through a base chain.
func (p *Packet) nftCommand(c *nftables.Chain) string {
	if c.Name == "INPUT" || c.Name == "OUTPUT" { // iptables'
		return p.iptablesCommand("iptables", c.Table.Name, c.Name)
	}
	ip, which, who := "ip", "daddr", p.Dst
	if p.Incoming {
		which, who = "saddr", p.Src
	}
	if who.Is6() {
		ip = "ip6"
	}
	return fmt.Sprintf("nft insert rule %s %s %s %s %s %v udp dport %d accept", familyNames[c.Table.Family], c.Table.Name, c.Name, ip, which, who.WithZone(""), p.DstPort)
}

// evaluation is of one packet.
type evaluation struct {
	*ruleset
	packet  *Packet
	ctState uint32
}

// walk goes through one chain.
func (e *evaluation) walk(t *nftables.Table, chain string, depth int) (s step) {
	if depth > mostJumps {
		s.result = accepted | dropped | returned
		return s
	}
	for _, rule := range e.rules[chainKey(t, chain)] {
		if !e.rule(&s, t, chain, rule, depth) {
			return s
		}
	}
	s.result |= returned
	return s
}

// rule takes in one rule, and reports whether the next is looked at.
func (e *evaluation) rule(s *step, t *nftables.Table, chain string, rule *nftables.Rule, depth int) bool {
	var r registers
	holds := yes
	where := fmt.Sprintf("rule %d of %s", rule.Handle, chainName(t, chain))
	for _, x := range rule.Exprs {
		var v *expr.Verdict
		switch x := x.(type) {
		case *expr.Meta:
			if !x.SourceRegister {
				r.load(x.Register, e.meta(x.Key))
			}
		case *expr.Payload:
			if x.OperationType == expr.PayloadLoad {
				r.load(x.DestRegister, e.payload(x))
			}
		case *expr.Ct:
			if !x.SourceRegister {
				r.load(x.Register, e.ct(x.Key))
			}
		case *expr.Bitwise:
			r.bitwise(x)
		case *expr.Immediate:
			if x.Register == unix.NFT_REG_VERDICT {
				break
			}
			r.load(x.Register, value{x.Data, all(len(x.Data))})
		case *expr.Cmp:
			holds = holds.and(r.compare(x))
		case *expr.Range:
			holds = holds.and(r.within(x))
		case *expr.Lookup:
			found, element := e.lookup(t, &r, x)
			holds = holds.and(found)
			if x.IsDestRegSet && x.DestRegister == unix.NFT_REG_VERDICT {
				if holds == maybe && element == nil {
					// Which verdict it would be is not known either.
					s.perhaps(where)
				}
				if element != nil {
					if v = verdictOf(element.Val); v == nil {
						s.perhaps(where)
					}
				}
			} else if x.IsDestRegSet {
				r.forget(x.DestRegister)
			}
		case *expr.Limit, *expr.Quota, *expr.Connlimit, *expr.Numgen, *expr.Hash, *expr.Fib, *expr.Exthdr:
			// Registers that nothing was loaded into are not known; what counts
			// may pass or not.
			switch x := x.(type) {
			case *expr.Limit, *expr.Quota, *expr.Connlimit:
				holds = holds.and(maybe)
			case *expr.Numgen:
				r.forget(x.Register)
			case *expr.Hash:
				r.forget(x.DestRegister)
			case *expr.Fib:
				r.load(x.Register, e.fib(x))
			case *expr.Exthdr:
				r.forget(x.DestRegister)
			}
		case *expr.Match:
			holds = holds.and(e.match(x))
		case *expr.Target:
			switch target(x.Name) {
			case accepted:
				v = &expr.Verdict{Kind: expr.VerdictAccept}
			case dropped:
				v = &expr.Verdict{Kind: expr.VerdictDrop}
			case 0:
				s.perhaps(where)
			}
		case *expr.Reject:
			v = &expr.Verdict{Kind: expr.VerdictDrop}
		case *expr.Notrack:
			if holds == yes {
				e.ctState = expr.CtStateBitUNTRACKED
			}
		case *expr.NAT, *expr.Masq, *expr.Redir:
			v = &expr.Verdict{Kind: expr.VerdictAccept}
		case *expr.Queue, *expr.SynProxy:
			s.perhaps(where)
		case *expr.Verdict:
			v = x
		}
		if holds == no {
			return true
		}
		if v == nil {
			continue
		}
		switch v.Kind {
		case expr.VerdictAccept, expr.VerdictStop:
			return s.end(holds, accepted, where)
		case expr.VerdictDrop:
			return s.end(holds, dropped, where)
		case expr.VerdictReturn:
			s.result |= returned
			return holds == maybe
		case expr.VerdictJump, expr.VerdictGoto:
			sub := e.walk(t, v.Chain, depth+1)
			if sub.drop != "" {
				where = sub.drop
			}
			if v.Kind == expr.VerdictGoto {
				s.result |= sub.result & returned
				s.end(holds, sub.result&^returned, where)
				return holds == maybe
			}
			return s.end(holds, sub.result, where)
		}
	}
	return true
}

// value is some bytes, each known or not.
type value struct {
	b     []byte
	known []bool
}

func all(n int) []bool {
	k := make([]bool, n)
	for i := range k {
		k[i] = true
	}
	return k
}

func unknown(n int) value       { return value{make([]byte, n), make([]bool, n)} }
func of(b ...byte) value        { return value{b, all(len(b))} }
func native32(n uint32) value   { return of(binary.NativeEndian.AppendUint32(nil, n)...) }
func deviceName(s string) value { return of(append([]byte(s), make([]byte, 16-len(s))...)...) }

// registers are those of the kernel's machine: four of 16 bytes, which can be
// named as sixteen of 4 too.
type registers struct {
	b     [64]byte
	known [64]bool
}

// at is where a register begins, -1 for none.
func at(register uint32) int {
	switch {
	case register >= unix.NFT_REG_1 && register <= unix.NFT_REG_4:
		return int(register-unix.NFT_REG_1) * 16
	case register >= unix.NFT_REG32_00 && register <= unix.NFT_REG32_15:
		return int(register-unix.NFT_REG32_00) * 4
	}
	return -1
}

// get returns n bytes of a register.
func (r *registers) get(register uint32, n int) value {
	i := at(register)
	if i < 0 || i+n > len(r.b) {
		return unknown(n)
	}
	return value{r.b[i : i+n], r.known[i : i+n]}
}

// load fills a register; what it does not fill of its last 4 bytes is zero.
func (r *registers) load(register uint32, v value) {
	i := at(register)
	if i < 0 || i+len(v.b) > len(r.b) {
		return
	}
	end := min((i+len(v.b)+3)&^3, len(r.b))
	clear(r.b[i:end])
	copy(r.known[i:end], all(end-i))
	copy(r.b[i:], v.b)
	copy(r.known[i:], v.known)
}

func (r *registers) forget(register uint32) { r.load(register, unknown(16)) }

func (r *registers) bitwise(x *expr.Bitwise) {
	v := r.get(x.SourceRegister, int(x.Len))
	out := unknown(len(v.b))
	if len(x.Mask) >= len(v.b) && len(x.Xor) >= len(v.b) {
		for i := range v.b {
			out.b[i] = v.b[i]&x.Mask[i] ^ x.Xor[i]
			out.known[i] = v.known[i] || x.Mask[i] == 0
		}
	}
	r.load(x.DestRegister, out)
}

// equal says whether a value is these bytes.
func (v value) equal(b []byte) truth {
	t := yes
	for i := range b {
		switch {
		case !v.known[i]:
			t = maybe
		case v.b[i] != b[i]:
			return no
		}
	}
	return t
}

func (v value) allKnown() bool { return !slices.Contains(v.known, false) }

func (r *registers) compare(x *expr.Cmp) truth {
	v := r.get(x.Register, len(x.Data))
	switch x.Op {
	case expr.CmpOpEq:
		return v.equal(x.Data)
	case expr.CmpOpNeq:
		return v.equal(x.Data).not()
	}
	if !v.allKnown() {
		return maybe
	}
	c := bytes.Compare(v.b, x.Data)
	switch x.Op {
	case expr.CmpOpLt:
		return known(c < 0)
	case expr.CmpOpLte:
		return known(c <= 0)
	case expr.CmpOpGt:
		return known(c > 0)
	case expr.CmpOpGte:
		return known(c >= 0)
	}
	return maybe
}

func (r *registers) within(x *expr.Range) truth {
	v := r.get(x.Register, len(x.FromData))
	if !v.allKnown() {
		return maybe
	}
	in := known(bytes.Compare(v.b, x.FromData) >= 0 && bytes.Compare(v.b, x.ToData) <= 0)
	if x.Op == expr.CmpOpNeq {
		return in.not()
	}
	return in
}

// lookup says whether a register is in a set, and returns the element.
func (e *evaluation) lookup(t *nftables.Table, r *registers, x *expr.Lookup) (truth, *nftables.SetElement) {
	s := e.sets[chainKey(t, x.SetName)]
	if s == nil {
		return maybe, nil
	}
	found, element := s.find(r, x.SourceRegister)
	if x.Invert {
		return found.not(), nil
	}
	return found, element
}

// verdictOf reads the verdict of an element of a map, which the library leaves in
// netlink's form: attributes NFTA_VERDICT_CODE and NFTA_VERDICT_CHAIN.
func verdictOf(b []byte) *expr.Verdict {
	attributes, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil
	}
	var v *expr.Verdict
	chain := ""
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.NFTA_VERDICT_CODE:
			if len(a.Value) == 4 {
				v = &expr.Verdict{Kind: expr.VerdictKind(int32(binary.BigEndian.Uint32(a.Value)))}
			}
		case unix.NFTA_VERDICT_CHAIN:
			chain = strings.TrimRight(string(a.Value), "\x00")
		}
	}
	if v != nil {
		v.Chain = chain
	}
	return v
}

func (s *set) find(r *registers, register uint32) (truth, *nftables.SetElement) {
	if !s.Interval {
		result := no
		for i := range s.elements {
			el := &s.elements[i]
			switch r.get(register, len(el.Key)).equal(el.Key) {
			case yes:
				return yes, el
			case maybe:
				result = maybe
			}
		}
		return result, nil
	}
	if s.Concatenation || len(s.elements) == 0 {
		return known(false).or(len(s.elements) > 0), nil
	}
	// Each element is the begin of a stretch, in the set or not.
	v := r.get(register, len(s.elements[0].Key))
	if !v.allKnown() {
		return maybe, nil
	}
	var last *nftables.SetElement
	for i := range s.elements {
		el := &s.elements[i]
		if bytes.Compare(el.Key, v.b) > 0 {
			continue
		}
		if last == nil || bytes.Compare(el.Key, last.Key) > 0 || bytes.Equal(el.Key, last.Key) && last.IntervalEnd {
			last = el
		}
	}
	if last == nil || last.IntervalEnd {
		return no, nil
	}
	return yes, last
}

// or makes a no a maybe.
func (t truth) or(unknown bool) truth {
	if t == no && unknown {
		return maybe
	}
	return t
}

func (e *evaluation) meta(key expr.MetaKey) value {
	p := e.packet
	in, out := p.Incoming, !p.Incoming
	switch key {
	case expr.MetaKeyNFPROTO:
		if p.Src.Is4() {
			return of(unix.NFPROTO_IPV4)
		}
		return of(unix.NFPROTO_IPV6)
	case expr.MetaKeyL4PROTO:
		return of(unix.IPPROTO_UDP)
	case expr.MetaKeyPROTOCOL:
		if p.Src.Is4() {
			return of(0x08, 0x00)
		}
		return of(0x86, 0xDD)
	case expr.MetaKeyIIFNAME:
		if in {
			return deviceName(p.Device)
		}
		return deviceName("")
	case expr.MetaKeyOIFNAME:
		if out {
			return deviceName(p.Device)
		}
		return deviceName("")
	case expr.MetaKeyIIF:
		if in {
			return native32(uint32(p.Index))
		}
		return native32(0)
	case expr.MetaKeyOIF:
		if out {
			return native32(uint32(p.Index))
		}
		return native32(0)
	case expr.MetaKeyPKTTYPE:
		if in {
			return of(unix.PACKET_HOST)
		}
	case expr.MetaKeyMARK:
		return native32(0) // unless somebody sets one
	}
	return unknown(16)
}

// ct is what connection tracking knows: nothing. The answers of a VTEP come to
// another port than its packets went out from, so that each flow is new for ever.
func (e *evaluation) ct(key expr.CtKey) value {
	switch key {
	case expr.CtKeySTATE:
		return native32(e.ctState)
	case expr.CtKeySTATUS, expr.CtKeyMARK:
		return native32(0)
	}
	return unknown(16)
}

// fib knows what kind of address an end has; the rest is routing.
func (e *evaluation) fib(x *expr.Fib) value {
	if !x.ResultADDRTYPE || x.FlagIIF || x.FlagOIF {
		return unknown(16)
	}
	local := x.FlagDADDR == e.packet.Incoming
	if local {
		return native32(unix.RTN_LOCAL)
	}
	return native32(unix.RTN_UNICAST)
}

// payload reads the packet.
func (e *evaluation) payload(x *expr.Payload) value {
	var h value
	switch x.Base {
	case expr.PayloadBaseNetworkHeader:
		h = e.packet.ip()
	case expr.PayloadBaseTransportHeader:
		h = unknown(8)
		binary.BigEndian.PutUint16(h.b[2:], e.packet.DstPort)
		h.known[2], h.known[3] = true, true
	}
	from, end := int(x.Offset), int(x.Offset+x.Len)
	if end > len(h.b) || from > end {
		return unknown(int(min(x.Len, 16)))
	}
	return value{h.b[from:end], h.known[from:end]}
}

// ip is the packet's IP header.
func (p *Packet) ip() value {
	if p.Src.Is4() {
		h := unknown(20)
		h.b[0], h.known[0] = 0x45, true
		h.b[9], h.known[9] = unix.IPPROTO_UDP, true
		copy(h.b[12:], p.Src.AsSlice())
		copy(h.b[16:], p.Dst.AsSlice())
		copy(h.known[12:], all(8))
		return h
	}
	h := unknown(40)
	h.b[6], h.known[6] = unix.IPPROTO_UDP, true
	copy(h.b[8:], p.Src.AsSlice())
	copy(h.b[24:], p.Dst.AsSlice())
	copy(h.known[8:], all(32))
	return h
}

// match is a condition of xtables.
func (e *evaluation) match(m *expr.Match) truth {
	switch info := m.Info.(type) {
	case *xt.Udp:
		src := maybe
		if info.SrcPorts == [2]uint16{0, 65535} && info.InvFlags&xt.UdpInvSrcPorts == 0 {
			src = yes
		}
		dst := known(e.packet.DstPort >= info.DstPorts[0] && e.packet.DstPort <= info.DstPorts[1])
		if info.InvFlags&xt.UdpInvDestPorts != 0 {
			dst = dst.not()
		}
		return src.and(dst)
	case *xt.Tcp:
		return no
	case *xt.Comment:
		return yes
	case *xt.ConntrackMtinfo3:
		return e.conntrack(xt.ConntrackFlags(info.MatchFlags), xt.ConntrackFlags(info.InvertFlags), info.StateMask)
	case *xt.ConntrackMtinfo2:
		return e.conntrack(xt.ConntrackFlags(info.MatchFlags), xt.ConntrackFlags(info.InvertFlags), info.StateMask)
	}
	if m.Name == "comment" {
		return yes
	}
	return maybe
}

func (e *evaluation) conntrack(match, invert xt.ConntrackFlags, states uint16) truth {
	if match&^xt.ConntrackStateAlias != xt.ConntrackState {
		return maybe
	}
	// Bits of linux/netfilter/xt_conntrack.h, those of nftables but for the last.
	state := uint16(e.ctState)
	if e.ctState == expr.CtStateBitUNTRACKED {
		state = 1 << 6
	}
	in := known(states&state != 0)
	if invert&xt.ConntrackState != 0 {
		return in.not()
	}
	return in
}
