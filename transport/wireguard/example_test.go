package wireguard_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/transport/wireguard"
)

// Two ends on the loopback. The second one learns where the first is when that
// speaks.
func Example() {
	a, b := wireguard.NewPrivateKey(), wireguard.NewPrivateKey()
	end := func(own, other wireguard.Key, address, peer, more string) *wireguard.Conn {
		cfg, err := wireguard.Parse(strings.NewReader(fmt.Sprintf(`
			[Interface]
			PrivateKey = %v
			Address = %s
			[Peer]
			PublicKey = %v
			AllowedIPs = %s
			%s`, own, address, other.Public(), peer, more)))
		if err != nil {
			panic(err)
		}
		if err := cfg.Resolve(context.Background()); err != nil {
			panic(err)
		}
		c, err := wireguard.Listen(*cfg, wireguard.Options{})
		if err != nil {
			panic(err)
		}
		return c
	}
	second := end(b, a, "10.9.0.2/24", "10.9.0.1", "")
	defer second.Close()
	first := end(a, b, "10.9.0.1/24", "10.9.0.2", fmt.Sprintf("Endpoint = 127.0.0.1:%d", second.Tunnel().ListenPort))
	defer first.Close()

	to := netip.MustParseAddrPort("10.9.0.2:4789")
	if _, err := first.NewSender().Send([]transport.Train{{Buf: []byte("a VXLAN header, and a frame"), Addr: to}}); err != nil {
		panic(err)
	}
	trains := make([]transport.Train, 8)
	n, err := second.Receivers()[0].Recv(trains)
	fmt.Printf("%d from %v: %s %v\n", n, trains[0].Addr.Addr(), trains[0].Buf, err)
	// Output: 1 from 10.9.0.1: a VXLAN header, and a frame <nil>
}
