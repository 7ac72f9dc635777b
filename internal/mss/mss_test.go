package mss

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/govxlan/govxlan/internal/captured"
	"github.com/govxlan/govxlan/internal/checksum"
)

func option2(mss uint16) layers.TCPOption {
	return layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{byte(mss >> 8), byte(mss)}}
}

// syn is a frame built by gopacket, its checksum too.
func syn(t testing.TB, v6 bool, tags int, ack bool, options ...layers.TCPOption) []byte {
	t.Helper()
	kind := layers.EthernetTypeIPv4
	if v6 {
		kind = layers.EthernetTypeIPv6
	}
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: kind}
	all := []gopacket.SerializableLayer{eth}
	for range tags {
		if eth.EthernetType != kind {
			all[len(all)-1].(*layers.Dot1Q).Type = layers.EthernetTypeDot1Q
		}
		eth.EthernetType = layers.EthernetTypeDot1Q
		all = append(all, &layers.Dot1Q{VLANIdentifier: 9, Type: kind})
	}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 5201, Seq: 12345, SYN: true, ACK: ack, Window: 64240, Options: options}
	if v6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		all = append(all, ip)
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{10, 0, 1, 1}, DstIP: net.IP{10, 0, 1, 2}, Flags: layers.IPv4DontFragment}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		all = append(all, ip)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(all, tcp)...); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Bytes())
}

var (
	nop   = layers.TCPOption{OptionType: layers.TCPOptionKindNop}
	scale = layers.TCPOption{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{7}}
	sack  = layers.TCPOption{OptionType: layers.TCPOptionKindSACKPermitted, OptionLength: 2}
)

// told is the MSS that gopacket reads in a frame, 0 without.
func told(t testing.TB, frame []byte) uint16 {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok {
		t.Fatalf("no TCP in %x", frame)
	}
	for _, o := range tcp.Options {
		if o.OptionType == layers.TCPOptionKindMSS {
			return binary.BigEndian.Uint16(o.OptionData)
		}
	}
	return 0
}

func TestClamp(t *testing.T) {
	for _, tc := range []struct {
		name      string
		v6        bool
		tags      int
		ack       bool
		options   []layers.TCPOption
		mtu, most int
		want      uint16
	}{
		{"IPv4 by MTU", false, 0, false, []layers.TCPOption{option2(1460)}, 1350, 65535, 1310},
		{"IPv4 by frame", false, 0, false, []layers.TCPOption{option2(1460), sack, scale}, 1450, 1364, 1310},
		{"SYN ACK", false, 0, true, []layers.TCPOption{option2(1460)}, 1350, 65535, 1310},
		{"IPv6", true, 0, false, []layers.TCPOption{option2(1440)}, 1330, 65535, 1270},
		{"IPv6 by frame", true, 0, true, []layers.TCPOption{option2(1440)}, 1430, 1344, 1270},
		{"tag: the MTU does not count it", false, 1, false, []layers.TCPOption{option2(1460)}, 1350, 65535, 1310},
		{"tag: the path does", false, 1, false, []layers.TCPOption{option2(1460)}, 1450, 1364, 1306},
		{"two tags", true, 2, false, []layers.TCPOption{option2(1440)}, 1430, 1364, 1282},
		{"at an odd place", false, 0, false, []layers.TCPOption{nop, option2(1460)}, 1350, 65535, 1310},
		{"behind three bytes", false, 0, false, []layers.TCPOption{scale, option2(1460)}, 1350, 65535, 1310},
		{"never below 88", false, 0, false, []layers.TCPOption{option2(1460)}, 68, 65535, 88},
		{"small enough", false, 0, false, []layers.TCPOption{option2(1310)}, 1350, 65535, 1310},
		{"smaller", false, 0, false, []layers.TCPOption{option2(536)}, 1350, 65535, 536},
		{"none", false, 0, false, []layers.TCPOption{sack, scale}, 1350, 65535, 0},
		{"no options", false, 0, false, nil, 1350, 65535, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, sum := range []Sum{Full, Unknown} {
				f := syn(t, tc.v6, tc.tags, tc.ack, tc.options...)
				was := bytes.Clone(f)
				changed := Clamp(f, tc.mtu, tc.most, sum)
				if got := told(t, f); got != tc.want {
					t.Errorf("MSS %d, want %d", got, tc.want)
				}
				if changed != !bytes.Equal(was, f) || changed != (told(t, was) != tc.want) {
					t.Errorf("changed %v", changed)
				}
				// What gopacket builds with that MSS from the start.
				options := append([]layers.TCPOption(nil), tc.options...)
				for i, o := range options {
					if o.OptionType == layers.TCPOptionKindMSS {
						options[i] = option2(tc.want)
					}
				}
				if want := syn(t, tc.v6, tc.tags, tc.ack, options...); !bytes.Equal(f, want) {
					t.Errorf("frame %x\nwant  %x", f, want)
				}
			}
		})
	}
}

// A partial checksum is of the pseudo header alone, which does not change.
func TestClampPartial(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, sum := range []Sum{Partial, Unknown} {
			f := syn(t, v6, 0, false, option2(1460))
			l3, l4, end := find(f)
			src, dst := f[l3+12:l3+16], f[l3+16:l3+20]
			if v6 {
				src, dst = f[l3+8:l3+24], f[l3+24:l3+40]
			}
			partial := checksum.Fold(checksum.Pseudo(src, dst, 6, end-l4))
			binary.BigEndian.PutUint16(f[l4+16:], partial)
			if !Clamp(f, 1300, 65535, sum) || told(t, f) > 1260 {
				t.Errorf("IPv6 %v: MSS %d", v6, told(t, f))
			}
			if got := binary.BigEndian.Uint16(f[l4+16:]); got != partial {
				t.Errorf("IPv6 %v: checksum %04x, want it left at %04x", v6, got, partial)
			}
		}
	}
}

func TestClampLeavesAlone(t *testing.T) {
	good := syn(t, false, 0, false, option2(1460))
	good6 := syn(t, true, 0, false, option2(1460))
	for name, change := range map[string]func([]byte) []byte{
		"no SYN":             func(f []byte) []byte { f[14+20+13] = 0x10; return f },
		"UDP":                func(f []byte) []byte { f[14+9] = 17; return f },
		"fragment":           func(f []byte) []byte { f[14+6] = 0x20; return f },
		"option too long":    func(f []byte) []byte { f[14+20+20+1] = 5; return f },
		"option too short":   func(f []byte) []byte { f[14+20+20+1] = 1; return f },
		"MSS of three bytes": func(f []byte) []byte { f[14+20+20+1] = 3; return f },
		"option cut":         func(f []byte) []byte { f[14+20+12] = 0x50; return f },
		"header too long":    func(f []byte) []byte { f[14+20+12] = 0xF0; return f },
		"frame cut":          func(f []byte) []byte { return f[:14+20+21] },
		"no IP header":       func(f []byte) []byte { return f[:20] },
		"no frame":           func([]byte) []byte { return nil },
		"not IP":             func(f []byte) []byte { f[12] = 9; return f },
		"tags without end": func(f []byte) []byte {
			return append(append(f[:12:12], bytes.Repeat([]byte{0x81, 0, 0, 1}, 5)...), f[12:]...)
		},
		"end of options": func(f []byte) []byte { f[14+20+20] = 0; return f },
	} {
		f := change(bytes.Clone(good))
		was := bytes.Clone(f)
		if Clamp(f, 1300, 1300, Full) || !bytes.Equal(f, was) {
			t.Errorf("%s: changed", name)
		}
	}
	// Behind extension headers it is found, and only whole.
	hop := append(bytes.Clone(good6[:54]), append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, good6[54:]...)...)
	hop[14+6] = 0
	binary.BigEndian.PutUint16(hop[14+4:], uint16(len(hop)-54))
	if !Clamp(bytes.Clone(hop), 1300, 65535, Full) {
		t.Error("behind a hop-by-hop header: not found")
	}
	hop[14+40+1] = 200
	if Clamp(hop, 1300, 65535, Full) {
		t.Error("behind a header that is cut: changed")
	}
}

func TestClampAllocatesNothing(t *testing.T) {
	f := syn(t, true, 1, false, scale, option2(1460))
	work := bytes.Clone(f)
	if n := testing.AllocsPerRun(100, func() { copy(work, f); Clamp(work, 1300, 65535, Unknown) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzClamp: nothing changes but the MSS, downwards, and the checksum with it,
// such that the sum over the segment stays what it was.
func FuzzClamp(f *testing.F) {
	f.Add(syn(f, false, 0, false, option2(1460)), 1300, 65535)
	f.Add(syn(f, true, 1, true, nop, option2(1460), scale), 1300, 1300)
	f.Add(syn(f, false, 2, true, sack, scale, option2(9000)), 9000, 100)
	for _, frame := range captured.Frames(f) {
		f.Add(frame, 1300, 65535)
	}
	f.Fuzz(func(t *testing.T, frame []byte, mtu, most int) {
		was := bytes.Clone(frame)
		if !Clamp(frame, mtu, most, Full) {
			if !bytes.Equal(frame, was) {
				t.Fatal("changed without saying so")
			}
			return
		}
		_, l4, end := find(frame)
		at := option(frame[l4:end])
		before, after := binary.BigEndian.Uint16(was[l4+at:]), binary.BigEndian.Uint16(frame[l4+at:])
		if after >= before || after < least {
			t.Errorf("MSS %d became %d", before, after)
		}
		sum := func(b []byte) uint16 { return checksum.Fold(checksum.Sum(b[l4:end], 0)) % 0xFFFF }
		if sum(was) != sum(frame) {
			t.Errorf("the sum was %04x, is %04x", sum(was), sum(frame))
		}
		copy(frame[l4+at:l4+at+2], was[l4+at:])
		copy(frame[l4+16:l4+18], was[l4+16:])
		if !bytes.Equal(frame, was) {
			t.Error("more than MSS and checksum changed")
		}
	})
}
