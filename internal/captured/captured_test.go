package captured

import "testing"

// What is given is what it says: VXLAN headers with the I flag, Ethernet behind them.
func TestCaptured(t *testing.T) {
	vxlan, ethernet := 0, 0
	for _, d := range Datagrams(t) {
		if d[0]&0x08 != 0 {
			vxlan++
		}
	}
	for _, f := range Frames(t) {
		if kind := uint16(f[12])<<8 | uint16(f[13]); kind == 0x0800 || kind == 0x86DD || kind == 0x0806 || kind == 0x8100 {
			ethernet++
		}
	}
	if vxlan < 50 || ethernet < 50 {
		t.Errorf("%d VXLAN headers, %d frames", vxlan, ethernet)
	}
}
