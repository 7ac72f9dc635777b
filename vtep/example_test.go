package vtep_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
)

// A snapshot says what became of every frame.
func ExampleEndpoint_Status() {
	underlay := transport.NewNetwork(transport.NetworkConfig{})
	conn, err := underlay.Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	if err != nil {
		log.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	err = e.AddVNI(vtep.VNIConfig{
		VNI:    10,
		Device: tap.NewMemory(tap.MemoryConfig{Name: "vx10"}),
		Peers:  []netip.AddrPort{netip.MustParseAddrPort("192.168.52.204:4789")},
	})
	if err != nil {
		log.Fatal(err)
	}
	s := e.Status()
	fmt.Println(s.Local, s.Port)
	for _, v := range s.VNIs {
		fmt.Println(v.VNI, v.Device, "mtu", v.MTU, "peer", v.Peers[0].VTEP, "sent", v.Counters.TxFrames)
	}
	// Output:
	// 192.168.52.203 4789
	// 10 vx10 mtu 1450 peer 192.168.52.204 sent 0
}
