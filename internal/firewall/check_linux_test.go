package firewall

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

var (
	peer4 = netip.MustParseAddr("192.168.52.204")
	self4 = netip.MustParseAddr("192.168.52.203")
	peer6 = netip.MustParseAddr("fd52::204")
	self6 = netip.MustParseAddr("fd52::203")
)

func in(p Packet) Packet {
	p.Incoming, p.DstPort, p.Device, p.Index = true, 4789, "ens160", 7
	return p
}

var (
	in4  = in(Packet{Src: peer4, Dst: self4})
	in6  = in(Packet{Src: peer6, Dst: self6})
	out4 = Packet{Src: self4, Dst: peer4, DstPort: 4789, Device: "ens160", Index: 7}
)

// cases are rules, and what becomes of packets: "" passes, "drop", "maybe".
var cases = []struct {
	name           string
	nft            string // of nft -f
	run            string // command lines of iptables and its kin
	in4, in6, out4 string
}{
	{name: "no rule"},
	{name: "accept all", nft: `table inet f { chain c { type filter hook input priority 0; policy accept; counter; } }`},
	{name: "port", nft: `table inet f { chain c { type filter hook input priority 0; udp dport 4789 drop; } }`, in4: "drop", in6: "drop"},
	{name: "another port", nft: `table inet f { chain c { type filter hook input priority 0; udp dport 4790 drop; } }`},
	{name: "TCP", nft: `table inet f { chain c { type filter hook input priority 0; tcp dport 4789 drop; } }`},
	{name: "output", nft: `table inet f { chain c { type filter hook output priority 0; udp dport 4789 drop; } }`, out4: "drop"},
	{name: "forward is not our way", nft: `table inet f { chain c { type filter hook forward priority 0; policy drop; } }`},
	{name: "prerouting", nft: `table ip f { chain c { type filter hook prerouting priority -300; udp dport 4789 counter drop; } }`, in4: "drop"},
	{name: "postrouting", nft: `table ip f { chain c { type filter hook postrouting priority 0; ip daddr 192.168.52.204 drop; } }`, out4: "drop"},
	{name: "reject", nft: `table inet f { chain c { type filter hook input priority 0; udp dport 4789 reject; } }`, in4: "drop", in6: "drop"},
	{name: "policy", nft: `table inet f { chain c { type filter hook input priority 0; policy drop; tcp dport 22 accept; } }`, in4: "drop", in6: "drop"},
	{name: "policy, port open", nft: `table inet f { chain c { type filter hook input priority 0; policy drop; udp dport 4789 accept; } }`},
	{name: "answers only, as most firewalls", nft: `table inet f { chain c { type filter hook input priority 0; policy drop;
		ct state established,related accept; ct state invalid drop; iifname lo accept; icmp type echo-request accept; } }`, in4: "drop", in6: "drop"},
	{name: "firewalld's way", nft: `table inet f { chain c { type filter hook input priority 10; ct state { established, related } accept;
		ct status dnat accept; iifname "lo" accept; jump zones; ct state invalid drop; reject with icmpx admin-prohibited; }
		chain zones { iifname "ens160" goto public; goto public; } chain public { tcp dport 22 accept; } }`, in4: "drop", in6: "drop"},
	{name: "firewalld's way, service open", nft: `table inet f { chain c { type filter hook input priority 10; ct state { established, related } accept;
		ct status dnat accept; iifname "lo" accept; jump zones; ct state invalid drop; reject with icmpx admin-prohibited; }
		chain zones { iifname "ens160" goto public; goto public; } chain public { udp dport 4789 accept; } }`},
	{name: "source", nft: `table inet f { chain c { type filter hook input priority 0; ip saddr 192.168.52.204 drop; } }`, in4: "drop"},
	{name: "network", nft: `table inet f { chain c { type filter hook input priority 0; ip saddr 192.168.0.0/16 drop; ip6 saddr fd52::/64 drop; } }`, in4: "drop", in6: "drop"},
	{name: "other network", nft: `table inet f { chain c { type filter hook input priority 0; ip saddr 192.169.0.0/16 drop; ip6 saddr fd53::/64 drop; } }`},
	{name: "all but a source", nft: `table inet f { chain c { type filter hook input priority 0; ip saddr != 192.168.52.204 udp dport 4789 drop; } }`},
	{name: "device", nft: `table inet f { chain c { type filter hook input priority 0; iifname "ens160" drop; } }`, in4: "drop", in6: "drop"},
	{name: "device by a star", nft: `table inet f { chain c { type filter hook input priority 0; iifname "ens*" drop; } }`, in4: "drop", in6: "drop"},
	{name: "other device", nft: `table inet f { chain c { type filter hook input priority 0; iifname "ens161" drop; } }`},
	{name: "index of a device", nft: `table inet f { chain c { type filter hook input priority 0; iif lo drop; } }`},
	{name: "set of ports", nft: `table inet f { chain c { type filter hook input priority 0; udp dport { 53, 4789, 8472 } drop; } }`, in4: "drop", in6: "drop"},
	{name: "set of other ports", nft: `table inet f { chain c { type filter hook input priority 0; udp dport { 53, 8472 } drop; } }`},
	{name: "none of a set", nft: `table inet f { chain c { type filter hook input priority 0; udp dport != { 53, 8472 } drop; } }`, in4: "drop", in6: "drop"},
	{name: "named set of networks", nft: `table inet f { set bad { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.52.200-192.168.52.210 }; }
		chain c { type filter hook input priority 0; ip saddr @bad drop; } }`, in4: "drop"},
	{name: "named set of other networks", nft: `table inet f { set bad { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.52.205-192.168.52.210 }; }
		chain c { type filter hook input priority 0; ip saddr @bad drop; } }`},
	{name: "range of ports", nft: `table inet f { chain c { type filter hook input priority 0; udp dport 4000-5000 drop; } }`, in4: "drop", in6: "drop"},
	{name: "range without it", nft: `table inet f { chain c { type filter hook input priority 0; udp dport != 4000-5000 drop; } }`},
	{name: "verdict map", nft: `table inet f { chain c { type filter hook input priority 0; udp dport vmap { 53 : accept, 4789 : drop }; } }`, in4: "drop", in6: "drop"},
	{name: "verdict map that accepts", nft: `table inet f { chain c { type filter hook input priority 0; policy drop; udp dport vmap { 53 : drop, 4789 : accept }; } }`},
	{name: "verdict map without it", nft: `table inet f { chain c { type filter hook input priority 0; udp dport vmap { 53 : drop }; } }`},
	{name: "verdict map that jumps", nft: `table inet f { chain bad { drop; } chain c { type filter hook input priority 0; meta l4proto vmap { udp : jump bad }; } }`, in4: "drop", in6: "drop"},
	{name: "return", nft: `table inet f { chain sub { udp dport 4789 return; drop; } chain c { type filter hook input priority 0; jump sub; } }`},
	{name: "accept here, drop there", nft: `table inet f { chain a { type filter hook input priority -1; udp dport 4789 accept; } chain b { type filter hook input priority 0; udp dport 4789 drop; } }`, in4: "drop", in6: "drop"},
	{name: "untracked", nft: `table inet f { chain raw { type filter hook prerouting priority -300; udp dport 4789 notrack; }
		chain c { type filter hook input priority 0; policy drop; ct state established,related,untracked accept; } }`},
	{name: "rate", nft: `table inet f { chain c { type filter hook input priority 0; udp dport 4789 limit rate over 10/second drop; } }`, in4: "maybe", in6: "maybe"},
	{name: "source port", nft: `table inet f { chain c { type filter hook input priority 0; udp sport 50000 drop; } }`, in4: "maybe", in6: "maybe"},
	{name: "fragments", nft: `table ip f { chain c { type filter hook input priority 0; ip frag-off & 0x1fff != 0 drop; } }`, in4: "maybe"},
	{name: "to a local address", nft: `table ip f { chain c { type filter hook input priority 0; fib daddr type local udp dport 4789 drop; } }`, in4: "drop"},
	{name: "not to a local address", nft: `table ip f { chain c { type filter hook prerouting priority 0; fib daddr type != local drop; } }`},

	{name: "iptables", run: "iptables -A INPUT -p udp --dport 4789 -j DROP", in4: "drop"},
	{name: "ip6tables", run: "ip6tables -A INPUT -p udp --dport 4789 -j REJECT", in6: "drop"},
	{name: "iptables policy", run: "iptables -P OUTPUT DROP", out4: "drop"},
	{name: "iptables, answers only", run: "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -j REJECT", in4: "drop"},
	{name: "iptables, open", run: "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A INPUT -p udp -m udp --dport 4789 -m comment --comment ours -j ACCEPT; iptables -P INPUT DROP"},
	{name: "iptables by string", run: "iptables -A INPUT -p udp -m length --length 100:200 -j DROP", in4: "maybe"},

	{name: "legacy", run: "iptables-legacy -A INPUT -p udp --dport 4789 -j DROP", in4: "drop"},
	{name: "legacy policy", run: "iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -p udp --dport 4789 -j ACCEPT"},
	{name: "legacy, answers only", run: "iptables-legacy -N in; iptables-legacy -A INPUT -j in; iptables-legacy -A in -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-legacy -A in -i ens+ ! -s 10.0.0.0/8 -j DROP", in4: "drop"},
}

func TestRules(t *testing.T) {
	lab := netlabtest.New(t, "rules")
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			ns := netlabtest.Namespace(t, lab, "c"+string(rune('A'+i/26))+string(rune('a'+i%26)))
			sh := func(line, stdin string) {
				cmd := ns.Command(t.Context(), "sh", "-ec", line)
				cmd.Stdin = strings.NewReader(stdin)
				var out strings.Builder
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				if err := cmd.Wait(); err != nil {
					t.Fatalf("%s: %v\n%s", line, err, out.String())
				}
			}
			if tc.nft != "" {
				// The language wants lines; a line each is easier to read here.
				sh("nft -f -", strings.NewReplacer("; }", "\n}\n", "} chain", "}\nchain").Replace(tc.nft)+"\n")
			}
			if tc.run != "" {
				sh(tc.run, "")
			}
			check := func(want map[*Packet]string) (commands []string) {
				var rules *Rules
				if err := ns.Do(func() (err error) {
					rules, err = Read(t.Context())
					return err
				}); err != nil {
					t.Fatal(err)
				}
				for p, want := range want {
					got := ""
					for _, d := range rules.Check(*p) {
						if got != "drop" {
							got = "drop"
							if d.Maybe {
								got = "maybe"
							}
						}
						commands = append(commands, d.Command)
						if d.Where == "" {
							t.Errorf("%+v: dropped by a rule without a name", *p)
						}
					}
					if got != want {
						t.Errorf("%+v: %q, want %q", *p, got, want)
					}
				}
				return commands
			}
			commands := check(map[*Packet]string{&in4: tc.in4, &in6: tc.in6, &out4: tc.out4})
			for _, c := range commands {
				sh(c, "")
			}
			check(map[*Packet]string{&in4: "", &in6: "", &out4: ""})
		})
	}
}

// The rules above are made by the programs that people make theirs with.
func TestProgramsAreThere(t *testing.T) {
	for _, program := range []string{"nft", "iptables", "ip6tables", "iptables-legacy", "iptables-legacy-save"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Errorf("%v: install it, or use make test, which does", err)
		}
	}
}
