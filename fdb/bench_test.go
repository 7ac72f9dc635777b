package fdb

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// benchTable returns a table of n learned entries behind 16 VTEPs and their
// MACs in random order.
func benchTable(b testing.TB, n int) (*Table, []MAC, []uint8) {
	b.Helper()
	t := New(Config{MaxEntries: -1})
	r := rand.New(rand.NewPCG(1, 2))
	macs := make([]MAC, n)
	from := make([]uint8, n) // which of the remotes; small, so as not to be the cache miss measured
	for i := range macs {
		macs[i] = hostMAC(uint32(i))
		from[i] = uint8(i % 16)
	}
	r.Shuffle(n, func(i, j int) {
		macs[i], macs[j] = macs[j], macs[i]
		from[i], from[j] = from[j], from[i]
	})
	for i := range macs {
		if o := t.Learn(macs[i], benchRemotes[from[i]], 0); o != Added {
			b.Fatal(o)
		}
	}
	r.Shuffle(n, func(i, j int) {
		macs[i], macs[j] = macs[j], macs[i]
		from[i], from[j] = from[j], from[i]
	})
	runtime.GC() // of the arrays that it grew out of
	return t, macs, from
}

// hostMAC counts MACs up as Docker does from container addresses.
func hostMAC(n uint32) (mac MAC) {
	mac[0], mac[1] = 0x02, 0x42
	binary.BigEndian.PutUint32(mac[2:], 0x0a000000+n)
	return mac
}

func testRemote(n int) Remote {
	return Remote{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)}), 4789)}
}

var benchRemotes = func() (r [16]Remote) {
	for i := range r {
		r[i] = testRemote(i)
	}
	return r
}()

var benchSizes = []int{1, 1 << 10, 1 << 16, 1 << 20}

var sink *Remote

// Independent look-ups: the processor overlaps their cache misses, as it does
// for a batch of frames.
func BenchmarkLookup(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, macs, _ := benchTable(b, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r, ok := t.Lookup(macs[i])
				if !ok {
					b.Fatal("entry lost")
				}
				sink = r
				if i++; i == len(macs) {
					i = 0
				}
			}
		})
	}
}

// The floor under BenchmarkLookup: one load from a random slot of as much
// memory, with nothing to compute but where. What is above it, is ours.
func BenchmarkMemory(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			slots := make([]slot, slotsFor(n))
			for i := range slots {
				slots[i].key.Store(uint64(i))
			}
			where := make([]uint32, n)
			for i := range where {
				where[i] = rand.Uint32N(uint32(len(slots)))
			}
			i, sum := 0, uint64(0)
			for b.Loop() {
				sum += slots[where[i]].key.Load()
				if i++; i == n {
					i = 0
				}
			}
			runtime.KeepAlive(sum)
		})
	}
}

// Dependent look-ups: which MAC comes next is only known from the last result,
// so that each waits for the memory in full: the latency of one look-up alone.
// The MACs of a chain are computed, not read from a list, and so are not a
// second cache miss.
func BenchmarkLookupChain(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, _, _ := benchTable(b, n)
			b.ReportAllocs()
			next := uint32(0)
			for b.Loop() {
				r, ok := t.Lookup(hostMAC(next & uint32(n-1)))
				if !ok {
					b.Fatal("entry lost")
				}
				next = next*1664525 + 1013904223 + r.VNI // r.VNI is 0
			}
		})
	}
}

func BenchmarkLookupMiss(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, macs, _ := benchTable(b, n)
			for i := range macs {
				macs[i][1] = 0x43
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, ok := t.Lookup(macs[i]); ok {
					b.Fatal("found")
				}
				if i++; i == len(macs) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkLookupParallel(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, macs, _ := benchTable(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(len(macs))
				for pb.Next() {
					if _, ok := t.Lookup(macs[i]); !ok {
						b.Error("entry lost")
					}
					if i++; i == len(macs) {
						i = 0
					}
				}
			})
		})
	}
}

func BenchmarkLearnKnown(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, macs, from := benchTable(b, n)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if o := t.Learn(macs[i], benchRemotes[from[i]], 0); o != Known {
					b.Fatal(o)
				}
				if i++; i == len(macs) {
					i = 0
				}
			}
		})
	}
}

// Every frame in a new tick: each call writes the stamp.
func BenchmarkLearnRefresh(b *testing.B) {
	t, macs, from := benchTable(b, 1<<10)
	b.ReportAllocs()
	now := time.Duration(0)
	i := 0
	for b.Loop() {
		now += tick
		if o := t.Learn(macs[i], benchRemotes[from[i]], now); o != Known {
			b.Fatal(o)
		}
		if i++; i == len(macs) {
			i = 0
		}
	}
}

func BenchmarkLearnKnownParallel(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, macs, from := benchTable(b, n)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(len(macs))
				for pb.Next() {
					if o := t.Learn(macs[i], benchRemotes[from[i]], 0); o != Known {
						b.Error(o)
					}
					if i++; i == len(macs) {
						i = 0
					}
				}
			})
		})
	}
}

// New MACs into a growing table, rebuilds included.
func BenchmarkLearnAdd(b *testing.B) {
	t := New(Config{MaxEntries: -1})
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		mac := MAC{2, 1}
		binary.BigEndian.PutUint32(mac[2:], n)
		if o := t.Learn(mac, testRemote(0), 0); o != Added {
			b.Fatal(o)
		}
		n++
	}
}

// A MAC that comes from another source address each time: the worst a sender
// of forged datagrams can do to the list of remotes.
func BenchmarkLearnMoved(b *testing.B) {
	t, macs, _ := benchTable(b, 1<<16)
	b.ReportAllocs()
	n := uint32(0)
	for b.Loop() {
		n++
		from := testRemote(0)
		from.VNI = n
		if o := t.Learn(macs[0], from, 0); o != Moved {
			b.Fatal(o)
		}
	}
}

// A sweep that finds nothing to remove.
func BenchmarkAge(b *testing.B) {
	for _, n := range benchSizes[1:] {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, _, _ := benchTable(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if t.Age(time.Second) != 0 {
					b.Fatal("removed")
				}
			}
		})
	}
}

func BenchmarkAll(b *testing.B) {
	t, _, _ := benchTable(b, 1<<16)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for range t.All(0) {
			n++
		}
		if n != 1<<16 {
			b.Fatal(n)
		}
	}
}
