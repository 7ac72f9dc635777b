// Package neighbour answers for stations that are far away: it knows which MAC
// address an IP address has, reads ARP requests (RFC 826) and neighbour
// solicitations (RFC 4861 section 4.3), and writes the answers that the station
// itself would give.
//
//	var m neighbour.Message
//	if neighbour.Candidate(frame) {
//		m.Parse(frame)
//	}
//	if e, ok := table.Lookup(m.Target); ok && m.Kind.Asks() {
//		answer = m.AppendAnswer(answer[:0], frame, e.MAC, e.Router)
//	}
//
// It is pure: no I/O, no clock, no goroutine. Whether an answer is wanted is
// for the caller to judge; [Message] tells what that takes.
//
// # The table
//
// An entry is static, made by hand, or snooped, from what a station says of
// itself in an ARP or ND message ([Message.Claim]). Snooped entries move with
// their station, age, and are bounded in number; static ones do none of that.
// Lookup takes no lock and allocates nothing, and neither does Note for what the
// table knows already.
//
// # What is not told apart
//
// A table is of one VNI, as one subnet is: messages with VLAN tags are read and
// answered, but the same IP address in two VLANs of one VNI is one address here.
package neighbour
