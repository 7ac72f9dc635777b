package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// testEtherType is for local experiments (IEEE 802): no protocol stack touches
// the frames that carry it.
const testEtherType = 0x88B5

var (
	broadcast = vxlan.MAC{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
	// tagQ and tagQinQ are VLAN tags as they stand between the addresses and
	// the EtherType.
	tagQ    = []byte{0x81, 0x00, 0x20, 0x64}
	tagQinQ = []byte{0x88, 0xA8, 0x00, 0xC8, 0x81, 0x00, 0x20, 0x64}
)

// station is a MAC address that no device has.
func station(n byte) vxlan.MAC { return vxlan.MAC{0x02, 0x5E, 0, 0, 0, n} }

// testFrame is an Ethernet frame of size bytes that only its number explains:
// the number comes first behind the header, the rest follows from it.
func testFrame(dst, src vxlan.MAC, tags []byte, size int, number uint32) []byte {
	f := make([]byte, 0, size)
	f = append(f, dst[:]...)
	f = append(f, src[:]...)
	f = append(f, tags...)
	f = binary.BigEndian.AppendUint16(f, testEtherType)
	f = binary.BigEndian.AppendUint32(f, number)
	random := rand.New(rand.NewPCG(uint64(number), uint64(size)))
	for len(f) < size {
		f = append(f, byte(random.Uint32()))
	}
	return f
}

// frameNumber returns the number of a test frame, and whether it is one.
func frameNumber(f []byte) (uint32, bool) {
	at := 12
	for len(f) >= at+6 && (f[at] == 0x81 && f[at+1] == 0x00 || f[at] == 0x88 && f[at+1] == 0xA8) {
		at += 4
	}
	if len(f) < at+6 || binary.BigEndian.Uint16(f[at:]) != testEtherType {
		return 0, false
	}
	return binary.BigEndian.Uint32(f[at+2:]), true
}

// recvTest returns the next test frame that arrives until the deadline, or nil.
func (p *packetPort) recvTest(deadline time.Time) []byte {
	p.t.Helper()
	for {
		f := p.recv(deadline)
		if f == nil {
			return nil
		}
		if _, ok := frameNumber(f); ok {
			return f
		}
	}
}

// expect wants exactly this frame to be the next test frame.
func (p *packetPort) expect(want []byte) {
	p.t.Helper()
	got := p.recvTest(deadline())
	if got == nil {
		p.t.Fatalf("a frame of %d bytes did not arrive", len(want))
	}
	if !bytes.Equal(got, want) {
		p.t.Fatalf("a frame arrived changed:\n got %x\nwant %x", got, want)
	}
}

// numbersUntil returns the numbers of the test frames that arrive up to and
// with the last one.
func (p *packetPort) numbersUntil(last uint32) []uint32 {
	p.t.Helper()
	var numbers []uint32
	limit := deadline()
	for {
		f := p.recvTest(limit)
		if f == nil {
			p.t.Fatalf("frame %d did not arrive, only %v", last, numbers)
		}
		n, _ := frameNumber(f)
		numbers = append(numbers, n)
		if n == last {
			return numbers
		}
	}
}

// carryAll sends frames at one port and wants them unchanged at the other, each
// once, a window at a time: the queues on the way are short.
func carryAll(from, to *packetPort, frames [][]byte) error {
	from.t.Helper()
	for now := range slices.Chunk(frames, 64) {
		for _, f := range now {
			from.send(f)
		}
		if err := to.arrive(now); err != nil {
			return err
		}
	}
	return nil
}

// arrive receives test frames that must be these, in whatever order: that of
// different flows is free, and a veth pair on a busy machine keeps none when
// the sender moves to another CPU.
func (p *packetPort) arrive(sent [][]byte) error {
	p.t.Helper()
	missing := make(map[string]bool)
	for _, f := range sent {
		missing[string(f)] = true
	}
	limit := deadline()
	for len(missing) > 0 {
		f := p.recvTest(limit)
		if f == nil {
			for m := range missing {
				return fmt.Errorf("%d frames did not arrive, one of %d bytes", len(missing), len(m))
			}
		}
		if !missing[string(f)] {
			return fmt.Errorf("a frame of %d bytes arrived that was not sent, or sent once and came twice: %x", len(f), f)
		}
		delete(missing, string(f))
	}
	return nil
}
