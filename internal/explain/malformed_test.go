package explain_test

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/explain"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What is said of malformed packets: where, and what.
func TestProblems(t *testing.T) {
	wire := func(n int) []byte { return slices.Clone(read(t, "v4-wire.pcap")[n-1].Bytes) }
	patch := func(b []byte, off int, s string) []byte {
		copy(b[off:], unhex(t, s))
		return b
	}
	const (
		eth  = "02420a000167 02420a000164 "
		tcp4 = "4500 002c 0000 4000 4006 0000 0a000164 0a000167 "
		ip6  = "60000000 0008 11 40 fd000000000000000000000000000001 fd000000000000000000000000000002 "
	)
	for _, c := range []struct {
		name string
		b    []byte
		from explain.Start
		opt  explain.Options
		want []string // Problem.String(), in order
	}{
		{name: "nothing", b: nil,
			want: []string{"packet at byte 0: it has no bytes"}},
		{name: "noise", b: []byte("neither this nor that, whatever you try"),
			want: []string{"packet at byte 0: neither an Ethernet, an IP nor a VXLAN header is recognisable at its start"}},
		{name: "short Ethernet", b: unhex(t, "02420a"), from: explain.Ethernet,
			want: []string{"Ethernet at byte 0: needs 14 bytes, there are 3"}},
		{name: "Ethernet alone", b: unhex(t, eth+"0800"), from: explain.Ethernet,
			want: []string{"IP at byte 14: needs 1 byte, there are none"}},
		{name: "Ethernet cut by the capture", b: unhex(t, eth+"0800"), from: explain.Ethernet, opt: explain.Options{Length: 98},
			want: []string{"IP at byte 14: needs 1 byte, the capture kept none"}},
		{name: "IP version", b: unhex(t, eth+"0800 75"), from: explain.Ethernet,
			want: []string{"IP at byte 14: version 7, there are only 4 and 6"}},
		{name: "IPv4 header length", b: patch(wire(3), 14, "44"),
			want: []string{"IPv4 at byte 14: its header length says 16 bytes, 20 is the least"}},
		{name: "IPv4 total length below header", b: patch(wire(3), 16, "0013"),
			want: []string{"IPv4 at byte 16: its total length says 19 bytes, its header alone has 20"}},
		{name: "IPv4 total length too long", b: patch(wire(3), 16, "0087"),
			want: []string{"IPv4 at byte 16: its total length says 135 bytes, there are 134"}},
		{name: "IPv4 options missing", b: unhex(t, "4600 0018 0000 4000 4011 0000 0a000164 0a000167"), from: explain.IP,
			want: []string{"IPv4 at byte 2: its total length says 24 bytes, there are 20", "IPv4 at byte 0: needs 24 bytes, there are 20"}[1:]},
		{name: "UDP length below header", b: patch(wire(3), 38, "0007"),
			want: []string{"UDP at byte 38: its length says 7 bytes, its header alone has 8"}},
		{name: "UDP length too long", b: patch(wire(3), 38, "0073"),
			want: []string{"UDP at byte 38: its length says 115 bytes, there are 114"}},
		{name: "no room for UDP", b: unhex(t, "4500 0018 0000 4000 4011 0000 0a000164 0a000167 c000 12b5"), from: explain.IP,
			want: []string{"UDP at byte 20: needs 8 bytes, there are 4"}},
		{name: "VXLAN too short", b: unhex(t, "4500 0020 0000 4000 4011 0000 0a000164 0a000167 c000 12b5 000c 0000 08000000"), from: explain.IP,
			want: []string{"VXLAN at byte 28: needs 8 bytes, there are 4"}},
		{name: "VXLAN without a frame", b: unhex(t, "0800000000100100"), from: explain.VXLAN,
			want: []string{"VXLAN at byte 8: no inner frame follows the header"}},
		{name: "I flag clear", b: patch(wire(3), 42, "00"),
			want: []string{"VXLAN at byte 42: the I flag is clear, so the VNI means nothing: a VTEP must drop it (RFC 7348 section 5)"}},
		{name: "inner frame too short", b: unhex(t, "0800000000100100 02420a0001"), from: explain.VXLAN,
			want: []string{"Ethernet at byte 8: needs 14 bytes, there are 5"}},
		{name: "inner IP too long", b: patch(wire(3), 66, "0055"),
			want: []string{"IPv4 at byte 66: its total length says 85 bytes, there are 84"}},
		{name: "TCP header length below 20", b: patch(wire(5), 96, "4002"),
			want: []string{"TCP at byte 96: its header length says 16 bytes, 20 is the least"}},
		{name: "TCP header length beyond", b: patch(wire(5), 96, "f002"),
			want: []string{"TCP at byte 84: needs 60 bytes, there are 40"}},
		{name: "TCP option length", b: patch(wire(5), 105, "00"),
			want: []string{"TCP at byte 104: its options are malformed: invalid TCP option length 0 < 2"}},
		{name: "TCP option too long", b: unhex(t, tcp4+"1000 1b58 00000001 00000000 6002 ffff 0000 0000 020a0500"), from: explain.IP,
			want: []string{"TCP at byte 40: its options are malformed: invalid TCP option length 10 exceeds remaining 4 bytes"}},
		{name: "TCP too short", b: unhex(t, "4500 001c 0000 4000 4006 0000 0a000164 0a000167 1000 1b58 00000001"), from: explain.IP,
			want: []string{"TCP at byte 20: needs 20 bytes, there are 8"}},
		{name: "ARP too short", b: unhex(t, eth+"0806 0001 0800 0604 0001 02420a000164"), from: explain.Ethernet,
			want: []string{"ARP at byte 14: needs 28 bytes, there are 14"}},
		{name: "tag without a type", b: unhex(t, eth+"8100 0005"), from: explain.Ethernet,
			want: []string{"802.1Q at byte 14: needs 4 bytes, there are 2"}},
		{name: "802.3 length", b: unhex(t, eth+"0100 424203 0000"), from: explain.Ethernet,
			want: []string{"802.3 at byte 12: the length field says 256 bytes, there are 5"}},
		{name: "IPv6 payload length", b: unhex(t, ip6+"1000 1b58 0004"), from: explain.IP,
			want: []string{"IPv6 at byte 4: its payload length with the header says 48 bytes, there are 46", "UDP at byte 40: needs 8 bytes, there are 6"}},
		{name: "IPv6 too short", b: unhex(t, ip6)[:30], from: explain.IP,
			want: []string{"IPv6 at byte 0: needs 40 bytes, there are 30"}},
		{name: "ICMP too short", b: unhex(t, "4500 0018 0000 4000 4001 0000 0a000164 0a000167 0800 f7ff"), from: explain.IP,
			want: []string{"ICMP at byte 20: needs 8 bytes, there are 4"}},
		{name: "cooked too short", b: make([]byte, 10), from: explain.LinuxSLL,
			want: []string{"Linux cooked capture at byte 0: needs 16 bytes, there are 10"}},
		{name: "cooked 2 too short", b: make([]byte, 19), from: explain.LinuxSLL2,
			want: []string{"Linux cooked capture at byte 0: needs 20 bytes, there are 19"}},
		{name: "loopback too short", b: make([]byte, 3), from: explain.Loopback,
			want: []string{"loopback at byte 0: needs 4 bytes, there are 3"}},
		{name: "whole", b: wire(3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			from := c.from
			if from == explain.Detect && len(c.b) > 60 {
				from = explain.Ethernet
			}
			e := explain.Packet(c.b, from, c.opt)
			check(t, e)
			var got []string
			for _, p := range e.Problems {
				got = append(got, p.String())
				// What is malformed shows in one line, too.
				if line := e.OneLine(); !p.Cut && !strings.Contains(line, p.Text) {
					t.Errorf("the line %q does not say %q", line, p.Text)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
			}
		})
	}
}

func TestErr(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		from explain.Start
		want string // empty: decodable
	}{
		"noise":      {[]byte("nothing at all to be seen in here, is there"), explain.Detect, "not decodable: packet at byte 0: neither an Ethernet"},
		"too short":  {[]byte{1, 2}, explain.IP, "not decodable: IP at byte 0: version 0, there are only 4 and 6"},
		"empty":      {nil, explain.Ethernet, "not decodable: packet at byte 0: it has no bytes"},
		"beginning":  {unhex(t, "ffffffffffff02420a0001640800"), explain.Ethernet, ""},
		"bad inside": {unhex(t, "0800000000100100 0242"), explain.VXLAN, ""},
	} {
		err := explain.Packet(c.b, c.from, explain.Options{}).Err()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (!errors.Is(err, explain.ErrUndecodable) || !strings.HasPrefix(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// A VXLAN packet cut after any byte: never a panic, and what is there stays
// readable.
func TestEveryTruncation(t *testing.T) {
	for _, name := range []string{"v4-wire", "v6-wire", "groups", "crafted"} {
		for i, e := range read(t, name+".pcap") {
			if i%5 != 0 {
				continue // enough of them
			}
			for n := range e.Bytes {
				// Kept by a capture, and as if that were all that was sent.
				kept := explain.Packet(e.Bytes[:n], explain.Ethernet, explain.Options{Length: e.Length})
				check(t, kept)
				for _, p := range kept.Problems {
					if !p.Cut && n > 0 {
						t.Fatalf("%s, packet %d, %d bytes kept: %v", name, e.Number, n, p)
					}
				}
				check(t, explain.Packet(e.Bytes[:n], explain.Ethernet, explain.Options{}))
			}
		}
	}
}
