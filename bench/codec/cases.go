package codec

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/govxlan/govxlan/internal/checksum"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vxlan"
)

// Case is one thing to measure.
type Case struct {
	Group, Name string
	// Bytes that one operation deals with, for the throughput; 0 where that
	// means nothing.
	Bytes int
	// prepare makes what the case works on, sees that it works, and returns a
	// function that does the operation n times.
	prepare func() (func(n int), error)
}

// Cases are all of them, group by group.
func Cases() []Case {
	var all []Case
	for _, group := range [][]Case{encapsulation(), decapsulation(), inner(), table(), superframes(), checksums()} {
		all = append(all, group...)
	}
	return all
}

// results are where the loops put what they get, in memory that the compiler must
// take for read by others: so it cannot leave the work out.
type results struct {
	frame  []byte
	header vxlan.Header
	inner  vxlan.Inner
	packet vxlan.Packet
	sum    uint64
	ok     bool
}

// keep is the reader.
//
//go:noinline
func keep(*results) {}

var (
	hostA4, hostB4 = netip.MustParseAddr("192.168.52.203"), netip.MustParseAddr("192.168.52.204")
	hostA6, hostB6 = netip.MustParseAddr("fd00::203"), netip.MustParseAddr("fd00::204")
)

const vni = 4097

// outer is the stack from host A to host B.
func outer(v6, zeroChecksum bool) *vxlan.Outer {
	o := &vxlan.Outer{
		SrcMAC: vxlan.MAC{2, 0x42, 0xc0, 0xa8, 0x34, 0xcb}, DstMAC: vxlan.MAC{2, 0x42, 0xc0, 0xa8, 0x34, 0xcc},
		Src: hostA4, Dst: hostB4, TTL: 64, SrcPort: 50000, DstPort: vxlan.Port, VNI: vni, ZeroChecksum: zeroChecksum,
	}
	if v6 {
		o.Src, o.Dst = hostA6, hostB6
	}
	return o
}

// packet is a whole VXLAN packet around a frame.
func packet(v6, zeroChecksum bool, frame []byte) ([]byte, error) {
	o := outer(v6, zeroChecksum)
	pkt := append(make([]byte, o.Len()), frame...)
	return pkt, o.Put(pkt)
}

// touched is how much of a packet an operation reads: without a checksum not the
// frame, and a throughput would say nothing.
func touched(size int, checksum bool) int {
	if checksum {
		return size
	}
	return 0
}

func encapsulation() []Case {
	stack := func(name string, v6, zero bool, size int) Case {
		return Case{"encapsulate", name, touched(size, !zero), func() (func(int), error) {
			pkt, err := packet(v6, zero, tcpFrame(v6, size-tcpHeaders(v6)))
			if err != nil {
				return nil, err
			}
			t, err := outer(v6, zero).Compile()
			if err != nil {
				return nil, err
			}
			if err := t.Put(pkt, 50000, 0, 0); err != nil {
				return nil, err
			}
			return func(n int) {
				for i := range n {
					// It cannot fail: it has just succeeded.
					_ = t.Put(pkt, uint16(i), 0, uint16(i))
				}
			}, nil
		}}
	}
	return []Case{
		{"encapsulate", "VXLAN header", 0, func() (func(int), error) {
			into := &results{frame: make([]byte, vxlan.HeaderLen)}
			return func(n int) {
				for i := range n {
					vxlan.Header{VNI: vxlan.VNI(i) & vxlan.MaxVNI}.Put(into.frame)
				}
				keep(into)
			}, nil
		}},
		stack("IPv4 stack, no UDP checksum", false, true, 1464),
		stack("IPv4 stack, checksum of 78 B", false, false, 78),
		stack("IPv4 stack, checksum of 1464 B", false, false, 1464),
		stack("IPv6 stack, checksum of 1464 B", true, false, 1464),
	}
}

func decapsulation() []Case {
	whole := func(name string, v6, verify bool, size int) Case {
		return Case{"decapsulate", name, touched(size, verify), func() (func(int), error) {
			pkt, err := packet(v6, !verify, tcpFrame(v6, size-tcpHeaders(v6)))
			if err != nil {
				return nil, err
			}
			p, err := vxlan.ParsePacket(pkt)
			if err != nil {
				return nil, err
			}
			if verify && !p.ChecksumOK() {
				return nil, errors.New("the checksum is wrong")
			}
			into := new(results)
			return func(n int) {
				for range n {
					into.packet, _ = vxlan.ParsePacket(pkt)
					if verify {
						into.ok = into.packet.ChecksumOK()
					}
				}
				keep(into)
			}, nil
		}}
	}
	return []Case{
		{"decapsulate", "VXLAN header", 0, func() (func(int), error) {
			pkt := append(make([]byte, vxlan.HeaderLen), tcpFrame(false, 1410)...)
			vxlan.Header{VNI: vni}.Put(pkt)
			if _, _, err := vxlan.Parse(pkt); err != nil {
				return nil, err
			}
			into := new(results)
			return func(n int) {
				for range n {
					into.header, into.frame, _ = vxlan.Parse(pkt)
				}
				keep(into)
			}, nil
		}},
		whole("IPv4 stack", false, false, 1464),
		whole("IPv6 stack", true, false, 1464),
		whole("IPv4 stack, checksum of 78 B", false, true, 78),
		whole("IPv4 stack, checksum of 1464 B", false, true, 1464),
	}
}

func inner() []Case {
	parse := func(name string, frame []byte) Case {
		return Case{"inner frame", name, 0, func() (func(int), error) {
			into := new(results)
			if err := into.inner.Parse(frame); err != nil {
				return nil, err
			}
			return func(n int) {
				for range n {
					_ = into.inner.Parse(frame)
				}
				keep(into)
			}, nil
		}}
	}
	return []Case{
		parse("TCP, IPv4", tcpFrame(false, 1000)),
		parse("TCP, IPv6", tcpFrame(true, 1000)),
		parse("UDP, IPv4", udpFrame(1000)),
		parse("ARP", arpFrame()),
	}
}

// superBytes is the payload of a superframe: as much as fits, in segments of
// what an overlay MTU of 1450 leaves.
const (
	segmentTCP = 1450 - 20 - 20
	superTCP   = 46 * segmentTCP
	superUDP   = 64 * 64 // 64 datagrams of 64 bytes
)

func superframes() []Case {
	split := func(name string, h tap.Header, frame []byte) Case {
		return Case{"split", name, len(frame), func() (func(int), error) {
			dst := make([]byte, 128<<10)
			var s tap.Splitter
			if err := s.Init(&h, frame); err != nil {
				return nil, err
			}
			segments := s.Segments()
			if n, _ := s.Next(dst, vxlan.HeaderLen, segments); n != segments {
				return nil, fmt.Errorf("%d of %d segments", n, segments)
			}
			return func(n int) {
				for range n {
					_ = s.Init(&h, frame)
					_, _ = s.Next(dst, vxlan.HeaderLen, segments)
				}
			}, nil
		}}
	}
	join := func(name string, h tap.Header, frame []byte) Case {
		return Case{"coalesce", name, len(frame), func() (func(int), error) {
			frames, err := segments(h, frame)
			if err != nil {
				return nil, err
			}
			// The first frame's headers become those of the superframe.
			head := append([]byte(nil), frames[0][:h.HeaderBytes]...)
			c := tap.Coalescer{MTU: 1450}
			once := func() int {
				copy(frames[0], head)
				c.Reset()
				for _, f := range frames {
					c.Add(f, 0)
				}
				return len(c.Vectors())
			}
			if n := once(); n != 1 {
				return nil, fmt.Errorf("%d frames became %d, want 1", len(frames), n)
			}
			return func(n int) {
				for range n {
					once()
				}
			}, nil
		}}
	}
	tcpHeader, tcp := superTCPFrame()
	udpHeader, udp := superUDPFrame()
	return []Case{
		split("TCP, 64 KB into 46", tcpHeader, tcp),
		split("UDP, 64 of 64 B", udpHeader, udp),
		join("TCP, 46 to 64 KB", tcpHeader, tcp),
		join("UDP, 64 of 64 B", udpHeader, udp),
	}
}

func checksums() []Case {
	sum := func(name string, size int) Case {
		return Case{"checksum", name, size, func() (func(int), error) {
			b := make([]byte, size)
			fill(b)
			into := new(results)
			return func(n int) {
				for range n {
					into.sum = checksum.Sum(b, 0)
				}
				keep(into)
			}, nil
		}}
	}
	return []Case{sum("64 B", 64), sum("1450 B", 1450), sum("64 KB", 64<<10)}
}
