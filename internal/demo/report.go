package demo

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/govxlan/govxlan/internal/explain"
	"github.com/govxlan/govxlan/vxlan"
)

// Report is what a demo found. It grows in the order of its fields; in JSON its
// field names are public.
type Report struct {
	Version string    `json:"version"`
	System  string    `json:"system"`
	VNI     vxlan.VNI `json:"vni"`
	MTU     int       `json:"mtu"` // of the overlay
	Hosts   [2]Host   `json:"hosts"`

	// FirstContact is the ARP request and reply that the first ping needs, Walk
	// one ping after it.
	FirstContact Exchange `json:"first_contact"`
	Walk         Exchange `json:"walk"`
	Packet       Packet   `json:"packet"`

	FDB      [2]FDB   `json:"fdb"`
	RTT      RTT      `json:"rtt"`
	Transfer Transfer `json:"transfer"`

	// Kept is the name that all namespaces begin with when the demo was left
	// standing, and empty when it was removed.
	Kept string `json:"kept,omitempty"`
}

// Host is one of the two hosts with its container and its VTEP.
type Host struct {
	Letter    string     `json:"host"`      // A or B
	Namespace string     `json:"namespace"` // the host's
	Sandbox   string     `json:"sandbox_namespace"`
	Container string     `json:"container_namespace"`
	Underlay  netip.Addr `json:"underlay"`
	Overlay   netip.Addr `json:"overlay"`
	MAC       vxlan.MAC  `json:"mac"` // of the container's eth0
	End       EndKind    `json:"vtep"`
	PID       int        `json:"pid,omitempty"` // of govxlan up
	Command   []string   `json:"command,omitempty"`
	Control   string     `json:"control,omitempty"` // its control socket
}

// EndKind says whose VTEP a host has.
type EndKind string

const (
	// EndGovxlan is a govxlan process with a TAP.
	EndGovxlan EndKind = "govxlan"
	// EndKernel is the kernel's vxlan device.
	EndKernel EndKind = "kernel"
)

// Station is one device on the way from container A to container B.
type Station struct {
	Number    int    `json:"station"` // 1 to 8, from A to B
	Host      string `json:"host"`
	Place     string `json:"place"` // container, sandbox or host
	Namespace string `json:"namespace"`
	Device    string `json:"device"`
}

// Underlay says whether packets at this station have their outer headers.
func (s Station) Underlay() bool { return s.Place == "host" }

// Direction is the way of a packet through a device, as a packet socket on the
// device tells it.
type Direction string

const (
	In  Direction = "in"
	Out Direction = "out"
)

// Exchange is a request and its reply, station by station in the order of
// travel.
type Exchange struct {
	Request []Step `json:"request"`
	Reply   []Step `json:"reply"`
}

// Step is a packet at one station.
type Step struct {
	Station
	Direction Direction `json:"direction"`
	// At is the time since the first step of the exchange, by the kernel's time
	// stamps.
	At Micros `json:"at_us"`
	// Bytes is the length of what was captured, from the first Ethernet header
	// on; Inner that of the overlay's frame in it.
	Bytes int `json:"bytes"`
	Inner int `json:"inner_bytes"`
	// Same says that the overlay's frame is byte for byte what it was at the
	// first step of this request or reply.
	Same bool `json:"same"`
	// Outer describes the outer headers at an underlay station.
	Outer *Outer `json:"outer,omitempty"`
	// Summary says in one line what was captured.
	Summary string `json:"summary"`

	time       time.Time
	raw, frame []byte // what was captured, and the overlay's frame in it
}

// Outer is the part of the outer headers that changes from packet to packet.
type Outer struct {
	Src        netip.AddrPort `json:"src"`
	Dst        netip.AddrPort `json:"dst"`
	VNI        vxlan.VNI      `json:"vni"`
	ChecksumOK bool           `json:"checksum_ok"`
}

// Packet is the packet of the walk as it was on the underlay.
type Packet struct {
	Hex      string  `json:"hex"`
	Bytes    int     `json:"bytes"`
	Overhead int     `json:"overhead_bytes"`
	Inner    int     `json:"inner_bytes"`
	Layers   []Layer `json:"layers"`

	explained *explain.Explanation
}

// Layer is one header or the payload of a packet.
type Layer struct {
	Name  string `json:"name"`
	Side  string `json:"side"` // outer or inner
	Bytes int    `json:"bytes"`
}

// FDB holds the forwarding tables on one host after the pings.
type FDB struct {
	Host   string        `json:"host"`
	Bridge []BridgeEntry `json:"bridge"`
	VTEP   []VTEPEntry   `json:"vtep"`
}

// BridgeEntry says behind which port of the bridge an address is.
type BridgeEntry struct {
	MAC  vxlan.MAC `json:"mac"`
	Port string    `json:"port"`
}

// VTEPEntry says behind which VTEP an address is, in the words of "govxlan fdb
// show".
type VTEPEntry struct {
	VNI  vxlan.VNI  `json:"vni"`
	MAC  vxlan.MAC  `json:"mac"`
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	Kind string     `json:"kind"` // learned, static or flood
	Age  float64    `json:"age_s"`
}

// RTT is the round-trip time of pings, seen by the program that sent them.
type RTT struct {
	Sent     int    `json:"sent"`
	Received int    `json:"received"`
	Min      Micros `json:"min_us"`
	Avg      Micros `json:"avg_us"`
	Max      Micros `json:"max_us"`
	StdDev   Micros `json:"stddev_us"`
}

// Transfer is one TCP connection from container A to container B.
type Transfer struct {
	Bytes         int64   `json:"bytes"`
	Seconds       float64 `json:"seconds"`
	BitsPerSecond float64 `json:"bits_per_second"`
	// Sent and Received are the CRC-32C of all bytes at either end.
	Sent          string `json:"crc32c_sent"`
	Received      string `json:"crc32c_received"`
	Retransmitted uint32 `json:"retransmitted_segments"`
}

// Micros is a duration in microseconds.
type Micros float64

func micros(d time.Duration) Micros { return Micros(float64(d.Nanoseconds()) / 1e3) }

// takeApart names the layers of a packet and their sizes.
func takeApart(step Step) Packet {
	p := Packet{Hex: hex.EncodeToString(step.raw), Bytes: step.Bytes, Inner: step.Inner, Overhead: step.Bytes - step.Inner}
	p.explained = explain.Packet(step.raw, explain.Ethernet, explain.Options{})
	for i := range p.explained.Layers {
		l := &p.explained.Layers[i]
		side := "outer"
		if l.Offset >= p.Overhead {
			side = "inner"
		}
		p.Layers = append(p.Layers, Layer{Name: l.Name, Side: side, Bytes: l.Size})
	}
	return p
}

// payloadText returns bytes of the walk's packet as text.
func (r *Report) payloadText(offset, size int) string {
	raw, err := hex.DecodeString(r.Packet.Hex)
	if err != nil || offset+size > len(raw) {
		return ""
	}
	return string(raw[offset : offset+size])
}
