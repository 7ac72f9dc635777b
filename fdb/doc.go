// Package fdb is the forwarding database of a VNI: it knows which VTEP each MAC
// address is behind, learns that from the frames that arrive (RFC 7348 section
// 4.1), and says who gets a copy of the frames that no single VTEP can be named
// for.
//
//	table := fdb.New(fdb.Config{})
//
//	// A frame came in from a VTEP.
//	if table.Learn(source, from, now).Drop() {
//		return
//	}
//
//	// A frame goes out.
//	if remote, ok := table.Select(destination, flowHash); ok {
//		send(frame, *remote)
//	} else {
//		for _, remote := range table.Replicas(destination) {
//			send(frame, remote)
//		}
//	}
//
// It has no I/O, no goroutine and no clock: the caller passes the time, as a
// duration since an origin of its choice, and calls Age now and then. Learning
// can be left off by not calling Learn.
//
// # Entries
//
// A learned entry follows its MAC: a frame from another VTEP moves it. It goes
// when no frame has come from the MAC for the ageing time, 300 s by default;
// sending to the MAC does not keep it. Until the sweep (Age) an expired entry is
// used and refreshed as before. The number of learned entries is bounded, by
// default at 65536 (Config.MaxEntries): in a full table known MACs still move,
// and new ones are delivered and not learned.
//
// A MAC that keeps moving can be held (Config.Damping): back where it was first, its
// entry neither moves nor ages for a while, and frames from its MAC that come from
// elsewhere are to be dropped. New MACs can be learned at a bounded rate
// (SetLearnRate); what is too much is delivered and not learned. Both are off unless
// asked for.
//
// A static entry is set by the user, does not age or move, and does not count
// against the bound. A frame from its MAC that comes from elsewhere is to be
// dropped: that is what protects a gateway's MAC from being taken over. A
// permanent entry is a static one that a flush may be told to keep. A dynamic
// one is set by the user too, and then ages and moves as a learned one.
//
// An entry may point to a nexthop group (SetNexthops) instead of a remote: each
// flow then goes to one remote of the group, by its hash.
//
// The entry of a group MAC has a list of remotes. The flood list is what the
// Linux kernel keeps under the all-zero MAC. Both are read with Replicas.
//
// All of this is how the Linux kernel's vxlan device behaves since 6.15, but:
// MaxEntries bounds learned entries alone, unless BoundAll is set; remotes of
// both IP families mix; frames from the remotes of a nexthop group are
// accepted, where the kernel drops all frames from such a MAC if it learns;
// group MACs take neither nexthop groups nor dynamic entries; and the time an
// entry was last used for sending is not kept, since writing it would cost
// every look-up a store into memory that all processors share.
//
// # Events
//
// Notify tells of every change, in order: who hears of all of them knows the
// table.
//
// # Concurrency
//
// All methods may be called at once. Lookup, Select, Replicas, Flood and All
// take no lock. Neither does Learn for a MAC that it knows behind the same remote, a
// static or held one, or one too many of a bounded rate; it writes to the entry once in 100 ms at most. Everything else
// takes turns under a mutex.
//
// # Memory and time
//
// The table is one array of 16-byte slots, kept at most five eighths full: 26 to
// 58 bytes an entry, 32 at the default bound, and up to four times as much while
// it empties, before it shrinks. A remote is kept once, however many entries
// lead to it. Remotes that no entry leads to any more go when the table is
// reorganised, which it is before there are more than 64 remotes, or an eighth
// of the slots, above those it had after the last time. Forged source addresses
// can therefore not fill the memory, nor can chosen MACs slow the table down:
// they are hashed with a secret of the table's own.
//
// Nanoseconds a call, MACs in random order, on a virtual machine of two AMD EPYC
// cores that had other work at the time: the best of twelve short rounds, and
// their median.
//
//	entries                               1024     65536     1048576
//	Lookup, hit                         6 /  9   13 / 21    52 /  97
//	Lookup, miss                        5 /  6   20 / 25    63 /  99
//	Lookup, each waiting for the last  18 / 20   33 / 41   186 / 218
//	Learn, known                       13 / 15   20 / 26    80 /  94
//	one load from as much memory        1 /  2    2 /  3    13 /  18
//
// A sweep of 65536 entries took 0.7 ms at best. It lets other writers in between
// its parts, and readers never wait for it.
//
// Stamps are 32 bits of 100 ms and go round after 13.6 years, without an effect
// on entries heard of in the last 6.8.
package fdb
