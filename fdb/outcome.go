package fdb

// Outcome is what Learn made of one received frame.
type Outcome uint8

const (
	// Known: the entry was there with this remote. A learned one is
	// refreshed. Deliver the frame.
	Known Outcome = iota
	// Added: a new entry. Deliver the frame.
	Added
	// Moved: the entry pointed to another remote and now points to this
	// one. Deliver the frame.
	Moved
	// Static: a static entry says that this MAC is behind another remote.
	// The entry stays. Drop the frame.
	Static
	// Full: the MAC is new and the table has no place for another learned
	// entry. Deliver the frame.
	Full
	// Invalid: the source MAC is multicast or all-zero, or the remote cannot
	// be the source of a datagram. Nothing is learned. Drop the frame.
	Invalid
	// Held: the MAC moved too often (Damping), and is held behind another
	// remote for now. Drop the frame.
	Held
	// Limited: the MAC is new, and so were too many before it
	// (Table.SetLearnRate). Deliver the frame.
	Limited
)

// Drop reports whether the frame must not be delivered.
func (o Outcome) Drop() bool { return o == Static || o == Invalid || o == Held }

var outcomes = [...]string{"known", "added", "moved", "static", "full", "invalid", "held", "limited"}

// String returns the name in lower case.
func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o]
	}
	return "unknown outcome"
}
