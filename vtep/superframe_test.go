package vtep

import (
	"testing"

	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
)

// What the stack builds within SuperframeBytes fits one train, with and without
// time stamps, over IPv4 and IPv6, whatever the kernel reserves for headers.
func TestSuperframeBytesFillsOneTrain(t *testing.T) {
	for _, mtu := range []int{1280, 1430, 1450, 1500, 8950, 9000, 20000, 65000} {
		limit := SuperframeBytes(mtu)
		for _, headers := range []int{20 + 20, 20 + 32, 40 + 20, 40 + 32} {
			for _, reserve := range []int{161, 257, 321} {
				payload, mss := limit-reserve, mtu-headers
				segments := payload / mss
				stride := vxlan.HeaderLen + vxlan.EthernetLen + mtu
				if segments > 1 && (segments > transport.MaxSegments || segments*stride > transport.MaxBytes) {
					t.Errorf("MTU %d, headers %d, reserve %d: %d segments of %d bytes are more than one train", mtu, headers, reserve, segments, stride)
				}
				if full := transport.MaxBytes / stride; full <= transport.MaxSegments && segments < full-1 {
					t.Errorf("MTU %d, headers %d, reserve %d: %d segments where %d would fit", mtu, headers, reserve, segments, full)
				}
			}
		}
	}
}
