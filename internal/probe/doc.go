// Package probe is the frame by which one VTEP asks another whether it is there,
// and the answer to it: for `govxlan ping` and `govxlan doctor`. It does no I/O.
//
// A probe is an Ethernet frame in a VXLAN packet like any other, so that it goes
// the way of the frames that it stands for. Its source and its destination are
// one address, [MAC], which no station has:
//
//	 0  destination MAC     [MAC]
//	 6  source MAC          [MAC]
//	12  EtherType           0x88B6, IEEE 802 "local experimental"
//	14  "gvxp"
//	18  version             1
//	19  kind                1 request, 2 answer, 3 no answer wanted
//	20  came                of an answer: length of the request's frame, as it came
//	22  want                of a request: how long the answer's frame may be
//	24  id                  of who asks, 8 bytes
//	32  sequence number     4 bytes
//	36  CRC-32 (IEEE)       of the whole frame, with these 4 bytes zero
//	40  padding, up to the length that is asked about
//
// All numbers are big endian. Why it looks like that: docs/ping.md.
package probe
