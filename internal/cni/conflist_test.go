package cni

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func prefixes(texts ...string) (list []netip.Prefix) {
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// What a host hands out of a subnet, in the words of host-local.
func TestRanges(t *testing.T) {
	for _, tc := range []struct {
		name     string
		subnets  []string
		ranges   []string
		gateways []string
		want     string
	}{
		{"all of it", []string{"10.0.1.0/24"}, nil, nil, `[[{"subnet":"10.0.1.0/24"}]]`},
		{"from to", []string{"10.0.1.0/24"}, []string{"10.0.1.100-10.0.1.149"}, []string{"10.0.1.203"},
			`[[{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.100","rangeEnd":"10.0.1.149","gateway":"10.0.1.203"}]]`},
		{"two ranges", []string{"10.0.1.0/24"}, []string{"10.0.1.100-10.0.1.109", "10.0.1.120-10.0.1.129"}, nil,
			`[[{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.100","rangeEnd":"10.0.1.109"},{"subnet":"10.0.1.0/24","rangeStart":"10.0.1.120","rangeEnd":"10.0.1.129"}]]`},
		{"a part", []string{"10.244.0.0/16"}, []string{"10.244.3.0/24"}, nil,
			`[[{"subnet":"10.244.0.0/16","rangeStart":"10.244.3.2","rangeEnd":"10.244.3.254","gateway":"10.244.3.1"}]]`},
		{"all as a part", []string{"10.244.3.0/24"}, []string{"10.244.3.0/24"}, nil,
			`[[{"subnet":"10.244.3.0/24","rangeStart":"10.244.3.2","rangeEnd":"10.244.3.254","gateway":"10.244.3.1"}]]`},
		{"the smallest part", []string{"10.244.0.0/16"}, []string{"10.244.3.4/30"}, nil,
			`[[{"subnet":"10.244.0.0/16","rangeStart":"10.244.3.6","rangeEnd":"10.244.3.6","gateway":"10.244.3.5"}]]`},
		{"both families", []string{"10.244.0.0/16", "fd44::/48"}, []string{"fd44:0:0:3::/64", "10.244.3.0/24"}, nil,
			`[[{"subnet":"10.244.0.0/16","rangeStart":"10.244.3.2","rangeEnd":"10.244.3.254","gateway":"10.244.3.1"}],` +
				`[{"subnet":"fd44::/48","rangeStart":"fd44:0:0:3::2","rangeEnd":"fd44::3:ffff:ffff:ffff:ffff","gateway":"fd44:0:0:3::1"}]]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := List{Version: "1.0.0", Name: "o", VNI: 1, AddVNI: true, Subnets: prefixes(tc.subnets...), Ranges: tc.ranges}
			for _, g := range tc.gateways {
				l.Gateways = append(l.Gateways, netip.MustParseAddr(g))
			}
			got, err := l.ipam()
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(got.Ranges)
			if diff := cmp.Diff(tc.want, string(text)); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if _, err := l.JSON(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestListRefuses(t *testing.T) {
	for _, tc := range []struct {
		change func(*List)
		words  string
	}{
		{func(l *List) { l.Ranges = []string{"10.0.2.1-10.0.2.9"} }, "range 10.0.2.1-10.0.2.9 is in none of the subnets"},
		{func(l *List) { l.Ranges = []string{"10.0.1.9-10.0.1.1"} }, "give LO-HI"},
		{func(l *List) { l.Ranges = []string{"10.0.1.9"} }, "give LO-HI"},
		{func(l *List) { l.Ranges = []string{"10.0.1.9-10.0.2.9"} }, "is not all in 10.0.1.0/24"},
		{func(l *List) { l.Ranges = []string{"10.0.1.8/31"} }, "of 4 addresses or more"},
		{func(l *List) { l.Ranges = []string{"10.0.0.0/16"} }, "in none of the subnets"},
		{func(l *List) { l.Gateways = []netip.Addr{netip.MustParseAddr("10.0.2.1")} }, "gateway 10.0.2.1 is in none"},
		{func(l *List) { l.DefaultGateway = true }, "an address of its own to be a gateway"},
		{func(l *List) { l.Subnets = prefixes("10.0.1.3/24") }, "10.0.1.0/24 is the subnet"},
		{func(l *List) { l.Routes = []string{"10.9.0.0"} }, "DST=GATEWAY"},
		{func(l *List) { l.Routes, l.Subnets = []string{"10.9.0.0/16"}, nil }, "need a subnet"},
		{func(l *List) { l.Chain = []string{"{}"} }, "give its type"},
		{func(l *List) { l.Options = map[string]any{"tll": "3"} }, `no option "tll"`},
		{func(l *List) { l.MTU = 12 }, "mtu is 12"},
		{func(l *List) { l.Version = "9.9.9" }, "9.9.9"},
	} {
		l := List{Version: "1.0.0", Name: "o", VNI: 1, AddVNI: true, Subnets: prefixes("10.0.1.0/24")}
		tc.change(&l)
		if text, err := l.JSON(); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s %v, want %q", text, err, tc.words)
		}
	}
}
