package codec

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/govxlan/govxlan/fdb"
)

// tableSizes are the entries of the forwarding tables.
var tableSizes = []int{1, 1000, 100_000, 1_000_000}

// table measures the forwarding table with MACs in random order: in a large
// table each look-up misses the processor's caches.
func table() []Case {
	var lookups, learns []Case
	for _, size := range tableSizes {
		fill := sync.OnceValues(func() (*contents, error) { return filled(size) })
		lookups = append(lookups, Case{"fdb lookup", entries(size), 0, func() (func(int), error) {
			c, err := fill()
			at := 0
			return func(n int) {
				for range n {
					if _, ok := c.table.Lookup(c.macs[at]); !ok {
						panic("an entry is lost")
					}
					if at++; at == size {
						at = 0
					}
				}
			}, err
		}})
		learns = append(learns, Case{"fdb learn", "known, " + entries(size), 0, func() (func(int), error) {
			c, err := fill()
			at := 0
			return func(n int) {
				for range n {
					if c.table.Learn(c.macs[at], c.from[at], 0) != fdb.Known {
						panic("an entry is lost")
					}
					if at++; at == size {
						at = 0
					}
				}
			}, err
		}})
	}
	cases := append(lookups, learns...)
	return append(cases, Case{"fdb learn", "new, up to " + entries(newEntries), 0, func() (func(int), error) {
		return func(n int) {
			// A fresh table whenever it is full: its growth is part of the cost.
			for n > 0 {
				t := fdb.New(fdb.Config{MaxEntries: -1, Ageing: time.Minute})
				for i := range min(n, newEntries) {
					t.Learn(mac(uint32(i)), remote(0), 0)
				}
				n -= newEntries
			}
		}, nil
	}})
}

// newEntries is how far a table grows.
const newEntries = 100_000

func entries(n int) string {
	switch {
	case n == 1:
		return "1 entry"
	case n >= 1000:
		text := ""
		for ; n >= 1000; n /= 1000 {
			text = fmt.Sprintf(",%03d", n%1000) + text
		}
		return fmt.Sprintf("%d%s entries", n, text)
	}
	return fmt.Sprintf("%d entries", n)
}

// contents is a table of learned entries behind 16 VTEPs, and what is in it, in
// another random order than that in which it was learned.
type contents struct {
	table *fdb.Table
	macs  []fdb.MAC
	from  []fdb.Remote
}

func filled(n int) (*contents, error) {
	c := &contents{fdb.New(fdb.Config{MaxEntries: -1}), make([]fdb.MAC, n), make([]fdb.Remote, n)}
	for i := range n {
		c.macs[i], c.from[i] = mac(uint32(i)), remote(i%16)
	}
	r := rand.New(rand.NewPCG(1, 2))
	shuffle := func() {
		r.Shuffle(n, func(i, j int) {
			c.macs[i], c.macs[j] = c.macs[j], c.macs[i]
			c.from[i], c.from[j] = c.from[j], c.from[i]
		})
	}
	shuffle()
	for i := range n {
		if o := c.table.Learn(c.macs[i], c.from[i], 0); o != fdb.Added {
			return nil, fmt.Errorf("entry %d of %d: %v", i, n, o)
		}
	}
	shuffle()
	return c, nil
}

// mac counts up as Docker does from container addresses.
func mac(n uint32) (m fdb.MAC) {
	m[0], m[1] = 0x02, 0x42
	binary.BigEndian.PutUint32(m[2:], 0x0a000000+n)
	return m
}

func remote(n int) fdb.Remote {
	return fdb.Remote{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 52, byte(n)}), 4789)}
}
