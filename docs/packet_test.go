package docs

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/govxlan/govxlan/vxlan"
)

var updatePacket = flag.Bool("update-packet", false, "draw packet.svg anew")

// packetSVG draws the packet of the tutorial from the codec's constants.
func packetSVG() []byte {
	type part struct {
		name, what, color string
		bytes, width      int
	}
	parts := []part{
		{"outer Ethernet", "NIC to NIC", "#dbeafe", vxlan.EthernetLen, 110},
		{"outer IPv4", "VTEP to VTEP", "#dbeafe", vxlan.IPv4Len, 110},
		{"UDP", fmt.Sprintf("to port %d", vxlan.Port), "#dbeafe", vxlan.UDPLen, 90},
		{"VXLAN", "the VNI", "#fde68a", vxlan.HeaderLen, 90},
		{"inner Ethernet", "container to container", "#dcfce7", vxlan.EthernetLen, 150},
		{"what the container sent", fmt.Sprintf("MTU %d", 1500-vxlan.OverheadIPv4), "#dcfce7", 0, 190},
	}
	var b bytes.Buffer
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 200" font-family="sans-serif" font-size="12" text-anchor="middle">` + "\n")
	b.WriteString(`<rect width="760" height="200" fill="#ffffff"/>` + "\n")
	x, off := 10, 0
	for _, p := range parts {
		size := fmt.Sprintf("%d bytes", p.bytes)
		if p.bytes == 0 {
			size = "the rest"
		}
		mid := x + p.width/2
		fmt.Fprintf(&b, `<rect x="%d" y="40" width="%d" height="60" fill="%s" stroke="#334155"/>`+"\n", x, p.width, p.color)
		fmt.Fprintf(&b, `<text x="%d" y="62" font-weight="bold">%s</text><text x="%d" y="80">%s</text>`+"\n", mid, p.name, mid, p.what)
		fmt.Fprintf(&b, `<text x="%d" y="116" fill="#475569">%s</text><text x="%d" y="34" fill="#475569" font-size="11" text-anchor="start">%d</text>`+"\n", mid, size, x, off)
		x, off = x+p.width, off+p.bytes
	}
	fmt.Fprintf(&b, `<text x="210" y="150">%d bytes are added to each frame</text>`+"\n", vxlan.OverheadIPv4)
	fmt.Fprintf(&b, `<text x="210" y="170">1500 - %d = %d is the MTU that is left</text>`+"\n", vxlan.OverheadIPv4, 1500-vxlan.OverheadIPv4)
	fmt.Fprintf(&b, `<text x="580" y="150">flags, 3 reserved bytes, VNI in 3, 1 reserved</text>`+"\n")
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// TestPacketPicture: the picture has the sizes of the code.
func TestPacketPicture(t *testing.T) {
	want := packetSVG()
	if *updatePacket {
		if err := os.WriteFile("packet.svg", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	has, err := os.ReadFile("packet.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(has, want) {
		t.Error("packet.svg is not what the code says: go test ./docs -run TestPacketPicture -update-packet")
	}
}
