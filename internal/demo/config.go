package demo

import (
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// Config says what to show. The zero value of a field is the default.
type Config struct {
	VNI       vxlan.VNI     // 4097
	Near, Far EndKind       // EndGovxlan
	Pings     int           // for the round-trip times: 20
	Transfer  time.Duration // 2 s
	Keep      bool          // leave it all standing
	Version   string        // for the report
}

func (c Config) withDefaults() Config {
	if c.VNI == 0 {
		c.VNI = 4097 // the first that Docker gives to a network
	}
	if c.Near == "" {
		c.Near = EndGovxlan
	}
	if c.Far == "" {
		c.Far = EndGovxlan
	}
	if c.Pings == 0 {
		c.Pings = 20
	}
	if c.Transfer == 0 {
		c.Transfer = 2 * time.Second
	}
	return c
}

// Part is a part of the report that has just become complete.
type Part int

// The parts, in the order in which they become complete.
const (
	PartStage Part = iota
	PartFirstContact
	PartWalk
	PartPacket
	PartFDB
	PartRTT
	PartTransfer
	PartRemoved // or kept
)

// label is the demo's part of the names of namespaces.
const label = "demo"

// The names of the devices, on both hosts.
const (
	underlayDev  = "ens160"
	containerDev = "eth0"
	bridgeDev    = "br0"
	portDev      = "veth0" // the container's port of the bridge
	vtepDev      = "vxlan0"
)

const underlayMTU = 1500

// overlayMTU is what is left of the underlay's MTU.
const overlayMTU = underlayMTU - vxlan.OverheadIPv4

// payload makes a frame of 98 bytes, as ping(8) does: 14 Ethernet, 20 IPv4, 8
// ICMP, 56 of data.
const payload = "govxlan demo: from one container to the other and back.."

// macOf makes a MAC address of two bytes and an IPv4 address.
func macOf(a, b byte, ip netip.Addr) vxlan.MAC {
	four := ip.As4()
	return vxlan.MAC{a, b, four[0], four[1], four[2], four[3]}
}
