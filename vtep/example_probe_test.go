package vtep_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
)

// Is the far VTEP there, and how long may a packet to it be?
func ExampleEndpoint_NewProber() {
	underlay := transport.NewNetwork(transport.NetworkConfig{})
	a, _ := join(underlay, "192.168.52.203:4789", "192.168.52.204:4789")
	b, _ := join(underlay, "192.168.52.204:4789", "192.168.52.203:4789")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	go func() { ended <- b.Run(ctx) }()

	p, err := a.NewProber(4097, netip.MustParseAddrPort("192.168.52.204:4789"))
	if err != nil {
		log.Fatal(err)
	}
	sent, err := p.Send(vtep.Probe{Seq: 1, Size: 1464, AnswerSize: vtep.MinProbe})
	if err != nil {
		log.Fatal(err)
	}
	answer := <-p.Answers()
	fmt.Printf("%d bytes got there, %d came back, %v\n", answer.Came, answer.Size, answer.At.After(sent))
	p.Close()

	cancel()
	fmt.Println("ended:", <-ended, <-ended)
	// Output:
	// 1464 bytes got there, 60 came back, true
	// ended: <nil> <nil>
}
