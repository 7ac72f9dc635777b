package datapath

import (
	"errors"
	"net/netip"
	"testing"
)

// The verifier takes the programs whatever the kernel tells them.
func TestLoads(t *testing.T) {
	for _, cookie := range []uint64{0, 1} {
		spec, err := loadProgram()
		if err != nil {
			t.Fatal(err)
		}
		if err := spec.Variables[programVarNetnsCookie].Set(cookie); err != nil {
			t.Fatal(err)
		}
		var o programObjects
		if err := spec.LoadAndAssign(&o, nil); err != nil {
			t.Fatalf("cookie %d: %+v", cookie, err)
		}
		o.Close()
	}
}

// What cannot be had is refused with a sentence.
func TestUnsuited(t *testing.T) {
	for _, cfg := range []Config{
		{Local: netip.MustParseAddr("fd00::1"), SourcePorts: []uint16{50000}},
		{Local: netip.IPv4Unspecified(), SourcePorts: []uint16{50000}},
		{Local: netip.MustParseAddr("192.0.2.1")},
	} {
		_, err := Load(cfg)
		if u := Unsupported(""); !errors.As(err, &u) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}
