package tap_test

import (
	"encoding/binary"
	"fmt"
	"log"
	"strings"

	"github.com/govxlan/govxlan/tap"
)

// A device in memory: the program plays the host on one side, and reads and
// writes frames on the other, as it would on a TAP.
func ExampleMemory() {
	dev := tap.NewMemory(tap.MemoryConfig{Name: "mem0"})
	defer dev.Close()

	// The host sends ...
	for _, text := range []string{"ping", "pong"} {
		frame := "\xff\xff\xff\xff\xff\xff\x02\x42\x0a\x00\x01\x64\x88\xb5" + text
		if err := dev.HostSend([]byte(frame)); err != nil {
			log.Fatal(err)
		}
	}
	// ... and we read both with one call, and send the second one back.
	var batch tap.Batch
	if err := dev.Readers()[0].Read(&batch); err != nil {
		log.Fatal(err)
	}
	for _, f := range batch.Frames {
		fmt.Printf("read %d bytes: %s\n", len(f.Bytes), f.Bytes[14:])
	}
	back := batch.Frames[1].Bytes
	_, err := dev.NewWriter(0).Write([]tap.Vector{{Parts: [][]byte{back[:14], back[14:]}}})
	if err != nil {
		log.Fatal(err)
	}
	got, err := dev.HostReceive()
	fmt.Printf("host received %s, error %v\n", got[14:], err)
	// Output:
	// read 18 bytes: ping
	// read 18 bytes: pong
	// host received pong, error <nil>
}

// udpFrame is an Ethernet frame with a UDP datagram from 10.0.1.100:8080 to
// 10.0.1.103:8081. Its UDP checksum is only begun, with the sum of the pseudo
// header, as a network stack leaves it to a device that can do the rest.
func udpFrame(id uint16, payload string) []byte {
	const addresses = 0x0A00 + 0x0164 + 0x0A00 + 0x0167
	udp := uint16(8 + len(payload))
	f := []byte("\x02\x42\x0a\x00\x01\x67\x02\x42\x0a\x00\x01\x64\x08\x00")
	f = append(f, 0x45, 0)
	f = binary.BigEndian.AppendUint16(f, 20+udp)
	f = binary.BigEndian.AppendUint16(f, id)
	f = append(f, 0x40, 0, 64, 17)
	f = binary.BigEndian.AppendUint16(f, ^(0x4500 + 20 + udp + id + 0x4000 + 0x4011 + addresses))
	f = append(f, 10, 0, 1, 100, 10, 0, 1, 103)
	f = append(f, 0x1F, 0x90, 0x1F, 0x91)
	f = binary.BigEndian.AppendUint16(f, udp)
	f = binary.BigEndian.AppendUint16(f, addresses+17+udp)
	return append(f, payload...)
}

// A superframe of UDP datagrams, taken apart with room for a VXLAN header in
// front of each frame.
func ExampleSplitter() {
	frame := udpFrame(7, strings.Repeat(".", 2500))
	header := tap.Header{
		Flags: tap.NeedsChecksum, GSO: tap.GSOUDP, SegmentBytes: 1000,
		ChecksumStart: 34, ChecksumOffset: 6,
	}
	var s tap.Splitter
	if err := s.Init(&header, frame); err != nil {
		log.Fatal(err)
	}
	const headroom = 8
	fmt.Println(s.Segments(), "segments,", s.Stride(headroom), "bytes apart")

	buf := make([]byte, 65507)
	n, size := s.Next(buf, headroom, 128)
	fmt.Println(n, "frames in", size, "bytes")
	for i := range n {
		f := buf[i*1050+headroom : min((i+1)*1050, size)]
		fmt.Println("IPv4 length", binary.BigEndian.Uint16(f[16:]), "identification", binary.BigEndian.Uint16(f[18:]))
	}
	// Output:
	// 3 segments, 1050 bytes apart
	// 3 frames in 2650 bytes
	// IPv4 length 1028 identification 7
	// IPv4 length 1028 identification 8
	// IPv4 length 528 identification 9
}

// Datagrams that came one by one, put together for the network stack.
func ExampleCoalescer() {
	c := tap.Coalescer{MTU: 1450}
	for id := range uint16(3) {
		c.Add(udpFrame(id, strings.Repeat(".", 1000)), 0)
	}
	c.Add(udpFrame(3, strings.Repeat(".", 500)), 0)  // the last may be shorter,
	c.Add(udpFrame(4, strings.Repeat(".", 1000)), 0) // and then a new one begins
	for _, v := range c.Vectors() {
		fmt.Println(v.Len(), "bytes in", len(v.Parts), "parts, cut every", v.Header.SegmentBytes)
	}
	c.Reset()
	// Output:
	// 3542 bytes in 4 parts, cut every 1000
	// 1042 bytes in 1 parts, cut every 0
}

// A checksum that the network stack left to us.
func ExampleCompleteChecksum() {
	frame := udpFrame(1, "hello")
	header := tap.Header{Flags: tap.NeedsChecksum, ChecksumStart: 34, ChecksumOffset: 6}
	if err := tap.CompleteChecksum(&header, frame); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%#04x, flags %d\n", binary.BigEndian.Uint16(frame[40:]), header.Flags)
	// Output:
	// 0x6616, flags 0
}
