package hostname

import (
	"strings"
	"testing"
)

func TestValid(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "vtep3.example.net": true, "node-1": true, "_vxlan._udp": true, "1a": true, "Host": true,
		"": false, "192.168.52": false, "1.2.3.4": false, "-a": false, "a b": false, "a:1": false, "f\u00fcr": false, "--": false,
		strings.Repeat("a", 253): true, strings.Repeat("a", 254): false,
	} {
		if got := Valid(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
