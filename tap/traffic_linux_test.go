package tap

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"golang.org/x/sys/unix"
)

// Frames of every length cross the device unchanged, in both directions.
func TestFramesCrossUnchanged(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, w := sniff(t, ns, "tap0"), d.NewWriter(0)
		var sizes []int
		for n := 14; n < 100; n++ {
			sizes = append(sizes, n)
		}
		sizes = append(sizes, 576, 1000, 1464, 1513, 1514)

		// To the host: in one piece, and in several.
		for i, n := range sizes {
			want := testFrame(n, i)
			f := bytes.Clone(want)
			parts := [][]byte{f}
			if i%2 == 1 {
				parts = [][]byte{f[:10], nil, f[10 : n/2+5], f[n/2+5:]}
			}
			if n, err := w.Write([]Vector{{Parts: parts}}); n != 1 || err != nil {
				t.Fatalf("write of %d bytes: %d, %v", len(f), n, err)
			}
			if got := s.receive(t); !bytes.Equal(got, want) {
				t.Errorf("%d bytes to the host:\n got %x\nwant %x", n, got, want)
			}
		}
		// Many with one Write, in their order.
		var many []Vector
		for i := range 300 {
			many = append(many, Vector{Parts: [][]byte{testFrame(64, i)}})
		}
		if n, err := w.Write(many); n != len(many) || err != nil {
			t.Fatalf("write of %d frames: %d, %v", len(many), n, err)
		}
		for i := range many {
			if got := s.receive(t); !bytes.Equal(got, testFrame(64, i)) {
				t.Fatalf("frame %d of many is %x", i, got)
			}
		}

		// From the host, VLAN tags in them or not.
		r := d.Readers()[0]
		for i, n := range sizes {
			f := testFrame(n, i)
			s.send(t, f)
			if got := readFrames(t, d, r, 1); !bytes.Equal(got[0], f) {
				t.Errorf("%d bytes from the host:\n got %x\nwant %x", n, got[0], f)
			}
		}
		tagged := slices.Insert(testFrame(200, 7), 12, 0x81, 0x00, 0x20, 0x05)
		s.send(t, tagged)
		var b Batch
		late := time.AfterFunc(patience, func() { d.Close() })
		defer late.Stop()
		for got := false; !got; {
			if err := r.Read(&b); err != nil {
				t.Fatal(err)
			}
			for _, f := range b.Frames {
				if len(f.Bytes) > 14 && f.Bytes[12] == 0x81 && f.Bytes[13] == 0 {
					got = true
					if !bytes.Equal(f.Bytes, tagged) {
						t.Errorf("tagged frame:\n got %x\nwant %x", f.Bytes, tagged)
					}
				}
			}
		}
	})
}

// What waits at the device comes with few Reads, in its order.
func TestReadTakesBatches(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Offload: offload})
		s, r := sniff(t, ns, "tap0"), d.Readers()[0]
		const count = 300 // the device's queue holds 500 or 1000
		for i := range count {
			s.send(t, testFrame(1000, i))
		}
		late := time.AfterFunc(patience, func() { d.Close() })
		defer late.Stop()
		next, reads := 0, 0
		var b Batch
		for next < count {
			if err := r.Read(&b); err != nil {
				t.Fatalf("%d of %d frames: %v", next, count, err)
			}
			reads++
			if len(b.Frames) > batchFrames {
				t.Errorf("batch of %d frames, at most %d are allowed", len(b.Frames), batchFrames)
			}
			for _, f := range b.Frames {
				if !isOurs(f.Bytes) {
					continue
				}
				if !bytes.Equal(f.Bytes, testFrame(1000, next)) {
					t.Fatalf("frame %d is %x", next, f.Bytes[:20])
				}
				next++
			}
		}
		if reads > count/10 {
			t.Errorf("%d frames took %d reads", count, reads)
		}
	})
}

// Several queues: everything arrives once, at one of them, and a flow's frames
// all at the same one, in their order.
func TestQueuesShareTheFrames(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", Queues: 3, Offload: offload, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.1.100/24")}})
		must(t, ns.AddNeighbour("tap0", "10.0.1.103", "02:00:00:00:00:02"))
		type seen struct {
			queue, flow int
			number      byte
		}
		frames := make(chan seen, 1000)
		var readers sync.WaitGroup
		for q, r := range d.Readers() {
			readers.Go(func() {
				var b Batch
				for r.Read(&b) == nil {
					for _, f := range b.Frames {
						if len(f.Bytes) == 14+20+8+2 && f.Bytes[14+9] == protoUDP {
							frames <- seen{q, int(f.Bytes[42]), f.Bytes[43]}
						}
					}
				}
			})
		}
		const flows, each = 32, 10
		for i := range flows {
			c, err := ns.Dial("udp4", "10.0.1.103:7")
			must(t, err)
			for k := range each {
				if _, err := c.Write([]byte{byte(i), byte(k)}); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
		}
		at := make(map[int]int)
		next := make(map[int]byte)
		queues := make(map[int]int)
		late := time.After(patience)
		for range flows * each {
			select {
			case f := <-frames:
				if q, ok := at[f.flow]; ok && q != f.queue {
					t.Errorf("flow %d is at queues %d and %d", f.flow, q, f.queue)
				}
				if f.number != next[f.flow] {
					t.Errorf("flow %d: frame %d where %d is next", f.flow, f.number, next[f.flow])
				}
				at[f.flow] = f.queue
				next[f.flow] = f.number + 1
				queues[f.queue]++
			case <-late:
				t.Fatalf("the rest does not arrive: %v", queues)
			}
		}
		if len(queues) < 2 {
			t.Errorf("32 flows use %d of 3 queues", len(queues))
		}
		must(t, d.Close())
		readers.Wait()

		// Writers are spread over the queues.
		other := openIn(t, ns, Config{Name: "tap1", Queues: 3, Offload: offload})
		used := make(map[*queue]bool)
		for i := range 6 {
			used[other.NewWriter(i).(*writer).q] = true
		}
		if len(used) != 3 {
			t.Errorf("6 writers use %d of 3 queues", len(used))
		}
	})
}

// cable carries frames from one device to another, as a tunnel would.
type cable struct {
	from, to *linuxDevice
	// merge puts the plain frames together again before they are written.
	merge bool

	gsoRead, gsoWritten, frames, segments atomic.Int64
	kinds                                 sync.Map // GSO kinds read
	err                                   error
}

// run ends when either device does.
func (c *cable) run() {
	var b Batch
	var s Splitter
	merger := Coalescer{MTU: c.to.MTU(), Off: !c.merge}
	r, w := c.from.Readers()[0], c.to.NewWriter(0)
	buf := make([]byte, 0, 1<<20)
	flush := func() error {
		vectors := merger.Vectors()
		for i := range vectors {
			if vectors[i].Header.GSO != GSONone {
				c.gsoWritten.Add(1)
			}
		}
		_, err := w.Write(vectors)
		merger.Reset()
		buf = buf[:0]
		return err
	}
	add := func(f []byte) {
		c.frames.Add(1)
		if len(f) > 14+c.from.MTU() {
			c.err = errors.Join(c.err, fmt.Errorf("frame of %d bytes", len(f)))
		}
		// The merger keeps what it is given until it is written.
		start := len(buf)
		buf = append(buf, f...)
		merger.Add(buf[start:len(buf):len(buf)], 0)
	}
	segment := make([]byte, MaxFrame)
	for {
		if err := r.Read(&b); err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.err = errors.Join(c.err, err)
			}
			return
		}
		for i := range b.Frames {
			f := &b.Frames[i]
			if f.Header.GSO == GSONone {
				if err := CompleteChecksum(&f.Header, f.Bytes); err != nil {
					c.err = errors.Join(c.err, err)
					return
				}
				add(f.Bytes)
				continue
			}
			c.gsoRead.Add(1)
			c.kinds.Store(f.Header.GSO&^GSOECN, true)
			if err := s.Init(&f.Header, f.Bytes); err != nil {
				c.err = errors.Join(c.err, fmt.Errorf("%+v: %w", f.Header, err))
				return
			}
			for s.Segments() > 0 {
				_, n := s.Next(segment, 0, 1)
				c.segments.Add(1)
				add(segment[:n])
			}
			if cap(buf)-len(buf) < MaxFrame {
				if err := flush(); err != nil && !errors.Is(err, net.ErrClosed) {
					c.err = errors.Join(c.err, err)
					return
				}
			}
		}
		if err := flush(); err != nil && !errors.Is(err, net.ErrClosed) {
			c.err = errors.Join(c.err, err)
			return
		}
	}
}

// two are two hosts whose devices are joined by cables.
type two struct {
	a, b         *netlab.Namespace
	devA, devB   *linuxDevice
	there, back  *cable
	cables       sync.WaitGroup
	addrA, addrB netip.Addr
	v6           bool
}

// join makes two hosts: a sends with this offload, b receives with that.
func join(t *testing.T, v6 bool, a, b Features) *two {
	t.Helper()
	lab := netlabtest.New(t, "tap")
	p := &two{a: netlabtest.Namespace(t, lab, "a"), b: netlabtest.Namespace(t, lab, "b"), v6: v6}
	prefixA, prefixB := netip.MustParsePrefix("10.0.1.100/24"), netip.MustParsePrefix("10.0.1.103/24")
	if v6 {
		prefixA, prefixB = netip.MustParsePrefix("fd00:1::100/64"), netip.MustParsePrefix("fd00:1::103/64")
	}
	p.addrA, p.addrB = prefixA.Addr(), prefixB.Addr()
	p.devA = openIn(t, p.a, Config{Name: "tap0", MTU: testMTU, Offload: a, Addrs: []netip.Prefix{prefixA}})
	p.devB = openIn(t, p.b, Config{Name: "tap0", MTU: testMTU, Offload: b, Addrs: []netip.Prefix{prefixB}})
	p.awaitAddresses(t)
	p.there = &cable{from: p.devA, to: p.devB, merge: b != 0}
	p.back = &cable{from: p.devB, to: p.devA, merge: a != 0}
	p.cables.Go(p.there.run)
	p.cables.Go(p.back.run)
	t.Cleanup(func() { p.close(t) })
	return p
}

// awaitAddresses waits until the addresses can be used: with IPv6 that is a
// moment after the device came up.
func (p *two) awaitAddresses(t *testing.T) {
	t.Helper()
	for ns, a := range map[*netlab.Namespace]netip.Addr{p.a: p.addrA, p.b: p.addrB} {
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			c, err := ns.ListenPacket("udp", netip.AddrPortFrom(a, 0).String())
			if err == nil {
				c.Close()
				break
			}
			if time.Since(start) > patience {
				t.Fatal(err)
			}
		}
	}
}

// close takes the cables out, and says what went wrong in them.
func (p *two) close(t *testing.T) {
	t.Helper()
	must(t, p.devA.Close())
	must(t, p.devB.Close())
	p.cables.Wait()
	for _, c := range []*cable{p.there, p.back} {
		if c.err != nil {
			t.Errorf("cable: %v", c.err)
		}
	}
}

// snmp is a counter of /proc/net/snmp or snmp6 in a namespace.
func snmp(t *testing.T, ns *netlab.Namespace, group, name string) int {
	t.Helper()
	var text []byte
	must(t, ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		six, err := os.ReadFile("/proc/thread-self/net/snmp6")
		text = append(text, six...)
		return err
	}))
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch {
		case f[0] == group+name: // snmp6
			n, err := strconv.Atoi(f[1])
			must(t, err)
			return n
		case f[0] != group+":":
		case names == nil:
			names = f
		default:
			n, err := strconv.Atoi(f[slices.Index(names, name)])
			must(t, err)
			return n
		}
	}
	t.Fatalf("no counter %s %s", group, name)
	return 0
}

// A TCP connection over the cable: superframes of the sender's stack are taken
// apart right, and what the receiver's stack gets, plain or merged again, it
// takes. Both kernels verify checksums; neither sees a wrong one.
func TestTCPThroughDevices(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, m := range []struct {
			name string
			a, b Features
		}{
			{"superframes taken apart", AllFeatures, 0},
			{"superframes merged again", AllFeatures, AllFeatures},
			{"plain frames merged", 0, AllFeatures},
			{"checksums alone", VnetHeader | Checksum, VnetHeader | Checksum},
			{"plain", 0, 0},
		} {
			t.Run(fmt.Sprintf("v6=%v,%s", v6, m.name), func(t *testing.T) {
				p := join(t, v6, m.a, m.b)
				l, err := p.b.Listen("tcp", netip.AddrPortFrom(p.addrB, 5201).String())
				must(t, err)
				defer l.Close()
				const size = 8 << 20
				result := make(chan [sha256.Size]byte, 1)
				go func() {
					c, err := l.Accept()
					if err != nil {
						close(result)
						return
					}
					defer c.Close()
					h := sha256.New()
					if _, err := io.Copy(h, c); err == nil {
						result <- [sha256.Size]byte(h.Sum(nil))
					}
					close(result)
				}()
				c, err := p.a.Dial("tcp", l.Addr().String())
				must(t, err)
				defer c.Close()
				must(t, c.SetDeadline(time.Now().Add(patience)))
				h := sha256.New()
				chunk := pattern(1<<16, 3)
				for i := range size / len(chunk) {
					binary.BigEndian.PutUint32(chunk, uint32(i))
					h.Write(chunk)
					if _, err := c.Write(chunk); err != nil {
						t.Fatalf("after %d KB: %v", i*len(chunk)>>10, err)
					}
				}
				must(t, c.(*net.TCPConn).CloseWrite())
				select {
				case got, ok := <-result:
					if !ok || got != [sha256.Size]byte(h.Sum(nil)) {
						t.Error("the data differs")
					}
				case <-time.After(patience):
					t.Fatal("the transfer does not end")
				}
				for _, ns := range []*netlab.Namespace{p.a, p.b} {
					if n := snmp(t, ns, "Tcp", "InCsumErrors"); n != 0 {
						t.Errorf("%s counts %d wrong TCP checksums", ns.Label(), n)
					}
					if n := snmp(t, ns, "Ip", "InHdrErrors"); n != 0 {
						t.Errorf("%s counts %d wrong IP headers", ns.Label(), n)
					}
				}
				kind := uint8(GSOTCPv4)
				if v6 {
					kind = GSOTCPv6
				}
				_, read := p.there.kinds.Load(kind)
				if read != (m.a&(TSO4|TSO6) != 0) {
					t.Errorf("superframes read: %v (%d)", read, p.there.gsoRead.Load())
				}
				if wrote := p.there.gsoWritten.Load(); (wrote > 0) != (m.b != 0) {
					t.Errorf("%d superframes written", wrote)
				}
			})
		}
	}
}

// Datagrams of a socket with UDP_SEGMENT come as superframes where the kernel
// can, and arrive one by one either way.
func TestUDPSegmentsThroughDevices(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, m := range []struct {
			name string
			a, b Features
		}{
			{"superframes taken apart", AllFeatures, 0},
			{"superframes merged again", AllFeatures, AllFeatures},
			{"without USO", AllFeatures &^ USO, AllFeatures &^ USO},
			{"plain", 0, 0},
		} {
			t.Run(fmt.Sprintf("v6=%v,%s", v6, m.name), func(t *testing.T) {
				p := join(t, v6, m.a, m.b)
				network := "udp4"
				if v6 {
					network = "udp6"
				}
				l, err := p.b.ListenPacket(network, netip.AddrPortFrom(p.addrB, 5201).String())
				must(t, err)
				defer l.Close()
				must(t, l.SetDeadline(time.Now().Add(patience)))
				c, err := p.a.Dial(network, l.LocalAddr().String())
				must(t, err)
				defer c.Close()
				for _, size := range []int{1, 100, 1000, 1390} {
					for _, count := range []int{1, 2, 20} {
						for _, last := range []int{1, size} {
							data := pattern((count-1)*size+last, size+count)
							must(t, sendSegments(c.(*net.UDPConn), data, size))
							b := make([]byte, 2000)
							for len(data) > 0 {
								n, _, err := l.ReadFrom(b)
								if err != nil {
									t.Fatalf("%d x %d: %d bytes are missing: %v", count, size, len(data), err)
								}
								want := data[:min(size, len(data))]
								if !bytes.Equal(b[:n], want) {
									t.Fatalf("%d x %d: a datagram of %d bytes differs", count, size, n)
								}
								data = data[len(want):]
							}
						}
					}
				}
				group := "Udp"
				if v6 {
					group = "Udp6"
				}
				if n := snmp(t, p.b, group, "InCsumErrors"); n != 0 {
					t.Errorf("%d wrong UDP checksums", n)
				}
				_, read := p.there.kinds.Load(uint8(GSOUDP))
				if want := p.devA.Features()&USO != 0; read != want {
					t.Errorf("superframes of UDP read: %v, want %v", read, want)
				}
				if wrote := p.there.gsoWritten.Load(); p.devA.Features()&p.devB.Features()&USO != 0 && wrote == 0 {
					t.Error("no superframe was written")
				}
			})
		}
	}
}

// sendSegments sends data with one call as datagrams of size bytes.
func sendSegments(c *net.UDPConn, data []byte, size int) error {
	oob := make([]byte, unix.CmsgSpace(2))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(oob[unix.CmsgLen(0):], uint16(size))
	_, _, err := c.WriteMsgUDP(data, oob, nil)
	return err
}

// What a device lacks is done by its writer: a superframe to a device without
// offloads arrives as frames, with full checksums.
func TestWriterStandsInForMissingFeatures(t *testing.T) {
	for _, features := range []Features{0, VnetHeader, VnetHeader | Checksum, AllFeatures &^ USO} {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", MTU: testMTU, Offload: features})
		s, w := sniff(t, ns, "tap0"), d.NewWriter(0)
		fl := flow{udp: true, src: 1, dst: 2}
		data := pattern(2500, 0)
		h, f := super(t, fl, 0, 9, data, 1000)
		partial := fl.frame(t, 0, 20, pattern(33, 0))
		makePartial(fl, partial)
		needs := Header{Flags: NeedsChecksum, ChecksumStart: uint16(fl.l4()), ChecksumOffset: udpChecksum}
		if n, err := w.Write([]Vector{{Header: h, Parts: [][]byte{f[:42], f[42:]}}, {Header: needs, Parts: [][]byte{partial}}}); n != 2 || err != nil {
			t.Fatalf("features %v: wrote %d, %v", features, n, err)
		}
		want := [][]byte{
			fl.frame(t, 0, 9, data[:1000]), fl.frame(t, 0, 10, data[1000:2000]), fl.frame(t, 0, 11, data[2000:]),
			fl.frame(t, 0, 20, pattern(33, 0)),
		}
		if features&Checksum != 0 {
			// The stack gets it as it is, and may show it so.
			makePartial(fl, want[3])
		}
		for i := range want {
			if got := s.receiveUDP(t); !bytes.Equal(got, want[i]) {
				t.Errorf("features %v, frame %d:\n got %x\nwant %x", features, i, got, want[i])
			}
		}
		must(t, d.Close())
	}
}

// receiveUDP returns the next frame with UDP over IPv4 that reaches the host.
func (s *sniffer) receiveUDP(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, MaxFrame)
	for {
		n, from, err := unix.Recvfrom(s.fd, b, 0)
		if err != nil {
			t.Fatalf("nothing reached the host in %v: %v", patience, err)
		}
		if from.(*unix.SockaddrLinklayer).Pkttype != unix.PACKET_OUTGOING && n > 34 && b[12] == 8 && b[23] == protoUDP {
			return b[:n]
		}
	}
}

// A kernel that refuses superframes of one kind when writing gets them taken
// apart from then on; the frame that found out is not lost. One that no kernel
// takes, for it has too many segments, changes nothing for the others.
func TestRefusedSuperframes(t *testing.T) {
	for _, tc := range []struct {
		name     string
		segments int
		spoil    func(*Header)
		lost     Features
	}{
		// The kernel checks the hint, Splitter does not need it.
		{"three segments", 3, func(h *Header) { h.HeaderBytes = 60000 }, USO},
		{"too many segments", 200, func(*Header) {}, 0},
	} {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", MTU: testMTU, Offload: AllFeatures})
		s, w := sniff(t, ns, "tap0"), d.NewWriter(0)
		fl := flow{udp: true, src: 1, dst: 2}
		data := pattern(2*tc.segments, 0)
		h, f := super(t, fl, 0, 9, data, 2)
		h.HeaderBytes = 42
		tc.spoil(&h)
		before := d.Features()
		if n, err := w.Write([]Vector{{Header: h, Parts: [][]byte{f}}}); n != 1 || err != nil {
			t.Fatalf("%s: wrote %d, %v", tc.name, n, err)
		}
		for i := range tc.segments {
			want := fl.frame(t, 0, 9+uint16(i), data[2*i:2*i+2])
			if got := s.receiveUDP(t); !bytes.Equal(got, want) {
				t.Fatalf("%s, segment %d:\n got %x\nwant %x", tc.name, i, got, want)
			}
		}
		if got := d.Features(); got != before&^tc.lost {
			t.Errorf("%s: features afterwards %v, were %v", tc.name, got, before)
		}
		must(t, d.Close())
	}
}

func TestReadAndWriteAllocateNothing(t *testing.T) {
	eachMode(t, func(t *testing.T, offload Features) {
		ns := namespace1(t)
		d := openIn(t, ns, Config{Name: "tap0", MTU: testMTU, Offload: offload})
		s, w, r := sniff(t, ns, "tap0"), d.NewWriter(0), d.Readers()[0]
		h, super := super(t, flow{src: 1, dst: 2}, 0, 0, pattern(3000, 0), 1000)
		plain := testFrame(1000, 1)
		vectors := []Vector{{Parts: [][]byte{plain}}, {Parts: [][]byte{plain[:20], plain[20:]}}, {Header: h, Parts: [][]byte{super[:54], super[54:]}}}
		if n := testing.AllocsPerRun(100, func() {
			if n, err := w.Write(vectors); n != len(vectors) || err != nil {
				t.Fatalf("wrote %d, %v", n, err)
			}
		}); n != 0 {
			t.Errorf("write: %v allocations", n)
		}
		var b Batch
		late := time.AfterFunc(patience, func() { d.Close() })
		defer late.Stop()
		if n := testing.AllocsPerRun(100, func() {
			s.send(t, plain)
			for ours := false; !ours; {
				if err := r.Read(&b); err != nil {
					t.Fatal(err)
				}
				for _, f := range b.Frames {
					ours = ours || isOurs(f.Bytes)
				}
			}
		}); n != 0 {
			t.Errorf("read: %v allocations", n)
		}
	})
}
