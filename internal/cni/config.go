package cni

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/vxlan"
)

// PluginType is what a network configuration calls this plugin, and so the name
// of its file in the directory of plugins.
const PluginType = "govxlan"

// Versions are those of the specification that it speaks. From 0.3 on a result
// tells interfaces, which chained plugins look for.
var Versions = version.VersionsStartingFrom("0.3.0")

// Conf is the configuration of a network, as far as it is this plugin's.
type Conf struct {
	types.PluginConf

	VNI vxlan.VNI `json:"-"`
	// Peers and Options are what a VNI is added with that the endpoint does not
	// have yet: options by the names of the flags of 'govxlan vni add'.
	Peers   []string       `json:"peers,omitempty"`
	Options map[string]any `json:"options,omitempty"`
	// AddVNI says whether that may be done; nil is yes.
	AddVNI *bool `json:"addVNI,omitempty"`
	// Control is the path of the endpoint's control socket; else that of this
	// network namespace.
	Control string `json:"control,omitempty"`
	// Bridge of the VNI's device; vxbr and the VNI where there is none yet.
	Bridge string `json:"bridge,omitempty"`
	// MTU of the container's interface: at most, and by default, the VNI's.
	MTU int `json:"mtu,omitempty"`

	// These mean what they mean to the plugin bridge.
	IsGateway        bool `json:"isGateway,omitempty"`
	IsDefaultGateway bool `json:"isDefaultGateway,omitempty"`
	ForceAddress     bool `json:"forceAddress,omitempty"`
	IPMasq           bool `json:"ipMasq,omitempty"`
	HairpinMode      bool `json:"hairpinMode,omitempty"`

	Args struct {
		CNI struct {
			MAC string `json:"mac,omitempty"`
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac,omitempty"`
	} `json:"runtimeConfig"`

	// mac is the one that was asked for; nil if none was.
	mac net.HardwareAddr
	// previous is what the plugins before this one, or ADD, resulted in.
	previous *types100.Result
	// stdin is all of it, for the IPAM plugin.
	stdin []byte
}

// ours are the keys of Conf; standard are those of the specification that any
// plugin may find.
var (
	ours = []string{"vni", "peers", "options", "addVNI", "control", "bridge", "mtu",
		"isGateway", "isDefaultGateway", "forceAddress", "ipMasq", "hairpinMode"}
	standard = []string{"cniVersion", "name", "type", "capabilities", "ipam", "dns", "args", "runtimeConfig", "prevResult"}
)

// fail makes an error as the specification wants it; its codes are those of
// section 5.
func fail(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// badConfig is what is wrong with a configuration.
func badConfig(format string, args ...any) error {
	return fail(types.ErrInvalidNetworkConfig, format, args...)
}

// parse reads a configuration, and the arguments CNI_ARGS, of a call that makes
// something of them.
func parse(stdin []byte, cniArgs string) (*Conf, error) {
	c, keys, err := read(stdin)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		// What a runtime adds has a domain in front of its name.
		if !slices.Contains(ours, key) && !slices.Contains(standard, key) && !strings.Contains(key, "/") {
			return nil, fail(types.ErrUnsupportedField, "network configuration: %s knows no key %q (its value is %s); its keys are %s", PluginType, key, keys[key], strings.Join(ours, ", "))
		}
	}
	if len(c.Bridge) > maxIfName || strings.ContainsAny(c.Bridge, "/ \t\n:") {
		return nil, badConfig("network %s: %q cannot be the name of a bridge: give at most %d characters, without / and spaces", c.Name, c.Bridge, maxIfName)
	}
	if c.MTU != 0 && (c.MTU < 68 || c.MTU > 65535) {
		return nil, badConfig("network %s: mtu is %d: give 68 to 65535 bytes, or leave it out", c.Name, c.MTU)
	}
	if c.IsDefaultGateway {
		c.IsGateway = true
	}
	if c.IPAM.Type == "" && (c.IsGateway || c.IPMasq) {
		return nil, badConfig("network %s: isGateway and ipMasq need addresses: give it an ipam", c.Name)
	}
	if _, err := c.vniOptions(); err != nil {
		return nil, err
	}
	return c, c.findMAC(cniArgs)
}

// read reads a configuration as far as it is needed to take something away: one
// that has been changed since for the worse, or is for another version of
// the plugin, must not keep a container from going.
func read(stdin []byte) (*Conf, map[string]json.RawMessage, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return nil, nil, fail(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	c := &Conf{stdin: stdin}
	if err := json.Unmarshal(stdin, c); err != nil {
		return nil, nil, fail(types.ErrDecodingFailure, "network configuration: %v", err)
	}
	number, ok := keys["vni"]
	if !ok {
		return nil, nil, badConfig("network %s: the key vni is missing, such as \"vni\": 4097", c.Name)
	}
	v, err := vxlan.ParseVNI(strings.Trim(string(number), `"`))
	if err != nil {
		return nil, nil, badConfig("network %s: vni is %s: give a number from 0 to %d", c.Name, number, vxlan.MaxVNI)
	}
	c.VNI = v
	if err := version.ParsePrevResult(&c.PluginConf); err != nil {
		return nil, nil, fail(types.ErrDecodingFailure, "%v", err)
	}
	if c.PrevResult != nil {
		if c.previous, err = types100.NewResultFromResult(c.PrevResult); err != nil {
			return nil, nil, fail(types.ErrDecodingFailure, "prevResult: %v", err)
		}
	}
	return c, keys, nil
}

// maxIfName is IFNAMSIZ without the zero byte.
const maxIfName = 15

// bridge is the bridge's name where the endpoint does not have the VNI yet.
func (c *Conf) bridge() string {
	if c.Bridge != "" {
		return c.Bridge
	}
	return BridgeOf(c.VNI)
}

// BridgeOf is the bridge that a VNI's device is put on where none is named.
func BridgeOf(v vxlan.VNI) string { return "vxbr" + v.String() }

// mayAdd says whether a VNI that is missing is to be added.
func (c *Conf) mayAdd() bool { return c.AddVNI == nil || *c.AddVNI }

// vniOptions are the options that the VNI is added with.
func (c *Conf) vniOptions() (map[string][]string, error) {
	words := make(map[string][]string)
	for name, value := range c.Options {
		switch name {
		case "vni", "peer", "peers", "bridge", "netns":
			return nil, badConfig("network %s: %q is no key of options, but of the network itself, or not to be chosen", c.Name, name)
		}
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, v := range list {
			switch v := v.(type) {
			case string, bool:
				words[name] = append(words[name], fmt.Sprint(v))
			case float64:
				words[name] = append(words[name], strconv.FormatFloat(v, 'f', -1, 64))
			default:
				return nil, badConfig("network %s: option %s: %v is no text, number or truth", c.Name, name, v)
			}
		}
	}
	words["vni"] = []string{c.VNI.String()}
	words["bridge"] = []string{c.bridge()}
	if len(c.Peers) > 0 {
		words["peer"] = c.Peers
	}
	values, err := config.FromWords(words)
	if err == nil {
		err = values.Check()
	}
	if err != nil {
		return nil, badConfig("network %s: what VNI %v is added with: %v", c.Name, c.VNI, err)
	}
	return words, nil
}

// findMAC looks where a runtime may say which MAC address it wants, the most
// particular place first.
func (c *Conf) findMAC(cniArgs string) error {
	args := struct {
		types.CommonArgs
		MAC types.UnmarshallableString `json:"mac,omitempty"`
	}{}
	if cniArgs != "" {
		// Runtimes put names and numbers of their own there.
		args.IgnoreUnknown = true
		if err := types.LoadArgs(cniArgs, &args); err != nil {
			return fail(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %v", err)
		}
	}
	for _, text := range []string{c.RuntimeConfig.MAC, c.Args.CNI.MAC, string(args.MAC)} {
		if text == "" {
			continue
		}
		mac, err := net.ParseMAC(text)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return badConfig("network %s: %q is no MAC address of a station", c.Name, text)
		}
		c.mac = mac
		return nil
	}
	return nil
}
