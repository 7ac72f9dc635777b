// Package captured has packets that the Linux kernel's vxlan device really sent, as
// seeds of fuzz tests. It is for tests.
package captured

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/gopacket/pcapgo"
)

// files are those of internal/explain/testdata with Ethernet as their link type, whose
// packets are whole: IPv4 and IPv6 underlays, with checksums and without, group policy,
// fragments, superframes.
var files = []string{"v4-wire", "v4-offload", "v6-wire", "v6-offload", "gbp-8472", "groups", "fragments", "superframe"}

// headers of an outer packet, by the version of IP: Ethernet, IP, UDP.
var headers = map[byte]int{4: 14 + 20 + 8, 6: 14 + 40 + 8}

// Packets are outer packets, from the Ethernet header on.
func Packets(t testing.TB) (packets [][]byte) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	for _, name := range files {
		b, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../explain/testdata", name+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := pcapgo.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for {
			p, _, err := r.ReadPacketData()
			if err != nil {
				break // the end: what is cut short is not there
			}
			packets = append(packets, p)
		}
	}
	if len(packets) < 50 {
		t.Fatalf("only %d packets", len(packets))
	}
	return packets
}

// Datagrams are the payloads of the outer UDP, from the VXLAN header on.
func Datagrams(t testing.TB) (datagrams [][]byte) {
	t.Helper()
	for _, p := range Packets(t) {
		if len(p) < 15 {
			continue
		}
		if n := headers[p[14]>>4]; n > 0 && len(p) > n+8 {
			datagrams = append(datagrams, p[n:])
		}
	}
	return datagrams
}

// Frames are inner Ethernet frames.
func Frames(t testing.TB) (frames [][]byte) {
	t.Helper()
	for _, d := range Datagrams(t) {
		if len(d) >= 8+14 {
			frames = append(frames, d[8:])
		}
	}
	return frames
}
