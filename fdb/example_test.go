package fdb_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/fdb"
)

func remote(s string) fdb.Remote { return fdb.Remote{Addr: netip.MustParseAddrPort(s)} }

func Example() {
	table := fdb.New(fdb.Config{Ageing: time.Minute})
	table.AddFlood(remote("192.0.2.1:4789"))
	table.AddFlood(remote("192.0.2.2:4789"))
	host := fdb.MAC{0x02, 0x42, 0x0a, 0x00, 0x01, 0x67}

	send := func() {
		if r, ok := table.Lookup(host); ok {
			fmt.Println("to", r)
		} else {
			fmt.Println("to all of", table.Replicas(host))
		}
	}
	send()
	// A frame from the host arrives, ten seconds after the start.
	fmt.Println(table.Learn(host, remote("192.0.2.2:4789"), 10*time.Second))
	send()
	// It stays silent.
	fmt.Println("removed", table.Age(71*time.Second))
	send()
	// Output:
	// to all of [192.0.2.1:4789 192.0.2.2:4789]
	// added
	// to 192.0.2.2:4789
	// removed 1
	// to all of [192.0.2.1:4789 192.0.2.2:4789]
}

func ExampleTable_Learn() {
	table := fdb.New(fdb.Config{MaxEntries: 1})
	host := fdb.MAC{0x02, 0, 0, 0, 0, 1}
	other := fdb.MAC{0x02, 0, 0, 0, 0, 2}
	gateway := fdb.MAC{0x02, 0, 0, 0, 0, 3}
	here, there := remote("192.0.2.1:4789"), remote("192.0.2.2:4789")
	if err := table.Add(gateway, here); err != nil {
		fmt.Println(err)
	}

	show := func(o fdb.Outcome) { fmt.Printf("%v, drop %v\n", o, o.Drop()) }
	show(table.Learn(host, here, 0))
	show(table.Learn(host, here, time.Second))
	show(table.Learn(host, there, time.Second))
	show(table.Learn(other, here, time.Second))
	show(table.Learn(gateway, there, time.Second))
	show(table.Learn(fdb.MAC{0x01, 0x00, 0x5e}, here, time.Second))
	// Output:
	// added, drop false
	// known, drop false
	// moved, drop false
	// full, drop false
	// static, drop true
	// invalid, drop true
}

func ExampleTable_All() {
	table := fdb.New(fdb.Config{})
	table.Learn(fdb.MAC{0x02, 0, 0, 0, 0, 9}, remote("192.0.2.1:4789"), 4*time.Second)
	if err := table.Add(fdb.MAC{0x02, 0, 0, 0, 0, 1}, remote("[2001:db8::1]:4789")); err != nil {
		fmt.Println(err)
	}
	for e := range table.All(10 * time.Second) {
		fmt.Println(net.HardwareAddr(e.MAC[:]), e.Remote, e.Kind, e.Age)
	}
	// Output:
	// 02:00:00:00:00:01 [2001:db8::1]:4789 static 0s
	// 02:00:00:00:00:09 192.0.2.1:4789 learned 6s
}

func ExampleTable_Append() {
	table := fdb.New(fdb.Config{})
	group := fdb.MAC{0x01, 0x00, 0x5e, 0, 0, 5}
	for _, r := range []string{"192.0.2.1:4789", "192.0.2.2:4789"} {
		if err := table.Append(group, remote(r)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(table.Replicas(group))
	err := table.Replace(group, remote("192.0.2.3:4789"))
	fmt.Println(errors.Is(err, fdb.ErrGroup))
	fmt.Println(err)
	// Output:
	// [192.0.2.1:4789 192.0.2.2:4789]
	// true
	// fdb: replace 01:00:5e:00:00:05 to 192.0.2.3:4789: a group MAC has a list of remotes; append and delete them one by one
}

func ExampleDamping() {
	table := fdb.New(fdb.Config{Damping: fdb.Damping{Moves: 3, Hold: time.Minute}})
	host := fdb.MAC{0x02, 0, 0, 0, 0, 1}
	here, there := remote("192.0.2.1:4789"), remote("192.0.2.2:4789")
	for i, from := range []fdb.Remote{here, there, here, there, here, there} {
		o := table.Learn(host, from, time.Duration(i)*time.Second)
		fmt.Printf("from %v: %v, drop %v\n", from, o, o.Drop())
	}
	fmt.Println("a minute later:", table.Learn(host, there, 63*time.Second))
	// Output:
	// from 192.0.2.1:4789: added, drop false
	// from 192.0.2.2:4789: moved, drop false
	// from 192.0.2.1:4789: moved, drop false
	// from 192.0.2.2:4789: held, drop true
	// from 192.0.2.1:4789: known, drop false
	// from 192.0.2.2:4789: held, drop true
	// a minute later: moved
}
