package vtep

import (
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// SuperframeBytes returns the tap.Config.SuperframeBytes with which a full
// superframe leaves as one train: as many segments of the MTU's size as one
// send takes, and not a few more that would need a second one (exactly so for
// MTUs from 1280 up).
func SuperframeBytes(mtu int) int {
	const (
		// TCP over IPv4 with time stamps; other headers are no shorter but
		// for bare TCP, whose segments are then as many or one fewer.
		headers = 20 + 32
		// The kernel keeps MAX_TCP_HEADER and one byte of gso_max_size for
		// headers, up to 320 bytes by its configuration (include/net/tcp.h).
		reserve = 321
	)
	segments := min(transport.MaxSegments, transport.MaxBytes/(vxlan.HeaderLen+vxlan.EthernetLen+max(mtu, 1)))
	return max(segments, 1)*max(mtu-headers, 1) + reserve
}
