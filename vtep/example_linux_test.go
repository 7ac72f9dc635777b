package vtep_test

import (
	"context"
	"log"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// One of two hosts that are to be one Ethernet: as root on 192.168.52.203, and
// the same with the addresses exchanged on 192.168.52.204. Afterwards
// 10.0.1.103 answers to pings.
func Example_realDevice() {
	conn, err := transport.ListenUDP(transport.UDPConfig{
		Local: []netip.Addr{netip.MustParseAddr("192.168.52.203")},
	})
	if err != nil {
		log.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		log.Fatal(err)
	}
	dev, err := tap.Open(tap.Config{
		Name:    "vx4097",
		MTU:     1500 - vxlan.OverheadIPv4,
		Addrs:   []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24")},
		Offload: tap.AllFeatures,
	})
	if err != nil {
		log.Fatal(err)
	}
	err = e.AddVNI(vtep.VNIConfig{
		VNI:    4097,
		Device: dev,
		Peers:  []netip.AddrPort{netip.MustParseAddrPort("192.168.52.204:4789")},
		Ageing: 5 * time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	// Ctrl-C ends it; the device goes with it.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := e.Run(ctx); err != nil {
		log.Fatal(err)
	}
}
