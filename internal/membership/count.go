package membership

import (
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
)

// Counters of a membership, since it started.
type Counters struct {
	Joined    uint64 // members that came, or came back
	Failed    uint64 // that stopped answering
	Left      uint64 // that said goodbye
	Facts     uint64 // changes of what others have
	WrongKey  uint64 // packets and connections that this node's key does not open
	Foreign   uint64 // those of other programs, or malformed before they are opened
	Malformed uint64 // messages of members that make no sense
	Refused   uint64 // what is above a limit
}

type counts struct {
	joined, failed, left, facts, wrongKey, foreign, malformed, refused atomic.Uint64
}

// Counters returns them.
func (m *Membership) Counters() Counters {
	c := &m.counts
	return Counters{
		Joined: c.joined.Load(), Failed: c.failed.Load(), Left: c.left.Load(), Facts: c.facts.Load(),
		WrongKey: c.wrongKey.Load(), Foreign: c.foreign.Load(), Malformed: c.malformed.Load(), Refused: c.refused.Load(),
	}
}

// reports takes the log of memberlist, which is the only place where it says what it
// could not read.
type reports struct{ m *Membership }

func (r *reports) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	switch {
	case !strings.HasPrefix(text, "[ERR]"):
	case strings.Contains(text, "no installed keys could decrypt"), strings.Contains(text, "encryption is configured"):
		r.m.counts.wrongKey.Add(1)
	case strings.Contains(text, "label"), strings.Contains(text, "unsupported encryption version"),
		strings.Contains(text, "too small to decrypt"), strings.Contains(text, "empty payload"), strings.Contains(text, "failed to receive"):
		r.m.counts.foreign.Add(1)
	}
	r.m.log.Debug(text, zap.String("from", "memberlist"))
	return len(b), nil
}
