package vtep_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// What arrives from a VTEP that is no peer is dropped, and a capture says so.
func ExampleEndpoint_Capture() {
	underlay := transport.NewNetwork(transport.NetworkConfig{})
	a, devA := join(underlay, "192.168.52.203:4789", "192.168.52.204:4789")
	b, _ := join(underlay, "192.168.52.204:4789", "192.168.52.205:4789")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	go func() { ended <- b.Run(ctx) }()

	c, err := b.Capture(vtep.CaptureConfig{CaptureFilter: vtep.CaptureFilter{VNIs: []vxlan.VNI{4097}, Drops: true}})
	if err != nil {
		log.Fatal(err)
	}
	frame := "\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x00\x01\x64\x88\xb5hello"
	if err := devA.HostSend([]byte(frame)); err != nil {
		log.Fatal(err)
	}
	f, err := c.Next(ctx)
	if err != nil {
		log.Fatal(err)
	}
	packet, err := vxlan.ParsePacket(f.Bytes) // from the outer Ethernet header on
	fmt.Println(f.Direction, f.Peer.Addr(), f.VNI, f.Verdict)
	fmt.Printf("%v to %v: %s, error %v\n", packet.Src, packet.Dst, packet.Frame[14:], err)

	c.Stop()
	_, err = c.Next(ctx)
	fmt.Println("stopped:", errors.Is(err, vtep.ErrClosed), "missed:", c.Missed())
	cancel()
	fmt.Println("ended:", <-ended, <-ended)
	// Output:
	// in 192.168.52.203 4097 rx_drop_unknown_vtep
	// 192.168.52.203 to 192.168.52.204: hello, error <nil>
	// stopped: true missed: 0
	// ended: <nil> <nil>
}
