package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/checksum"
	"golang.org/x/sys/unix"
)

// kind is one of the two Conns of this system: what a VTEP may expect of one,
// it may expect of the other.
type kind struct {
	name string
	open func(UDPConfig) (Conn, error)
}

var kinds = []kind{
	{"udp", ListenUDP},
	{"packet", func(cfg UDPConfig) (Conn, error) {
		return ListenPacket(PacketConfig{
			Local: cfg.Local, Port: cfg.Port, SourcePortLo: cfg.SourcePortLo, SourcePortHi: cfg.SourcePortHi,
			Receivers: cfg.Receivers, Netns: cfg.Netns, Device: cfg.Device, DontFragment: cfg.DontFragment,
			TTL: cfg.TTL, AutoFlowLabel: cfg.AutoFlowLabel, ZeroChecksum4: cfg.ZeroChecksum4, ZeroChecksum6: cfg.ZeroChecksum6,
			AcceptZeroChecksum6: cfg.AcceptZeroChecksum6, NoGSO: cfg.NoGSO, NoGRO: cfg.NoGRO,
		})
	}},
}

// eachKind runs a test for every kind.
func eachKind(t *testing.T, f func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { f(t, k) })
	}
}

// listen opens a Conn as the function of that name does.
func (k kind) listen(t testing.TB, cfg UDPConfig) Conn {
	t.Helper()
	if cfg.Local == nil {
		cfg.Local = []netip.Addr{loopback4}
	}
	if cfg.Port == 0 {
		cfg.Port = freePort(t, cfg.Local[0])
	}
	c, err := k.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// at is where a Conn receives: its address of one family.
func at(c Conn, family int) netip.AddrPort {
	for _, a := range c.Locals() {
		if a.Addr().Is6() == (family == 6) {
			return a
		}
	}
	return netip.AddrPort{}
}

// portOf is the source port that stands for a slot of Limits.Flows, over IPv4 if
// the Conn has both families.
func portOf(c Conn, slot int) uint16 {
	switch c := c.(type) {
	case *udpConn:
		if len(c.senders[0]) == 0 {
			return c.senders[1][slot].port
		}
		return c.senders[0][slot].port
	case *packetConn:
		return c.ports.Lo + uint16(slot)
	}
	return 0
}

// udpSumRight verifies a UDP checksum.
func udpSumRight(src, dst, datagram []byte) bool {
	pseudo := checksum.Pseudo(src, dst, unix.IPPROTO_UDP, len(datagram))
	return checksum.Fold(checksum.Sum(datagram, pseudo)) == 0xFFFF
}

// headerSum is the checksum of an IPv4 header whose own is zero.
func headerSum(header []byte) uint16 { return checksum.Checksum(header, 0) }

// frame is a UDP packet to the port of the wire, made by gopacket.
func frame(t testing.TB, mac net.HardwareAddr, src, dst netip.Addr, payload []byte) []byte {
	t.Helper()
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
	var ip interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	} = &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	if dst.Is6() {
		ethernet.EthernetType = layers.EthernetTypeIPv6
		ip = &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	}
	udp := &layers.UDP{SrcPort: 55555, DstPort: wirePort}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		ethernet, ip, udp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// inject sends a frame from host a, as it is.
func (h *hosts) inject(t testing.TB, b []byte) {
	t.Helper()
	if err := h.a.Do(func() error {
		link, err := net.InterfaceByName("ens160")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: networkOrder(binary.BigEndian.Uint16(b[12:]))})
	}); err != nil {
		t.Fatal(err)
	}
}
