package control_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// A program that runs an endpoint answers for it, and another one asks and
// changes it.
func Example() {
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "c.sock")

	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	if err != nil {
		log.Fatal(err)
	}
	endpoint, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		log.Fatal(err)
	}
	defer endpoint.Close()
	if err := endpoint.AddVNI(vtep.VNIConfig{VNI: 4097, Device: tap.NewMemory(tap.MemoryConfig{Name: "vx4097"})}); err != nil {
		log.Fatal(err)
	}
	server, err := control.Listen(path, endpoint, "1.0")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()

	client := control.NewClient(path)
	_, err = client.ChangeFDB(ctx, control.FDBChange{
		Verb: "append", // to the flood list
		Destination: control.Destination{
			VTEP: netip.MustParseAddr("192.168.52.204"),
		},
	})
	fmt.Println("peer added:", err)
	_, err = client.ChangeFDB(ctx, control.FDBChange{Verb: "del", MAC: vxlan.MAC{2}})
	fmt.Println("entry deleted:", err)
	status, err := client.Status(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(status.VNIs[0].Device, status.VNIs[0].Peers[0].VTEP)

	cancel()
	fmt.Println("ended:", <-ended)
	// Output:
	// peer added: <nil>
	// entry deleted: VNI 4097: delete 02:00:00:00:00:00: no such entry
	// vx4097 192.168.52.204
	// ended: <nil>
}
