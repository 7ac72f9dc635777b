package firewall

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// legacyRule is one line of iptables-save.
type legacyRule struct {
	words  []string
	number int // in its chain
}

// legacyTable is one table of iptables-save.
type legacyTable struct {
	name     string
	policies map[string]string // of chains; "-" for the user's own
	rules    map[string][]legacyRule
}

// parseLegacy reads what iptables-save prints.
func parseLegacy(text string) []*legacyTable {
	var tables []*legacyTable
	var t *legacyTable
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "*"):
			t = &legacyTable{name: line[1:], policies: make(map[string]string), rules: make(map[string][]legacyRule)}
			tables = append(tables, t)
		case t == nil:
		case strings.HasPrefix(line, ":"):
			if f := strings.Fields(line[1:]); len(f) >= 2 {
				t.policies[f[0]] = f[1]
			}
		case strings.HasPrefix(line, "-A "):
			f := words(line)
			if len(f) >= 2 {
				chain := f[1]
				t.rules[chain] = append(t.rules[chain], legacyRule{f[2:], len(t.rules[chain]) + 1})
			}
		}
	}
	return tables
}

// words splits a line at blanks that are not between double quotes.
func words(line string) (out []string) {
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// checkLegacy walks through the built-in chains that a packet passes.
func checkLegacy(tables []*legacyTable, p *Packet) []Drop {
	chains := []string{"OUTPUT", "POSTROUTING"}
	if p.Incoming {
		chains = []string{"PREROUTING", "INPUT"}
	}
	var drops []Drop
	for _, chain := range chains {
		for _, table := range []string{"raw", "mangle", "nat", "filter", "security"} {
			for _, t := range tables {
				if t.name != table || t.policies[chain] == "" {
					continue
				}
				s := t.walk(p, chain, 0)
				if s.result&returned != 0 && t.policies[chain] == "DROP" {
					s.result = s.result&^returned | dropped
					if s.drop == "" {
						s.drop = fmt.Sprintf("the policy of iptables chain %s, table %s", chain, t.name)
					}
				}
				if s.result&dropped != 0 {
					drops = append(drops, Drop{
						Maybe: s.result != dropped, Where: s.drop,
						Command: p.iptablesCommand("iptables-legacy", t.name, chain),
					})
				}
			}
		}
	}
	return drops
}

func (t *legacyTable) walk(p *Packet, chain string, depth int) (s step) {
	if depth > mostJumps {
		s.result = accepted | dropped | returned
		return s
	}
	for _, r := range t.rules[chain] {
		holds, how, to := r.read(p)
		if holds == no {
			continue
		}
		where := fmt.Sprintf("rule %d of iptables chain %s, table %s", r.number, chain, t.name)
		on := true
		switch v := target(to); {
		case to == "RETURN":
			s.result |= returned
			on = holds == maybe
		case to == "":
		case t.policies[to] != "":
			sub := t.walk(p, to, depth+1)
			if sub.drop != "" {
				where = sub.drop
			}
			if how == "-g" {
				s.result |= sub.result & returned
				s.end(holds, sub.result&^returned, where)
				on = holds == maybe
			} else {
				on = s.end(holds, sub.result, where)
			}
		case v == 0:
			s.perhaps(where)
		case v != returned:
			on = s.end(holds, v, where)
		}
		if !on {
			return s
		}
	}
	s.result |= returned
	return s
}

// read says whether the conditions of a rule hold, and what is done then.
func (r *legacyRule) read(p *Packet) (holds truth, how, to string) {
	holds = yes
	invert := false
	for w := r.words; len(w) > 0; {
		word := w[0]
		w = w[1:]
		argument := func() string {
			if len(w) == 0 {
				return ""
			}
			a := w[0]
			w = w[1:]
			return a
		}
		condition := maybe
		switch word {
		case "!":
			invert = true
			continue
		case "-j", "-g":
			return holds, word, argument()
		case "-m", "--comment":
			argument()
			continue
		case "-p":
			a := argument()
			condition = known(a == "udp" || a == "17" || a == "all")
		case "-s", "-d":
			who := p.Src
			if word == "-d" {
				who = p.Dst
			}
			if prefix, err := parsePrefix(argument()); err == nil {
				condition = known(prefix.Contains(who.WithZone("")))
			}
		case "-i", "-o":
			device := ""
			if (word == "-i") == p.Incoming {
				device = p.Device
			}
			name := argument()
			if start, ok := strings.CutSuffix(name, "+"); ok {
				condition = known(strings.HasPrefix(device, start))
			} else {
				condition = known(device == name)
			}
		case "--dport", "--dports":
			condition = ports(argument(), p.DstPort)
		case "--ctstate", "--state":
			condition = known(strings.Contains(","+argument()+",", ",NEW,"))
		default:
			// An option that is not known here, or the argument of one.
		}
		if invert {
			condition, invert = condition.not(), false
		}
		holds = holds.and(condition)
	}
	return holds, "", ""
}

func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		return netip.PrefixFrom(a, a.BitLen()), err
	}
	return netip.ParsePrefix(s)
}

// ports says whether a port is in a list of ports and ranges: 80,4789:4790.
func ports(list string, port uint16) truth {
	for part := range strings.SplitSeq(list, ",") {
		lo, hi, ranged := strings.Cut(part, ":")
		if !ranged {
			hi = lo
		}
		from, err1 := strconv.ParseUint(lo, 10, 16)
		to, err2 := strconv.ParseUint(hi, 10, 16)
		if err1 != nil || err2 != nil {
			return maybe
		}
		if uint64(port) >= from && uint64(port) <= to {
			return yes
		}
	}
	return no
}

// target is what an xtables target does: returned for one that the packet goes on
// behind, 0 for one that is not known.
func target(name string) outcome {
	switch name {
	case "REJECT", "DROP":
		return dropped
	case "ACCEPT", "MASQUERADE", "SNAT", "DNAT", "REDIRECT":
		return accepted
	case "LOG", "NFLOG", "MARK", "CONNMARK", "CT", "NOTRACK", "TRACE", "CHECKSUM", "TOS", "DSCP",
		"CLASSIFY", "TTL", "HL", "SET", "AUDIT", "SECMARK", "CONNSECMARK":
		return returned
	}
	return 0
}

// iptablesCommand lets the packet through a chain.
func (p *Packet) iptablesCommand(program, table, chain string) string {
	who := fmt.Sprintf("-d %v", p.Dst.WithZone(""))
	if p.Incoming {
		who = fmt.Sprintf("-s %v", p.Src.WithZone(""))
	}
	if p.Src.Is6() {
		program = strings.Replace(program, "ip", "ip6", 1)
	}
	in := ""
	if table != "filter" {
		in = "-t " + table + " "
	}
	return fmt.Sprintf("%s %s-I %s %s -p udp --dport %d -j ACCEPT", program, in, chain, who, p.DstPort)
}
