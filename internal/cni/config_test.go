package cni

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
)

func conf(rest string) string {
	return `{"cniVersion": "1.0.0", "name": "overlay", "type": "govxlan"` + rest + "}"
}

func TestParse(t *testing.T) {
	c, err := parse([]byte(conf(`, "vni": 4097, "peers": ["192.168.52.204"], "mtu": 1400, "isDefaultGateway": true,
		"options": {"ttl": 64, "neigh-snoop": true, "max-entries": 1000000, "arp": "suppress", "fdb": ["02:42:0a:00:01:67=192.168.52.204"]},
		"ipam": {"type": "host-local", "subnet": "10.0.1.0/24"}, "cni.dev/attachments": [], "args": {"cni": {"mac": "02:00:00:00:00:02"}},
		"runtimeConfig": {"mac": "02:00:00:00:00:01", "portMappings": []},
		"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.1.100/24"}]}`)), "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=02:00:00:00:00:03")
	if err != nil {
		t.Fatal(err)
	}
	if c.VNI != 4097 || c.bridge() != "vxbr4097" || !c.IsGateway || !c.mayAdd() || c.mac.String() != "02:00:00:00:00:01" || c.IPAM.Type != "host-local" || len(c.previous.IPs) != 1 {
		t.Errorf("%+v", c)
	}
	options, err := c.vniOptions()
	want := map[string][]string{
		"vni": {"4097"}, "bridge": {"vxbr4097"}, "peer": {"192.168.52.204"}, "ttl": {"64"}, "neigh-snoop": {"true"},
		"max-entries": {"1000000"}, "arp": {"suppress"}, "fdb": {"02:42:0a:00:01:67=192.168.52.204"},
	}
	if diff := cmp.Diff(want, options); diff != "" || err != nil {
		t.Errorf("options (-want +got):\n%s%v", diff, err)
	}
}

// The most particular place that a MAC address is asked for in wins.
func TestParseMAC(t *testing.T) {
	for _, tc := range []struct{ conf, args, want string }{
		{`, "vni": 1`, "", ""},
		{`, "vni": 1`, "MAC=02:00:00:00:00:03", "02:00:00:00:00:03"},
		{`, "vni": 1, "args": {"cni": {"mac": "02:00:00:00:00:02"}}`, "MAC=02:00:00:00:00:03", "02:00:00:00:00:02"},
		{`, "vni": 1, "runtimeConfig": {"mac": "02:00:00:00:00:01"}, "args": {"cni": {"mac": "02:00:00:00:00:02"}}`, "", "02:00:00:00:00:01"},
	} {
		c, err := parse([]byte(conf(tc.conf)), tc.args)
		if err != nil || c.mac.String() != tc.want {
			t.Errorf("%s with %q: %v, %v, want %s", tc.conf, tc.args, c, err, tc.want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		conf, args string
		code       uint
		words      string
	}{
		{`{`, "", types.ErrDecodingFailure, "network configuration"},
		{conf(``), "", types.ErrInvalidNetworkConfig, "vni is missing"},
		{conf(`, "vni": 16777216`), "", types.ErrInvalidNetworkConfig, "from 0 to 16777215"},
		{conf(`, "vni": -1`), "", types.ErrInvalidNetworkConfig, "vni is -1"},
		{conf(`, "vni": 1, "bridgeName": "br0"`), "", types.ErrUnsupportedField, `"bridgeName" (its value is "br0")`},
		{conf(`, "vni": 1, "bridge": "a-name-too-long-for-it"`), "", types.ErrInvalidNetworkConfig, "15 characters"},
		{conf(`, "vni": 1, "mtu": 67`), "", types.ErrInvalidNetworkConfig, "mtu is 67"},
		{conf(`, "vni": 1, "mtu": "many"`), "", types.ErrDecodingFailure, "mtu"},
		{conf(`, "vni": 1, "isGateway": true`), "", types.ErrInvalidNetworkConfig, "give it an ipam"},
		{conf(`, "vni": 1, "ipMasq": true`), "", types.ErrInvalidNetworkConfig, "give it an ipam"},
		{conf(`, "vni": 1, "peers": ["239.1.1.1"]`), "", types.ErrInvalidNetworkConfig, "multicast group"},
		{conf(`, "vni": 1, "options": {"tll": 3}`), "", types.ErrInvalidNetworkConfig, `no option "tll"`},
		{conf(`, "vni": 1, "options": {"ttl": {}}`), "", types.ErrInvalidNetworkConfig, "no text, number or truth"},
		{conf(`, "vni": 1, "options": {"netns": "blue"}`), "", types.ErrInvalidNetworkConfig, "netns"},
		{conf(`, "vni": 1, "runtimeConfig": {"mac": "01:00:5e:00:00:01"}`), "", types.ErrInvalidNetworkConfig, "no MAC address of a station"},
		{conf(`, "vni": 1`), "MAC", types.ErrInvalidEnvironmentVariables, "CNI_ARGS"},
	} {
		_, err := parse([]byte(tc.conf), tc.args)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != tc.code || !strings.Contains(e.Msg, tc.words) {
			t.Errorf("%s: %v, want code %d and %q", tc.conf, err, tc.code, tc.words)
		}
	}
}

// A configuration is written by others: whatever it is, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add(conf(`, "vni": 4097, "peers": ["192.168.52.204"], "options": {"ttl": 64, "fdb": ["x"]}`), "MAC=02:00:00:00:00:03")
	f.Add(conf(`, "vni": "1", "prevResult": {"ips": [{"address": "10.0.1.100/24", "interface": 7}]}`), "a=b")
	f.Fuzz(func(t *testing.T, text, args string) {
		c, err := parse([]byte(text), args)
		if err != nil {
			if e := new(types.Error); !errors.As(err, &e) || e.Code == 0 || e.Msg == "" {
				t.Fatalf("%q: %v has no code", text, err)
			}
			return
		}
		if !c.VNI.Valid() || len(c.bridge()) > maxIfName {
			t.Fatalf("%q is taken: %+v", text, c)
		}
	})
}

func TestCalled(t *testing.T) {
	for _, tc := range []struct {
		args    []string
		command string
		want    bool
	}{
		{[]string{"/opt/cni/bin/govxlan"}, "ADD", true},
		{[]string{"/opt/cni/bin/govxlan"}, "", false},
		{[]string{"/opt/cni/bin/govxlan-cni"}, "", true},
		{[]string{"govxlan", "status"}, "ADD", false},
		{nil, "ADD", false},
	} {
		if got := Called(tc.args, func(string) string { return tc.command }); got != tc.want {
			t.Errorf("%q with CNI_COMMAND=%s: %v", tc.args, tc.command, got)
		}
	}
}

func ExampleList_JSON() {
	l := List{Version: "1.0.0", Name: "overlay", VNI: 4097, AddVNI: true, Peers: []string{"192.168.52.204"}}
	text, err := l.JSON()
	fmt.Printf("%s%v\n", text, err)
	// Output:
	// {
	//   "cniVersion": "1.0.0",
	//   "name": "overlay",
	//   "plugins": [
	//     {
	//       "type": "govxlan",
	//       "vni": 4097,
	//       "peers": [
	//         "192.168.52.204"
	//       ]
	//     }
	//   ]
	// }
	// <nil>
}
