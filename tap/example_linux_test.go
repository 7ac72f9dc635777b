package tap_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/govxlan/govxlan/tap"
)

// A real device, as root: 'ip addr show vx0' tells of it while this runs, and
// what the host sends to 10.0.1.0/24 is read here.
func ExampleOpen() {
	dev, err := tap.Open(tap.Config{
		Name:    "vx0",
		MTU:     1450,
		Addrs:   []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24")},
		Offload: tap.AllFeatures,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()
	fmt.Println(dev.Name(), dev.MAC(), "does", dev.Features())

	var batch tap.Batch
	r := dev.Readers()[0]
	for {
		if err := r.Read(&batch); err != nil {
			log.Fatal(err)
		}
		for _, f := range batch.Frames {
			fmt.Println(len(f.Bytes), "bytes, superframe:", f.Header.GSO != tap.GSONone)
		}
	}
}
