package dockerplugin

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vxlan"
)

// Layouts: how containers are joined to a VNI.
const (
	LayoutBridge = "bridge"
	LayoutDirect = "direct"
)

// FirstVNI is the VNI of the first network that names none: what Docker's own
// overlay networks begin with, behind that of its ingress network.
const FirstVNI vxlan.VNI = 4097

// leastMTU is what IPv4 needs (RFC 791 section 3.1).
const leastMTU = 68

// genericOptions is the key of what `-o` says.
const genericOptions = "com.docker.network.generic"

// optionNames are what `docker network create -o` takes, for messages; with those
// of passed.
var optionNames = []string{"vni", "peers", "join", "key", "layout", "mtu", "port", "gateway"}

// passed are options of a VNI that mean what they mean to `govxlan up`.
var passed = []string{
	"ageing", "allow-unknown-vteps", "arp", "df", "learning", "max-entries", "mss-clamp", "neigh-snoop", "queues", "tos", "ttl",
}

// options is what a network is to be like.
type options struct {
	VNI      *vxlan.VNI          `json:"vni,omitempty"` // nil: the driver chooses
	Peers    []string            `json:"peers,omitempty"`
	Layout   string              `json:"layout"`
	MTU      int                 `json:"mtu,omitempty"` // 0: what the underlay carries
	Port     uint16              `json:"port"`
	Isolated bool                `json:"isolated,omitempty"` // no way out of the overlay
	Passed   map[string][]string `json:"passed,omitempty"`
	// Join are members of the network to begin with, and Key is what all of them
	// have. None: it has no members.
	Join []string `json:"join,omitempty"`
	Key  []byte   `json:"key,omitempty"`
}

// parseOptions reads the options of a request, of any form that Docker sends them
// in. Where they say nothing of the port it is the given one.
func parseOptions(all map[string]any, port uint16) (options, error) {
	o := options{Layout: LayoutBridge, Port: port}
	if internal, ok := all["com.docker.network.internal"].(bool); ok {
		o.Isolated = internal
	}
	generic, _ := all[genericOptions].(map[string]any)
	for key, value := range generic {
		text, ok := value.(string)
		if !ok {
			continue // Docker's own
		}
		if err := o.set(key, text); err != nil {
			return o, err
		}
	}
	if (len(o.Join) > 0) != (o.Key != nil) {
		return o, fmt.Errorf("-o join= and -o key= go together: the key is %d bytes in hexadecimal, the same on all nodes, such as 'openssl rand -hex %d' makes one", membership.KeyBytes, membership.KeyBytes)
	}
	return o, nil
}

// set takes one -o KEY=TEXT.
func (o *options) set(key, text string) error {
	switch key {
	case "vni":
		v, err := vxlan.ParseVNI(text)
		if err != nil {
			return fmt.Errorf("-o vni=%s: a VNI has 24 bits: give 0 to %d", text, vxlan.MaxVNI)
		}
		o.VNI = &v
	case "peers", "peer":
		for _, p := range strings.Split(text, ",") {
			p = strings.TrimSpace(p)
			if _, err := config.ParsePeer(p, vxlan.Port); err != nil {
				return fmt.Errorf("-o %s=%s: %w", key, text, err)
			}
			o.Peers = append(o.Peers, p)
		}
	case "join":
		for _, m := range strings.Split(text, ",") {
			m = strings.TrimSpace(m)
			if _, _, err := membership.SplitJoin(m); err != nil {
				return fmt.Errorf("-o join=%s: %w", text, err)
			}
			o.Join = append(o.Join, m)
		}
	case "key":
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != membership.KeyBytes {
			return fmt.Errorf("-o key= has %d characters: give %d bytes in hexadecimal, such as 'openssl rand -hex %d' makes", len(text), membership.KeyBytes, membership.KeyBytes)
		}
		o.Key = key
	case "layout":
		if text != LayoutBridge && text != LayoutDirect {
			return fmt.Errorf("-o layout=%s: give %s or %s", text, LayoutBridge, LayoutDirect)
		}
		o.Layout = text
	case "mtu", "com.docker.network.driver.mtu":
		n, err := strconv.Atoi(text)
		if err != nil || n < leastMTU || n > 65521 {
			return fmt.Errorf("-o %s=%s: give %d to 65521 bytes, such as 1450", key, text, leastMTU)
		}
		o.MTU = n
	case "port":
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return fmt.Errorf("-o port=%s: give a UDP port, such as %d", text, vxlan.Port)
		}
		o.Port = uint16(n)
	case "gateway":
		if text != "true" && text != "false" {
			return fmt.Errorf("-o gateway=%s: give true, for a second link of the container that leads out of the overlay, or false", text)
		}
		o.Isolated = o.Isolated || text == "false"
	default:
		if strings.Contains(key, ".") {
			return nil // labels of Docker and of others
		}
		if !slices.Contains(passed, key) {
			return fmt.Errorf("there is no option %q: -o takes %s", key, strings.Join(slices.Concat(optionNames, passed), ", "))
		}
		words := map[string][]string{key: {text}}
		if _, err := config.FromWords(words); err != nil {
			return fmt.Errorf("-o %s=%s: %w", key, text, err)
		}
		if o.Passed == nil {
			o.Passed = make(map[string][]string)
		}
		o.Passed[key] = words[key]
	}
	return nil
}

// macOf is the MAC of an endpoint as Docker makes them: 02:42 and the four bytes
// of its IPv4 address.
func macOf(ip netip.Addr) vxlan.MAC {
	mac := vxlan.MAC{0x02, 0x42}
	b := ip.As16()
	copy(mac[2:], b[12:])
	return mac
}
