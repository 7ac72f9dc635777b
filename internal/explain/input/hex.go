package input

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// ParseHex reads packets from text: plain hex in any grouping, or a dump with
// offsets as tcpdump -x, xxd, hexdump, od -Ax -tx1 and Wireshark write them. In
// a dump the column of characters and lines that are none of it (tcpdump's
// summaries) are passed over, and an offset of zero begins another packet; in
// plain hex an empty line does. Length is len(Bytes) in every packet.
func ParseHex(text string) ([]Packet, error) {
	text = strings.TrimPrefix(text, "\ufeff")
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	dump := splitDump(lines)
	var packets []Packet
	var err error
	if len(dump) > 0 {
		packets, err = parseDump(dump)
	} else {
		packets, err = parsePlain(lines)
	}
	if err != nil {
		return nil, err
	}
	if len(packets) == 0 {
		return nil, errors.New("there is not one hex digit in it")
	}
	return packets, nil
}

// LooksLikeHex says whether an argument is meant as hex rather than as the name
// of a file.
func LooksLikeHex(s string) bool {
	digits, other := scrub(s)
	return other == "" && len(digits) >= 2 && (len(digits) >= 8 || len(digits)%2 == 0)
}

// noise is what people and programs put between hex digits.
var noise = strings.NewReplacer("0x", "", "0X", "", `\x`, "", " ", "", "\t", "", ":", "", "-", "", ",", "", ";", "", "{", "", "}", "", `"`, "", "'", "", "|", "", "\u00a0", "")

// scrub returns the hex digits of s, and the first word that is not made of any.
func scrub(s string) (digits, other string) {
	digits = noise.Replace(s)
	if strings.IndexFunc(digits, func(r rune) bool { return !isHex(r) }) < 0 {
		return digits, ""
	}
	for _, word := range strings.Fields(s) {
		if strings.IndexFunc(noise.Replace(word), func(r rune) bool { return !isHex(r) }) >= 0 {
			if len(word) > 20 {
				word = word[:20]
			}
			return "", word
		}
	}
	return "", s
}

func isHex(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' || r >= 'A' && r <= 'F'
}

// declaration is the beginning of a byte array in C or Go, and declaredLength
// the line that xxd -i puts behind it.
var (
	declaration    = regexp.MustCompile(`^[^{}]*[=\]a-z0-9]\s*\{`)
	declaredLength = regexp.MustCompile(`^unsigned int \w+ = \d+;$`)
)

func parsePlain(lines []string) ([]Packet, error) {
	var packets []Packet
	var digits strings.Builder
	flush := func() error {
		if digits.Len() == 0 {
			return nil
		}
		b, err := hex.DecodeString(digits.String())
		if err != nil {
			return fmt.Errorf("%d hex digits make no whole bytes", digits.Len())
		}
		digits.Reset()
		packets = append(packets, Packet{Bytes: b, Length: len(b)})
		return nil
	}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") || strings.HasPrefix(line, "/*") || declaredLength.MatchString(line) {
			continue
		}
		if line == "" {
			if err := flush(); err != nil {
				return nil, err
			}
			continue
		}
		line = declaration.ReplaceAllString(line, "")
		some, other := scrub(line)
		if other != "" {
			return nil, fmt.Errorf("line %d is no hex: %q", i+1, other)
		}
		digits.WriteString(some)
	}
	if err := flush(); err != nil {
		return nil, err
	}
	return packets, nil
}
