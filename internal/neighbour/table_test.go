package neighbour

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// TestModel runs random changes on a table and on a map.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const ageing = 10 * time.Second
		most := rapid.IntRange(1, 40).Draw(t, "most")
		table := New(Config{Snoop: true, MaxSnooped: most, Ageing: ageing})
		type line struct {
			Entry
			heard time.Duration
		}
		model := make(map[netip.Addr]line)
		snooped := func() (n int) {
			for _, l := range model {
				if !l.Static {
					n++
				}
			}
			return n
		}
		var now time.Duration
		ips := rapid.Custom(func(t *rapid.T) netip.Addr {
			n := byte(rapid.IntRange(1, 60).Draw(t, "n"))
			if rapid.Bool().Draw(t, "v6") {
				return netip.AddrFrom16([16]byte{0xFD, 15: n})
			}
			return netip.AddrFrom4([4]byte{10, 0, 1, n})
		})
		macs := rapid.Custom(func(t *rapid.T) vxlan.MAC {
			return vxlan.MAC{2, 5: byte(rapid.IntRange(1, 3).Draw(t, "mac"))}
		})
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				ip, mac, router := ips.Draw(t, "ip"), macs.Draw(t, "mac"), rapid.Bool().Draw(t, "router")
				was, had := model[ip]
				if err := table.Add(ip, mac, router); (err == nil) == (had && was.Static) || err != nil && !errors.Is(err, ErrExists) {
					t.Fatalf("add %v: %v, had %+v", ip, err, was)
				} else if err == nil {
					model[ip] = line{Entry{IP: ip, MAC: mac, Static: true, Router: router, Here: had && was.MAC == mac && was.Here}, 0}
				}
			},
			"replace": func(t *rapid.T) {
				ip, mac := ips.Draw(t, "ip"), macs.Draw(t, "mac")
				was, had := model[ip]
				if err := table.Replace(ip, mac, false); err != nil {
					t.Fatal(err)
				}
				model[ip] = line{Entry{IP: ip, MAC: mac, Static: true, Here: had && was.MAC == mac && was.Here}, 0}
			},
			"delete": func(t *rapid.T) {
				ip := ips.Draw(t, "ip")
				_, had := model[ip]
				if err := table.Del(ip); (err == nil) != had || err != nil && !errors.Is(err, ErrNotFound) {
					t.Fatalf("delete %v: %v", ip, err)
				}
				delete(model, ip)
			},
			"note": func(t *rapid.T) {
				c := Claim{IP: ips.Draw(t, "ip"), MAC: macs.Draw(t, "mac"), TellsRouter: rapid.Bool().Draw(t, "tells")}
				c.Router = c.TellsRouter && rapid.Bool().Draw(t, "router")
				c.Weak = c.TellsRouter && rapid.Bool().Draw(t, "weak")
				here := rapid.Bool().Draw(t, "here")
				was, had := model[c.IP]
				want := Added
				next := line{Entry{IP: c.IP, MAC: c.MAC, Router: c.Router, Here: here}, now}
				switch {
				case !had && snooped() >= most:
					want = Full
				case !had:
				case was.Static && was.MAC == c.MAC:
					want, next = Known, was
					next.Here = here
				case was.Static:
					want = Kept
				case was.MAC != c.MAC && c.Weak:
					want = Kept
				case was.MAC == c.MAC && (!c.TellsRouter || was.Router == c.Router):
					want = Known
					next.Router = was.Router
				default:
					want = Changed
				}
				if got := table.Note(c, here, now); got != want {
					t.Fatalf("note %+v: outcome %d, want %d; had %+v", c, got, want, was)
				}
				if want != Full && want != Kept {
					model[c.IP] = next
				}
			},
			"age": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(0, 12).Draw(t, "s")) * time.Second
				removed := 0
				for ip, l := range model {
					if !l.Static && now-l.heard > ageing {
						delete(model, ip)
						removed++
					}
				}
				if n := table.Age(now); n != removed {
					t.Fatalf("%d aged, want %d", n, removed)
				}
			},
			"": func(t *rapid.T) {
				if table.Len() != len(model) {
					t.Fatalf("%d entries, want %d", table.Len(), len(model))
				}
				var want []Entry
				for ip, l := range model {
					got, ok := table.Lookup(ip)
					if !ok || got != l.Entry {
						t.Fatalf("%v: %+v %v, want %+v", ip, got, ok, l.Entry)
					}
					if !l.Static {
						l.Age = now - l.heard
					}
					want = append(want, l.Entry)
				}
				slices.SortFunc(want, func(a, b Entry) int { return a.IP.Compare(b.IP) })
				if got := slices.Collect(table.All(now)); !slices.Equal(got, want) {
					t.Fatalf("table\n%+v, want\n%+v", got, want)
				}
				if n := len(*table.current.Load()); n > 8*minSlots && n > 16*(len(model)+1) {
					t.Fatalf("%d slots for %d entries", n, len(model))
				}
			},
		})
	})
}

func TestAddresses(t *testing.T) {
	table := New(Config{})
	for _, s := range []string{"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "ff02::1"} {
		if err := table.Add(netip.MustParseAddr(s), target, false); !errors.Is(err, ErrAddress) {
			t.Errorf("add %s: %v", s, err)
		}
	}
	if err := table.Add(netip.Addr{}, target, false); !errors.Is(err, ErrAddress) {
		t.Errorf("add no address: %v", err)
	}
	for _, mac := range []vxlan.MAC{{}, {1, 2, 3, 4, 5, 6}, vxlan.Broadcast} {
		if err := table.Add(target4, mac, false); !errors.Is(err, ErrAddress) {
			t.Errorf("add %v: %v", mac, err)
		}
	}
	// The forms that people write are one address; a solicitation for the IPv6
	// form of an IPv4 address asks for another.
	must(t, table.Add(netip.MustParseAddr("::ffff:10.0.1.103"), target, false))
	must(t, table.Add(netip.MustParseAddr("fe80::1%eth0"), other, true))
	if e, ok := table.Lookup(target4); !ok || e.MAC != target || !e.Static {
		t.Errorf("%+v %v", e, ok)
	}
	if e, ok := table.Lookup(netip.MustParseAddr("::ffff:10.0.1.103")); ok {
		t.Errorf("%+v", e)
	}
	if e, ok := table.Lookup(netip.MustParseAddr("fe80::1")); !ok || e.MAC != other || !e.Router {
		t.Errorf("%+v %v", e, ok)
	}
	must(t, table.Del(target4))
	if _, ok := table.Lookup(netip.Addr{}); ok {
		t.Error("no address has an entry")
	}
	if err := table.Del(netip.Addr{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("delete no address: %v", err)
	}
}

// Without snooping a table learns nothing but where its stations are.
func TestWithoutSnooping(t *testing.T) {
	table := New(Config{})
	must(t, table.Add(target4, target, false))
	if o := table.Note(Claim{IP: asker4, MAC: asker}, false, 0); o != Nothing || table.Len() != 1 {
		t.Errorf("outcome %d, %d entries", o, table.Len())
	}
	for _, here := range []bool{true, false} {
		table.Note(Claim{IP: target4, MAC: target}, here, 0)
		table.Note(Claim{IP: target4, MAC: other}, !here, 0) // somebody else's claim
		if e, _ := table.Lookup(target4); e.Here != here || e.MAC != target {
			t.Errorf("%+v, want here=%v", e, here)
		}
	}
}

func TestNeverAges(t *testing.T) {
	table := New(Config{Snoop: true, Ageing: -1, MaxSnooped: -1})
	for i := range 1000 {
		if o := table.Note(Claim{IP: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), MAC: target}, false, 0); o != Added {
			t.Fatalf("outcome %d", o)
		}
	}
	if n := table.Age(1e6 * time.Hour); n != 0 || table.Len() != 1000 {
		t.Errorf("%d aged, %d left", n, table.Len())
	}
}

// Readers find what is there throughout, whatever writers do to the rest.
func TestConcurrently(t *testing.T) {
	table := New(Config{Snoop: true, Ageing: time.Millisecond})
	must(t, table.Add(target4, target, false))
	stop := make(chan struct{})
	errs := make(chan error, 4)
	var readers, writers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if e, ok := table.Lookup(target4); !ok || e.MAC != target {
					errs <- fmt.Errorf("%+v %v", e, ok)
					return
				}
				table.Lookup(target6)
			}
		})
	}
	for w := range 2 {
		writers.Go(func() {
			for i := range 3000 {
				now := time.Duration(i) * time.Microsecond
				ip := netip.AddrFrom4([4]byte{10, byte(1 + w), byte(i >> 8), byte(i)})
				table.Note(Claim{IP: ip, MAC: other}, i%2 == 0, now)
				table.Note(Claim{IP: target4, MAC: target}, i%2 == 0, now)
				table.Note(Claim{IP: target6, MAC: vxlan.MAC{2, 5: byte(i)}}, false, now)
				if i%500 == 499 {
					table.Age(now + time.Second)
					for range table.All(now) {
						break
					}
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	select {
	case err := <-errs:
		t.Error(err)
	default:
	}
	table.Age(time.Hour)
	if table.Len() != 1 {
		t.Errorf("%d entries are left", table.Len())
	}
}
