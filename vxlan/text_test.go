package vxlan

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParseVNI(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want VNI
		ok   bool
	}{
		{"0", 0, true},
		{"1", 1, true},
		{"4097", 4097, true},
		{"16777215", MaxVNI, true},
		{"00042", 42, true},
		{"16777216", 0, false},
		{"4294967297", 0, false},
		{"99999999999999999999", 0, false},
		{"", 0, false},
		{"-1", 0, false},
		{"+1", 0, false},
		{" 1", 0, false},
		{"1_000", 0, false},
		{"0x1001", 0, false},
		{"vx1", 0, false},
	} {
		got, err := ParseVNI(tt.in)
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("ParseVNI(%q) = %d, %v", tt.in, got, err)
		}
		if err != nil && (!errors.Is(err, ErrVNI) || !strings.Contains(err.Error(), `"`+tt.in+`"`)) {
			t.Errorf("ParseVNI(%q): error %q does not wrap ErrVNI or quote the input", tt.in, err)
		}
	}
}

func TestVNI(t *testing.T) {
	if !VNI(0).Valid() || !MaxVNI.Valid() || (MaxVNI + 1).Valid() {
		t.Error("Valid is not 0 to 2^24-1")
	}
	if MaxVNI != 16777215 || MaxVNI.String() != "16777215" || VNI(0).String() != "0" {
		t.Errorf("MaxVNI = %d, %q", MaxVNI, MaxVNI)
	}
}

func TestParseMAC(t *testing.T) {
	want := MAC{0x02, 0x42, 0xAC, 0x11, 0x00, 0x0F}
	for _, s := range []string{"02:42:ac:11:00:0f", "02:42:AC:11:00:0F", "02-42-ac-11-00-0f", "0242.ac11.000f", "0242.AC11.000F", "0242ac11000f", "0242AC11000F"} {
		if got, err := ParseMAC(s); got != want || err != nil {
			t.Errorf("ParseMAC(%q) = %v, %v", s, got, err)
		}
	}
	if got := want.String(); got != "02:42:ac:11:00:0f" {
		t.Errorf("String() = %q", got)
	}
	for _, s := range []string{
		"", "02:42:ac:11:00", "02:42:ac:11:00:0", "02:42:ac:11:00:0f:", "02:42:ac:11:00:0f:01:02",
		"02:42-ac:11:00:0f", "02.42.ac.11.00.0f", "02:42:ac:11:00:0g", "0242:ac11:000f", "0242.ac11:000f",
		"0:242:ac:11:00:0f", "0242ac11000", "0242ac11000g", " 2:42:ac:11:00:0f", "::::::::::::::::::",
	} {
		m, err := ParseMAC(s)
		if m != (MAC{}) || !errors.Is(err, ErrMAC) || !strings.Contains(err.Error(), `"`+s+`"`) {
			t.Errorf("ParseMAC(%q) = %v, %v", s, m, err)
		}
	}
}

func TestMACKinds(t *testing.T) {
	for _, tt := range []struct {
		mac                        MAC
		multicast, broadcast, zero bool
	}{
		{MAC{}, false, false, true},
		{MAC{0x02, 0, 0, 0, 0, 1}, false, false, false},
		{MAC{0x01, 0x00, 0x5E, 0, 0, 1}, true, false, false},
		{MAC{0x33, 0x33, 0, 0, 0, 1}, true, false, false},
		{MAC{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE}, true, false, false},
		{Broadcast, true, true, false},
		{MAC{0, 0, 0, 0, 0, 1}, false, false, false},
	} {
		if tt.mac.IsMulticast() != tt.multicast || tt.mac.IsBroadcast() != tt.broadcast || tt.mac.IsZero() != tt.zero {
			t.Errorf("%v: multicast %v, broadcast %v, zero %v", tt.mac, tt.mac.IsMulticast(), tt.mac.IsBroadcast(), tt.mac.IsZero())
		}
	}
}

func TestParsePortRange(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want PortRange
		text string
	}{
		{"49152-65535", PortRange{SourcePortLo, SourcePortHi}, "49152-65535"},
		{"1-65535", PortRange{1, 65535}, "1-65535"},
		{"4789", PortRange{4789, 4789}, "4789-4789"},
		{"5-5", PortRange{5, 5}, "5-5"},
	} {
		got, err := ParsePortRange(tt.in)
		if got != tt.want || err != nil || got.String() != tt.text || !got.Valid() {
			t.Errorf("ParsePortRange(%q) = %v, %v", tt.in, got, err)
		}
	}
	for _, s := range []string{"", "-", "0", "0-10", "10-5", "1-65536", "65536", "1-2-3", "a-b", "1 - 2", "-5", "5-", "+1-2"} {
		r, err := ParsePortRange(s)
		if r != (PortRange{}) || !errors.Is(err, ErrPortRange) || !strings.Contains(err.Error(), `"`+s+`"`) {
			t.Errorf("ParsePortRange(%q) = %v, %v", s, r, err)
		}
	}
	if (PortRange{}).Valid() {
		t.Error("the zero range is valid")
	}
}

func TestTextMarshalling(t *testing.T) {
	type config struct {
		MAC   MAC
		Ports PortRange
		VNI   VNI
	}
	const text = `{"MAC":"02:42:ac:11:00:02","Ports":"49152-65535","VNI":4097}`
	want := config{MAC{0x02, 0x42, 0xAC, 0x11, 0, 2}, PortRange{49152, 65535}, 4097}
	b, err := json.Marshal(want)
	if err != nil || string(b) != text {
		t.Errorf("Marshal: %s, %v", b, err)
	}
	var got config
	if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
		t.Errorf("Unmarshal: %v, %v", got, err)
	}
	m, r := want.MAC, want.Ports
	if err := m.UnmarshalText([]byte("x")); !errors.Is(err, ErrMAC) || m != want.MAC {
		t.Errorf("MAC.UnmarshalText: %v, left %v", err, m)
	}
	if err := r.UnmarshalText([]byte("x")); !errors.Is(err, ErrPortRange) || r != want.Ports {
		t.Errorf("PortRange.UnmarshalText: %v, left %v", err, r)
	}
	if b, err := want.MAC.AppendText([]byte("mac ")); string(b) != "mac 02:42:ac:11:00:02" || err != nil {
		t.Errorf("AppendText: %q, %v", b, err)
	}
}
