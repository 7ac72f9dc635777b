package input

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// dumpLine is a line that begins with an offset.
type dumpLine struct {
	number int    // in the text, from 1
	offset string // digits
	style  style
	body   string // all behind the offset, its first character at column 0
	star   bool   // "*": lines equal to the one before are left out
}

// style is how a dump writes its offsets and words.
type style uint8

const (
	bare     style = iota // "0010  45 00": Wireshark, hexdump, od
	colon                 // "00000010: 4500": xxd
	prefixed              // "0x0010:  4500": tcpdump
)

var (
	prefixedLine = regexp.MustCompile(`^\s*0x([0-9a-fA-F]{4,8}):?(?:\s|$)`)
	colonLine    = regexp.MustCompile(`^\s*([0-9a-fA-F]{4,16}):(?:\s|$)`)
	bareLine     = regexp.MustCompile(`^\s*([0-9a-fA-F]{4,16})(?:\s\s?\s*|$)`)
)

// splitDump returns the lines of a dump, or nothing when the text is none: the
// first offset of a dump is zero, and a line of bytes follows it.
func splitDump(lines []string) []dumpLine {
	for _, form := range []struct {
		style style
		re    *regexp.Regexp
	}{{prefixed, prefixedLine}, {colon, colonLine}, {bare, bareLine}} {
		var dump []dumpLine
		for i, line := range lines {
			line = strings.TrimRight(expandTabs(line), " \r")
			if strings.TrimSpace(line) == "*" && len(dump) > 0 {
				dump = append(dump, dumpLine{number: i + 1, star: true})
				continue
			}
			m := form.re.FindStringSubmatchIndex(line)
			if m == nil {
				continue
			}
			body := line[m[3]:]
			if strings.Trim(body, ": ") != "" && len(hexGroups(body, 0)) == 0 {
				continue // "2048 packets captured"
			}
			dump = append(dump, dumpLine{number: i + 1, offset: line[m[2]:m[3]], style: form.style, body: body})
		}
		if isDump(dump) {
			return dump
		}
	}
	return nil
}

func expandTabs(s string) string {
	if !strings.ContainsRune(s, '\t') {
		return s
	}
	var out strings.Builder
	n := 0
	for _, r := range s {
		if r != '\t' {
			out.WriteRune(r)
			n++
			continue
		}
		for {
			out.WriteByte(' ')
			n++
			if n%8 == 0 {
				break
			}
		}
	}
	return out.String()
}

// isDump tells a dump from plain hex in groups of four digits or more: its first
// offset is zero and what follows them rises.
func isDump(dump []dumpLine) bool {
	if len(dump) == 0 || strings.Trim(dump[0].offset, "0") != "" || len(hexGroups(dump[0].body, 0)) == 0 {
		return false
	}
	if dump[0].style != bare {
		return true
	}
	// Without a colon one line decides nothing: "0000 0000 0800" may be bytes.
	// More than one blank after the offset, or a second offset, does.
	if strings.HasPrefix(dump[0].body, "  ") {
		return true
	}
	for _, base := range []int{16, 10, 8} {
		if rises, ok := rising(dump, base); ok && rises > 0 {
			return true
		}
	}
	return false
}

// offsets reads the offsets of a dump in a base; false when one is none.
func offsets(dump []dumpLine, base int) ([]int, bool) {
	all := make([]int, len(dump))
	for i, l := range dump {
		if l.star {
			all[i] = -1
			continue
		}
		v, err := strconv.ParseUint(l.offset, base, 31)
		if err != nil {
			return nil, false
		}
		all[i] = int(v)
	}
	return all, true
}

// rising says whether the offsets, read in base, fit what stands between them:
// each line has the bytes up to the next offset, or that one is zero again. It
// counts those that rose.
func rising(dump []dumpLine, base int) (rises int, ok bool) {
	at, ok := offsets(dump, base)
	if !ok {
		return 0, false
	}
	for i := 0; i+1 < len(dump); i++ {
		if at[i] < 0 || at[i+1] <= 0 {
			continue
		}
		n := at[i+1] - at[i]
		if n <= 0 || n > countBytes(hexGroups(dump[i].body, 0)) {
			return 0, false
		}
		rises++
	}
	return rises, true
}

// group is a run of hex digits in a line, at a column.
type group struct {
	text     string
	from, to int // columns
}

// hexGroups returns the groups of hex digits at the beginning of a line, up to
// column limit (0: no limit), or to what is no hex.
func hexGroups(body string, limit int) []group {
	var groups []group
	i := 0
	if strings.HasPrefix(body, ":") {
		i = 1
	}
	for i < len(body) {
		if body[i] == ' ' || body[i] == '-' && i > 0 {
			i++
			continue
		}
		from := i
		for i < len(body) && isHex(rune(body[i])) {
			i++
		}
		end := i == len(body) || body[i] == ' ' || body[i] == '-'
		if i == from || !end || (i-from)%2 != 0 || limit > 0 && i > limit {
			break
		}
		groups = append(groups, group{body[from:i], from, i})
	}
	return groups
}

func countBytes(groups []group) int {
	n := 0
	for _, g := range groups {
		n += len(g.text) / 2
	}
	return n
}

// parseDump puts the bytes of a dump together.
//
// The trouble with dumps is their column of characters, which may look like hex.
// Where a next offset follows, it says how many bytes the line has. For a last
// line the earlier ones show at which column their bytes end; without any, a
// wide gap does.
func parseDump(dump []dumpLine) ([]Packet, error) {
	base := 0
	for _, b := range []int{16, 10, 8} {
		if _, ok := rising(dump, b); ok {
			base = b
			break
		}
	}
	if base == 0 {
		return nil, fmt.Errorf("line %d: its offsets do not fit the bytes between them", dump[0].number)
	}
	at, _ := offsets(dump, base)
	var packets []Packet
	var bytes, last []byte
	flush := func() {
		if len(bytes) > 0 {
			packets = append(packets, Packet{Bytes: bytes, Length: len(bytes)})
		}
		bytes, last = nil, nil
	}
	swap := swapped(dump)
	edge := 0 // column at which the bytes of full lines end
	for i, l := range dump {
		if l.star {
			continue // filled up when the next offset is known
		}
		if at[i] == 0 {
			flush()
		}
		if at[i] > len(bytes) && i > 0 && dump[i-1].star && len(last) > 0 {
			if at[i] > maxPacket {
				return nil, fmt.Errorf("line %d: offset %s is too far", l.number, l.offset)
			}
			for len(bytes) < at[i] {
				bytes = append(bytes, last[:min(len(last), at[i]-len(bytes))]...)
			}
		}
		if at[i] != len(bytes) {
			return nil, fmt.Errorf("line %d: offset %s (%d) where byte %d belongs", l.number, l.offset, at[i], len(bytes))
		}
		want := -1
		if i+1 < len(dump) && !dump[i+1].star && at[i+1] > 0 {
			want = at[i+1] - at[i]
		}
		groups := hexGroups(l.body, 0)
		if want >= 0 {
			odd := 0
			if swap {
				odd = want % 2 // half of the last word is no byte of the packet
			}
			groups = upTo(groups, want+odd)
			if n := countBytes(groups) - odd; n != want {
				return nil, fmt.Errorf("line %d: %d bytes are there, the next offset says %d", l.number, n, want)
			}
			if len(groups) > 0 {
				edge = max(edge, groups[len(groups)-1].to)
			}
		} else {
			groups = lastLine(l.body, groups, edge)
		}
		line, err := hexBytes(groups, swap)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.number, err)
		}
		if want >= 0 {
			line = line[:want]
		}
		bytes = append(bytes, line...)
		if len(line) > 0 {
			last = line
		}
	}
	flush()
	return packets, nil
}

// upTo returns the groups with the first n bytes.
func upTo(groups []group, n int) []group {
	for i, g := range groups {
		n -= len(g.text) / 2
		if n == 0 {
			return groups[:i+1]
		}
		if n < 0 {
			return groups[:i]
		}
	}
	return groups
}

// lastLine cuts the column of characters off a line that no other follows.
func lastLine(body string, groups []group, edge int) []group {
	if edge > 0 {
		return hexGroups(body, edge)
	}
	for i := 1; i < len(groups); i++ {
		gap := groups[i].from - groups[i-1].to
		// hexdump -C and others leave two blanks in the middle of sixteen bytes.
		middle := gap == 2 && i == 8 && len(groups[i].text) == 2
		if gap >= 2 && !middle {
			return groups[:i]
		}
	}
	if n := countBytes(groups); n > 16 {
		return upTo(groups, 16)
	}
	return groups
}

// swapped says whether a dump has the words of a little-endian machine: that is
// what hexdump without options, od -x and xxd -e print. Their offsets have seven
// digits and no colon, their groups four digits.
func swapped(dump []dumpLine) bool {
	l := dump[0]
	if l.style != bare || len(l.offset) != 7 {
		return false
	}
	groups := hexGroups(l.body, 0)
	for _, g := range groups {
		if len(g.text) != 4 {
			return false
		}
	}
	return len(groups) > 0
}

func hexBytes(groups []group, swap bool) ([]byte, error) {
	var out []byte
	for _, g := range groups {
		b, err := hex.DecodeString(g.text)
		if err != nil {
			return nil, err
		}
		if swap && len(b) == 2 {
			b[0], b[1] = b[1], b[0]
		}
		out = append(out, b...)
	}
	return out, nil
}
