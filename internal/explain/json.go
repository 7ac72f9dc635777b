package explain

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// The JSON of a packet. Fields may be added, never renamed; what a packet does
// not have is left out.

type jsonPacket struct {
	Number   int           `json:"number,omitempty"`
	Time     string        `json:"time,omitempty"` // RFC 3339, UTC, nanoseconds
	Length   int           `json:"length"`         // bytes on the wire
	Captured int           `json:"captured"`       // bytes here
	Start    string        `json:"start"`          // ethernet, ip, vxlan, linux-sll, linux-sll2, loopback, detect (nothing recognised)
	Summary  string        `json:"summary"`
	Comment  string        `json:"comment,omitempty"`
	VNI      *uint32       `json:"vni,omitempty"`  // of the outermost tunnel
	VNIs     []uint32      `json:"vnis,omitempty"` // of all, outermost first
	Outer    *jsonEnds     `json:"outer,omitempty"`
	Inner    *jsonEnds     `json:"inner,omitempty"`
	Sizes    jsonSizes     `json:"sizes"`
	Layers   []jsonLayer   `json:"layers"`
	Problems []jsonProblem `json:"problems"`
}

// jsonEnds are the addresses of one side: who sends what to whom.
type jsonEnds struct {
	SrcMAC   string  `json:"src_mac,omitempty"`
	DstMAC   string  `json:"dst_mac,omitempty"`
	VLAN     *uint64 `json:"vlan,omitempty"`
	Src      string  `json:"src,omitempty"`
	Dst      string  `json:"dst,omitempty"`
	Protocol string  `json:"protocol,omitempty"` // key of the last layer that is not payload
	SrcPort  *uint64 `json:"src_port,omitempty"`
	DstPort  *uint64 `json:"dst_port,omitempty"`
}

type jsonSizes struct {
	Total    int        `json:"total"`
	Inner    int        `json:"inner,omitempty"`
	Overhead int        `json:"overhead,omitempty"`
	Parts    []jsonPart `json:"parts"`
}

type jsonPart struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

type jsonLayer struct {
	Layer  string      `json:"layer"`          // ethernet, vlan, ipv4, ipv6, udp, vxlan, arp, tcp, ...
	Side   string      `json:"side,omitempty"` // outer, vxlan, inner, inner 2
	Offset int         `json:"offset"`
	Size   int         `json:"size"`
	Fields []jsonField `json:"fields,omitempty"`
	Hex    string      `json:"hex,omitempty"` // of a payload
}

type jsonField struct {
	Name    string      `json:"name"`
	Offset  int         `json:"offset"`
	Size    int         `json:"size,omitempty"` // bytes; left out for a part of a byte
	Value   any         `json:"value"`          // number, boolean or string
	Meaning string      `json:"meaning,omitempty"`
	Verdict string      `json:"verdict,omitempty"` // good, note, bad
	Parts   []jsonField `json:"parts,omitempty"`
}

type jsonProblem struct {
	Layer  string `json:"layer"`
	Offset int    `json:"offset"`
	Text   string `json:"text"`
	Cut    bool   `json:"cut,omitempty"` // the capture, not the sender, left it out
}

// MarshalJSON writes the packet as one object:
//
//	{"number":1,"time":"2025-11-23T21:52:03.123456Z","length":148,"captured":148,
//	 "start":"ethernet","summary":"IP 192.168.52.203.52011 > ...","vni":4097,"vnis":[4097],
//	 "outer":{"src_mac":"…","dst_mac":"…","src":"192.168.52.203","dst":"192.168.52.204",
//	          "protocol":"udp","src_port":52011,"dst_port":4789},
//	 "inner":{"src_mac":"…","dst_mac":"…","src":"10.0.1.100","dst":"10.0.1.103","protocol":"icmp"},
//	 "sizes":{"total":148,"inner":98,"overhead":50,"parts":[{"name":"Ethernet","size":14},…]},
//	 "layers":[{"layer":"ipv4","side":"outer","offset":14,"size":20,
//	            "fields":[{"name":"ttl","offset":22,"size":1,"value":64},…]},…],
//	 "problems":[{"layer":"IPv4","offset":66,"text":"…"}]}
//
// Names of fields are those of the text in lower case with underscores. Without
// a tunnel there is no "inner", and "outer" is the packet's only side.
func (e *Explanation) MarshalJSON() ([]byte, error) { return e.JSON(Style{}) }

// JSON is MarshalJSON in a style, of which only Inner matters: the layers of the
// inner frames alone, and no "outer".
func (e *Explanation) JSON(style Style) ([]byte, error) {
	p := jsonPacket{
		Number:   e.Number,
		Length:   e.Length,
		Captured: len(e.Bytes),
		Start:    e.Start.String(),
		Summary:  e.OneLine(),
		Comment:  e.Comment,
		VNIs:     e.VNIs,
		Outer:    e.ends(0),
		Layers:   []jsonLayer{},
		Problems: []jsonProblem{},
	}
	if !e.Time.IsZero() {
		p.Time = e.Time.UTC().Format(time.RFC3339Nano)
	}
	if len(e.VNIs) > 0 {
		p.VNI = &e.VNIs[0]
		p.Inner = e.ends(1)
	}
	sizes := e.Sizes()
	p.Sizes = jsonSizes{Total: sizes.Total, Inner: sizes.Inner, Overhead: sizes.Overhead, Parts: []jsonPart{}}
	for _, part := range sizes.Parts {
		p.Sizes.Parts = append(p.Sizes.Parts, jsonPart(part))
	}
	if style.Inner {
		p.Summary = e.InnerLine()
		p.Outer = nil
	}
	for i := range e.Layers {
		l := &e.Layers[i]
		if style.Inner && l.Depth == 0 {
			continue
		}
		j := jsonLayer{Layer: l.Key, Side: e.Side(l), Offset: l.Offset, Size: l.Size, Fields: jsonFields(l.Fields)}
		if l.Payload {
			j.Hex = hex.EncodeToString(e.Bytes[l.Offset : l.Offset+l.Size])
		}
		p.Layers = append(p.Layers, j)
	}
	for _, q := range e.Problems {
		p.Problems = append(p.Problems, jsonProblem{q.Layer, q.Offset, q.Text, q.Cut})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false) // "10.0.1.100 > 10.0.1.103" is to be read by people too
	if err := enc.Encode(p); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func jsonFields(fields []Field) []jsonField {
	var out []jsonField
	for _, f := range fields {
		out = append(out, jsonField{
			Name: fieldKey(f.Name), Offset: f.Offset, Size: f.Size, Value: f.Value,
			Meaning: f.Meaning, Verdict: f.Verdict.String(), Parts: jsonFields(f.Parts),
		})
	}
	return out
}

// fieldKey is a field's name in JSON: "header checksum" is "header_checksum".
func fieldKey(name string) string {
	name = strings.NewReplacer(", ", "_", " ", "_", "-", "_").Replace(name)
	return strings.ToLower(name)
}

// ends collects the addresses of the headers at a depth.
func (e *Explanation) ends(depth int) *jsonEnds {
	var ends jsonEnds
	found := false
	for i := range e.Layers {
		l := &e.Layers[i]
		if l.Depth != depth || l.Payload || l.Key == keyVXLAN || l.Key == keyGPE {
			continue
		}
		found = true
		ends.Protocol = l.Key
		for _, f := range l.Fields {
			text, _ := f.Value.(string)
			n, isNumber := f.Value.(uint64)
			switch l.Key + "/" + f.Name {
			case "ethernet/source", "linux_sll/source", "linux_sll2/source":
				ends.SrcMAC = text
			case "ethernet/destination":
				ends.DstMAC = text
			case "ipv4/source", "ipv6/source", "arp/sender IP":
				ends.Src = text
			case "ipv4/destination", "ipv6/destination", "arp/target IP":
				ends.Dst = text
			case "vlan/tag":
				if ends.VLAN == nil && isNumber {
					id := n & 0xfff
					ends.VLAN = &id
				}
			case "udp/source port", "tcp/source port", "sctp/source port":
				ends.SrcPort = &n
			case "udp/destination port", "tcp/destination port", "sctp/destination port":
				ends.DstPort = &n
			}
		}
	}
	if !found {
		return nil
	}
	return &ends
}
