package vtep_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
)

// join makes an endpoint with VNI 4097 on a device in memory.
func join(underlay *transport.Network, self, peer string) (*vtep.Endpoint, *tap.Memory) {
	conn, err := underlay.Listen(netip.MustParseAddrPort(self))
	if err != nil {
		log.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		log.Fatal(err)
	}
	dev := tap.NewMemory(tap.MemoryConfig{Name: "vx4097"})
	err = e.AddVNI(vtep.VNIConfig{VNI: 4097, Device: dev, Peers: []netip.AddrPort{netip.MustParseAddrPort(peer)}})
	if err != nil {
		log.Fatal(err)
	}
	return e, dev
}

// Two endpoints in memory, and a frame from one to the other: no device, no
// socket, no root.
func Example() {
	underlay := transport.NewNetwork(transport.NetworkConfig{})
	a, devA := join(underlay, "192.168.52.203:4789", "192.168.52.204:4789")
	b, devB := join(underlay, "192.168.52.204:4789", "192.168.52.203:4789")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	go func() { ended <- b.Run(ctx) }()

	// To everybody, from 02:42:0a:00:01:64, of the type for experiments.
	frame := "\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x00\x01\x64\x88\xb5hello"
	if err := devA.HostSend([]byte(frame)); err != nil {
		log.Fatal(err)
	}
	got, err := devB.HostReceive()
	fmt.Printf("%s, error %v\n", got[14:], err)
	for _, entry := range b.FDB() {
		fmt.Println(entry.VNI, entry.MAC, entry.VTEP, entry.Port, entry.Kind)
	}

	cancel()
	fmt.Println("ended:", <-ended, <-ended)
	// Output:
	// hello, error <nil>
	// 4097 00:00:00:00:00:00 192.168.52.203 4789 flood
	// 4097 02:42:0a:00:01:64 192.168.52.203 4789 learned
	// ended: <nil> <nil>
}
