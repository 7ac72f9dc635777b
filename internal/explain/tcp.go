package explain

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/gopacket/layers"
)

func (d *dissector) tcp(f *flow, s span) {
	if !d.need(s, 20, "TCP") {
		d.tcpBeginning(f, s)
		return
	}
	d.printf("%v.%d > %v.%d: %s", f.src, d.u16(s.off), f.dst, d.u16(s.off+2), f.between)
	header := int(d.b[s.off+12]>>4) * 4
	if header < 20 {
		d.problem(s.off+12, "TCP", "its header length says %s, 20 is the least", count(header, "byte"))
		d.printf("TCP, %s", d.broken())
		d.payload(s, "data")
		return
	}
	if !d.need(s, header, "TCP") {
		d.printf("Flags [%s], seq %d, TCP, %s", tcpLetters(d.u16(s.off+12)&0x1ff), d.u32(s.off+4), d.broken())
		d.layer("TCP", "tcp", s.off, 20, d.tcpStart(s)...)
		d.payload(s.from(20), "data")
		return
	}
	var t layers.TCP
	optionsErr := decode(&t, d.b[s.off:s.off+header])
	flags := d.u16(s.off+12) & 0x1ff
	length := s.onWire() - header
	fields := d.tcpStart(s)
	for i := range fields {
		f := &fields[i]
		switch f.Name {
		case "sequence":
			f.Meaning = pick(length > 0, "first of "+count(length, "byte"), "")
		case "acknowledgment":
			f.Meaning = pick(t.ACK, "the byte expected next", "ACK clear: means nothing")
		case "header length":
			f.Meaning = pick(header > 20, fmt.Sprintf("bytes, %d of them options", header-20), "bytes, no options")
		case "window":
			f.Meaning = pick(t.SYN, "bytes: a SYN's is never scaled", "in units of 2^window scale")
		case "urgent pointer":
			f.Meaning = pick(t.URG, "", "URG clear: means nothing")
		}
	}
	if header > 20 {
		o := word("options", s.off+20, header-20, fmt.Sprintf("%d bytes", header-20), "")
		if optionsErr != nil {
			d.problem(s.off+20, "TCP", "its options are malformed: %s", reason(optionsErr))
			o.Meaning, o.Verdict = "malformed", Bad
		}
		o.Parts = tcpOptions(s.off+20, t.Options, optionsErr)
		fields = append(fields, o)
	}
	layer := d.layer("TCP", "tcp", s.off, header, fields...)
	d.toJudge(layer, check{s: s, at: s.off + 16, flow: f, proto: protoTCP})

	d.printf("Flags [%s]", tcpLetters(flags))
	if t.SYN || t.FIN || t.RST || length > 0 {
		d.printf(", seq %d", t.Seq)
		if length > 0 {
			d.printf(":%d", t.Seq+uint32(length))
		}
	}
	if t.ACK {
		d.printf(", ack %d", t.Ack)
	}
	d.printf(", win %d", t.Window)
	if t.URG {
		d.printf(", urg %d", t.Urgent)
	}
	if header > 20 {
		var words []string
		for _, o := range t.Options {
			words = append(words, tcpOptionWord(o))
		}
		if optionsErr != nil {
			words = append(words, "bad opt")
		}
		d.printf(", options [%s]", strings.Join(words, ","))
	}
	d.printf(", length %d", length)
	d.payload(s.from(header), "data")
}

// tcpBeginning explains what there is of a header that is not whole. Captures
// that keep 96 bytes of a packet end in the inner TCP header.
func (d *dissector) tcpBeginning(f *flow, s span) {
	fields := d.tcpStart(s)
	if len(fields) < 2 {
		d.printf("%v > %v: %sTCP, %s", f.src, f.dst, f.between, d.broken())
		d.payload(s, "data")
		return
	}
	last := fields[len(fields)-1]
	size := last.Offset + last.Size - s.off
	d.layer("TCP", "tcp", s.off, size, fields...)
	d.printf("%v.%d > %v.%d: %sTCP, %s", f.src, d.u16(s.off), f.dst, d.u16(s.off+2), f.between, d.broken())
	d.payload(s.from(size), "data")
}

// tcpStart are the first fields of a TCP header, as many as are here, without
// what only a whole header tells of them.
func (d *dissector) tcpStart(s span) (fields []Field) {
	has := func(n int) bool { return s.here() >= n }
	if has(2) {
		fields = append(fields, number("source port", s.off, 2, d.u16(s.off), ""))
	}
	if has(4) {
		fields = append(fields, number("destination port", s.off+2, 2, d.u16(s.off+2), ""))
	}
	if has(8) {
		fields = append(fields, number("sequence", s.off+4, 4, d.u32(s.off+4), ""))
	}
	if has(12) {
		fields = append(fields, number("acknowledgment", s.off+8, 4, d.u32(s.off+8), ""))
	}
	if has(14) {
		fields = append(fields,
			number("header length", s.off+12, 1, d.u8(s.off+12)>>4*4, "bytes"),
			tcpFlags(s.off+12, d.u16(s.off+12)&0x1ff))
	}
	if has(16) {
		fields = append(fields, number("window", s.off+14, 2, d.u16(s.off+14), ""))
	}
	if has(18) {
		fields = append(fields, hexed("checksum", s.off+16, 2, d.u16(s.off+16), "not judged: only a part of it is here"))
	}
	if has(20) {
		fields = append(fields, number("urgent pointer", s.off+18, 2, d.u16(s.off+18), ""))
	}
	return fields
}

// tcpNames are the flags from bit 0 up, with tcpdump's letters.
var tcpNames = [...]struct{ name, letter string }{
	{"FIN", "F"}, {"SYN", "S"}, {"RST", "R"}, {"PSH", "P"}, {"ACK", "."}, {"URG", "U"}, {"ECE", "E"}, {"CWR", "W"}, {"AE", "e"},
}

func tcpLetters(flags uint64) string {
	s := ""
	for i, n := range tcpNames {
		if flags&(1<<i) != 0 {
			s += n.letter
		}
	}
	return pick(s == "", "none", s)
}

func tcpFlags(off int, flags uint64) Field {
	f := hexed("flags", off, 2, flags, "")
	f.Text = fmt.Sprintf("0x%03x", flags)
	var set []string
	for i, n := range tcpNames {
		if flags&(1<<i) != 0 {
			set = append(set, n.name)
		}
		f.Parts = append(f.Parts, bits(n.name, off, 9, flags, 1<<i, ""))
	}
	f.Meaning = strings.Join(set, ", ")
	switch {
	case flags&0x3f == 0:
		f.Meaning, f.Verdict = joinClauses(f.Meaning, "none of the classic six: no stack sends this"), Note
	case flags&0x03 == 0x03, flags&0x06 == 0x06:
		f.Meaning, f.Verdict = f.Meaning+": contradictory", Note
	}
	f.brief = true
	return f
}

// tcpOptions lists the options, runs of padding as one.
func tcpOptions(off int, options []layers.TCPOption, err error) (parts []Field) {
	for i, o := range options {
		if err != nil && i == len(options)-1 {
			parts = append(parts, Field{
				Name: "option", Offset: off, Value: uint64(o.OptionType), Text: fmt.Sprint(uint8(o.OptionType)),
				Meaning: "its length does not fit", Verdict: Bad,
			})
			break
		}
		size := int(o.OptionLength)
		if n := len(parts); n > 0 && o.OptionType == layers.TCPOptionKindNop && parts[n-1].Name == "padding" {
			parts[n-1].Size++
			parts[n-1].Value = uint64(parts[n-1].Size)
			parts[n-1].Text = fmt.Sprintf("%d bytes", parts[n-1].Size)
		} else {
			parts = append(parts, tcpOption(off, o))
		}
		off += size
	}
	return parts
}

func tcpOption(off int, o layers.TCPOption) Field {
	f := Field{Offset: off, Size: int(o.OptionLength)}
	b := o.OptionData
	set := func(name string, v any, text, meaning string) {
		f.Name, f.Value, f.Text, f.Meaning = name, v, text, meaning
	}
	switch {
	case o.OptionType == layers.TCPOptionKindEndList:
		set("end", uint64(0), "0", "end of options")
	case o.OptionType == layers.TCPOptionKindNop:
		set("padding", uint64(1), "1 byte", "")
	case o.OptionType == layers.TCPOptionKindMSS && len(b) == 2:
		v := uint64(binary.BigEndian.Uint16(b))
		set("MSS", v, fmt.Sprint(v), "bytes: the largest segment it takes")
	case o.OptionType == layers.TCPOptionKindWindowScale && len(b) == 1:
		set("window scale", uint64(b[0]), fmt.Sprint(b[0]), fmt.Sprintf("its windows are in units of %d", 1<<min(b[0], 14)))
	case o.OptionType == layers.TCPOptionKindSACKPermitted:
		set("SACK permitted", true, "yes", "")
	case o.OptionType == layers.TCPOptionKindSACK && len(b)%8 == 0:
		var ranges []string
		for ; len(b) > 0; b = b[8:] {
			ranges = append(ranges, fmt.Sprintf("%d-%d", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])))
		}
		text := strings.Join(ranges, " ")
		set("SACK", text, text, "arrived beyond a hole")
	case o.OptionType == layers.TCPOptionKindTimestamps && len(b) == 8:
		text := fmt.Sprintf("%d, echo %d", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
		set("timestamp", text, text, "")
	default:
		set("option", uint64(o.OptionType), fmt.Sprintf("%d", o.OptionType), strings.TrimSpace(fmt.Sprintf("%x", b)))
	}
	return f
}

// tcpOptionWord is tcpdump's word for an option.
func tcpOptionWord(o layers.TCPOption) string {
	b := o.OptionData
	switch {
	case o.OptionType == layers.TCPOptionKindEndList:
		return "eol"
	case o.OptionType == layers.TCPOptionKindNop:
		return "nop"
	case o.OptionType == layers.TCPOptionKindMSS && len(b) == 2:
		return fmt.Sprintf("mss %d", binary.BigEndian.Uint16(b))
	case o.OptionType == layers.TCPOptionKindWindowScale && len(b) == 1:
		return fmt.Sprintf("wscale %d", b[0])
	case o.OptionType == layers.TCPOptionKindSACKPermitted:
		return "sackOK"
	case o.OptionType == layers.TCPOptionKindSACK && len(b)%8 == 0:
		s := fmt.Sprintf("sack %d ", len(b)/8)
		for ; len(b) > 0; b = b[8:] {
			s += fmt.Sprintf("{%d:%d}", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
		}
		return s
	case o.OptionType == layers.TCPOptionKindTimestamps && len(b) == 8:
		return fmt.Sprintf("TS val %d ecr %d", binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]))
	}
	if len(b) == 0 {
		return fmt.Sprintf("unknown-%d", o.OptionType)
	}
	return fmt.Sprintf("unknown-%d 0x%x", o.OptionType, b)
}
