package transport_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/govxlan/govxlan/transport"
)

// A train of three datagrams over a network in memory.
func Example() {
	underlay := transport.NewNetwork(transport.NetworkConfig{})
	a, err := underlay.Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := underlay.Listen(netip.MustParseAddrPort("192.168.52.204:4789"))
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	train := transport.Train{
		Buf:    []byte("firstothergo"),
		Stride: 5,
		Addr:   netip.MustParseAddrPort("192.168.52.204:4789"),
	}
	fmt.Println(train.Len(), "datagrams, the last of", len(train.Datagram(2)), "bytes")
	if _, err := a.NewSender().Send([]transport.Train{train}); err != nil {
		log.Fatal(err)
	}

	trains := make([]transport.Train, 8)
	n, err := b.Receivers()[0].Recv(trains)
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range trains[:n] {
		for i := range t.Len() {
			fmt.Printf("%q from %v\n", t.Datagram(i), t.Addr)
		}
	}
	// Output:
	// 3 datagrams, the last of 2 bytes
	// "first" from 192.168.52.203:4789
	// "other" from 192.168.52.203:4789
	// "go" from 192.168.52.203:4789
}

// A network can be as bad as a test wants it, and the same each time.
func ExampleNetwork() {
	underlay := transport.NewNetwork(transport.NetworkConfig{Loss: 0.5, Seed: 1})
	here, there := netip.MustParseAddrPort("10.0.0.1:4789"), netip.MustParseAddrPort("10.0.0.2:4789")
	a, err := underlay.Listen(here)
	if err != nil {
		log.Fatal(err)
	}
	defer a.Close()
	b, err := underlay.Listen(there)
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	s := a.NewSender()
	for i := range byte(10) {
		if _, err := s.Send([]transport.Train{{Buf: []byte{i}, Addr: there}}); err != nil {
			log.Fatal(err)
		}
	}
	trains := make([]transport.Train, 10)
	n, err := b.Receivers()[0].Recv(trains)
	if err != nil {
		log.Fatal(err)
	}
	var arrived []int
	for _, t := range trains[:n] {
		arrived = append(arrived, int(t.Buf[0]))
	}
	fmt.Println("arrived:", arrived)

	underlay.SetConfig(transport.NetworkConfig{MTU: 1472})
	_, err = s.Send([]transport.Train{{Buf: make([]byte, 1473), Addr: there}})
	fmt.Println(err)
	// Output:
	// arrived: [1 2 3 5 6 7 8]
	// datagram is longer than the underlay's MTU
}
