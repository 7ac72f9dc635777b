package explain

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/google/gopacket/layers"
)

// dns explains a DNS message lightly: its header, what it asks and what it
// answers. False, with nothing said, when the bytes are no DNS message: the port
// alone does not make one.
func (d *dissector) dns(s span) bool {
	if s.here() < 12 || s.wire > s.end {
		return false
	}
	var m layers.DNS
	if err := decode(&m, d.b[s.off:s.end]); err != nil {
		return false
	}
	flags := hexed("flags", s.off+2, 2, d.u16(s.off+2), dnsFlags(&m))
	fields := []Field{
		number("identifier", s.off, 2, uint64(m.ID), ""),
		flags,
		number("questions", s.off+4, 2, uint64(m.QDCount), ""),
		number("answers", s.off+6, 2, uint64(m.ANCount), ""),
		number("authorities", s.off+8, 2, uint64(m.NSCount), ""),
		number("additional", s.off+10, 2, uint64(m.ARCount), ""),
	}
	// The decoder does not tell where each record is.
	records := word("records", s.off+12, s.here()-12, fmt.Sprintf("%d bytes", s.here()-12), "")
	for _, q := range m.Questions {
		text := fmt.Sprintf("%s? %s.", dnsType(q.Type), printable(q.Name))
		records.Parts = append(records.Parts, word("question", s.off+12, 0, text, ""))
	}
	for _, r := range m.Answers {
		text := fmt.Sprintf("%s %s", dnsType(r.Type), dnsValue(&r))
		meaning := fmt.Sprintf("for %s., %d s long", printable(r.Name), r.TTL)
		records.Parts = append(records.Parts, word("answer", s.off+12, 0, text, meaning))
	}
	if len(records.Parts) > 0 {
		fields = append(fields, records)
	}
	d.layer("DNS", "dns", s.off, s.here(), fields...)
	d.printf("%s (%d)", dnsLine(&m), s.onWire())
	return true
}

func dnsFlags(m *layers.DNS) string {
	if !m.QR {
		return joinClauses("query", pick(m.RD, "recursion desired", ""))
	}
	return joinClauses("response",
		pick(m.ResponseCode == 0, "no error", m.ResponseCode.String()),
		pick(m.AA, "authoritative", ""), pick(m.TC, "truncated", ""), pick(m.RA, "recursion available", ""))
}

func dnsType(t layers.DNSType) string {
	if s := t.String(); s != "Unknown" {
		return s
	}
	return fmt.Sprintf("Type%d", uint16(t))
}

func dnsValue(r *layers.DNSResourceRecord) string {
	switch r.Type {
	case layers.DNSTypeA, layers.DNSTypeAAAA:
		if a, ok := netip.AddrFromSlice(r.IP); ok {
			return a.String()
		}
	case layers.DNSTypeCNAME:
		return printable(r.CNAME) + "."
	case layers.DNSTypePTR:
		return printable(r.PTR) + "."
	case layers.DNSTypeNS:
		return printable(r.NS) + "."
	case layers.DNSTypeMX:
		return fmt.Sprintf("%s. %d", printable(r.MX.Name), r.MX.Preference)
	case layers.DNSTypeSRV:
		return fmt.Sprintf("%s.:%d %d %d", printable(r.SRV.Name), r.SRV.Port, r.SRV.Priority, r.SRV.Weight)
	case layers.DNSTypeTXT:
		var words []string
		for _, t := range r.TXTs {
			words = append(words, `"`+printable(t)+`"`)
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("(%d bytes)", r.DataLength)
}

// dnsLine is tcpdump's line: id, flags, counts, question or answers.
func dnsLine(m *layers.DNS) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d", m.ID)
	if !m.QR {
		s.WriteString(pick(m.RD, "+", ""))
		if m.ARCount > 0 {
			fmt.Fprintf(&s, " [%dau]", m.ARCount)
		}
		for _, q := range m.Questions {
			fmt.Fprintf(&s, " %s? %s.", dnsType(q.Type), printable(q.Name))
		}
		return s.String()
	}
	if m.ResponseCode != 0 {
		s.WriteString(" " + dnsError(m.ResponseCode))
	}
	s.WriteString(pick(m.AA, "*", "") + pick(!m.RA, "-", "") + pick(m.TC, "|", ""))
	fmt.Fprintf(&s, " %d/%d/%d", m.ANCount, m.NSCount, m.ARCount)
	for i, r := range m.Answers {
		s.WriteString(pick(i > 0, ", ", " "))
		fmt.Fprintf(&s, "%s %s", dnsType(r.Type), dnsValue(&r))
	}
	return s.String()
}

func dnsError(c layers.DNSResponseCode) string {
	switch c {
	case layers.DNSResponseCodeFormErr:
		return "FormErr"
	case layers.DNSResponseCodeServFail:
		return "ServFail"
	case layers.DNSResponseCodeNXDomain:
		return "NXDomain"
	case layers.DNSResponseCodeNotImp:
		return "NotImp"
	case layers.DNSResponseCodeRefused:
		return "Refused"
	}
	return fmt.Sprintf("Resp%d", c)
}
