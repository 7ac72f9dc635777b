package vxlan

import (
	"encoding/binary"

	"github.com/govxlan/govxlan/internal/checksum"
)

// ECN is the Explicit Congestion Notification field, the two low bits of the
// IPv4 TOS byte and of the IPv6 traffic class (RFC 3168 section 5).
type ECN uint8

// The four codepoints.
const (
	NotECT ECN = 0 // the transport does not speak ECN
	ECT1   ECN = 1 // ECN-capable transport, ECT(1)
	ECT0   ECN = 2 // ECN-capable transport, ECT(0)
	CE     ECN = 3 // congestion experienced
)

// String returns the name of RFC 3168: "Not-ECT", "ECT(1)", "ECT(0)", "CE".
func (e ECN) String() string {
	return [...]string{"Not-ECT", "ECT(1)", "ECT(0)", "CE"}[e&3]
}

// ECNVerdict says what to do with a packet whose inner and outer ECN fields were
// combined.
type ECNVerdict uint8

const (
	// ECNDeliver: deliver the packet.
	ECNDeliver ECNVerdict = iota
	// ECNAlert: deliver the packet and count it. Nobody uses this combination of
	// fields, so somebody on the way rewrites them: the combinations marked with
	// exclamation marks in figure 4 of RFC 6040.
	ECNAlert
	// ECNDrop: drop the packet and count it. It met congestion, and its transport
	// understands no signal of that but loss.
	ECNDrop
)

// String returns "deliver", "alert" or "drop".
func (v ECNVerdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

var verdictNames = [...]string{"deliver", "alert", "drop"}

// EncapECN returns the ECN field of the outer header for that of the inner one:
// a copy, the normal mode of RFC 6040 section 4.1. Frames that do not carry IP
// go out with [NotECT].
//
// (Linux sends ECT(0) for an inner CE, the older rule of RFC 3168.)
func EncapECN(inner ECN) ECN { return inner & 3 }

// DecapECN combines the outer ECN field of an arriving packet with its inner one
// into the field to deliver the inner packet with: figure 4 of RFC 6040 section
// 4.2. For [ECNDrop] the field is the inner one. Frames that do not carry IP
// have no inner field: deliver them as they are.
func DecapECN(outer, inner ECN) (ECN, ECNVerdict) {
	r := decapTable[outer&3][inner&3]
	return r.ecn, r.verdict
}

// decapTable is figure 4 of RFC 6040, turned round: a row for each outer field,
// in it the results for inner Not-ECT, ECT(1), ECT(0), CE.
var decapTable = [4][4]struct {
	ecn     ECN
	verdict ECNVerdict
}{
	NotECT: {{NotECT, ECNDeliver}, {ECT1, ECNDeliver}, {ECT0, ECNDeliver}, {CE, ECNDeliver}},
	ECT1:   {{NotECT, ECNAlert}, {ECT1, ECNDeliver}, {ECT1, ECNDeliver}, {CE, ECNAlert}},
	ECT0:   {{NotECT, ECNAlert}, {ECT1, ECNAlert}, {ECT0, ECNDeliver}, {CE, ECNDeliver}},
	CE:     {{NotECT, ECNDrop}, {CE, ECNDeliver}, {CE, ECNDeliver}, {CE, ECNDeliver}},
}

// SetECN writes the ECN field of the IP header of a frame, where [Inner.Parse]
// found it, and in.DSField with it. The checksum of an IPv4 header is brought
// along without reading the header again, so that a right one stays right and a
// wrong one wrong. A frame without an IP header stays as it is.
//
// in must be of this frame: SetECN panics if the header it tells of lies behind
// the end.
func SetECN(frame []byte, in *Inner, e ECN) {
	if in.L3 == 0 {
		return
	}
	p := frame[in.L3:]
	if p[0]>>4 == 4 {
		p = p[:IPv4Len]
		from := binary.BigEndian.Uint16(p[0:2])
		to := from&^3 | uint16(e&3)
		if from != to {
			p[1] = byte(to)
			binary.BigEndian.PutUint16(p[10:12], checksum.Update(binary.BigEndian.Uint16(p[10:12]), from, to))
		}
	} else {
		p[1] = p[1]&^0x30 | byte(e&3)<<4
	}
	in.DSField = in.DSField&^3 | uint8(e&3)
}
