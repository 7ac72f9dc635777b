package daemon

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// deriveMAC makes the TAP's address out of what is stable about it, so that a
// restart does not make neighbours forget it: locally administered, unicast.
func deriveMAC(vni vxlan.VNI, local netip.Addr) vxlan.MAC {
	seed := binary.BigEndian.AppendUint32([]byte("govxlan"), uint32(vni))
	sum := sha256.Sum256(append(seed, local.AsSlice()...))
	mac := vxlan.MAC{0x02}
	copy(mac[1:], sum[:])
	return mac
}
