package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/membership"
)

// keyFile makes a file with a key for members.
func keyFile(t *testing.T, key string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(path, []byte(key+"\n"), 0o600))
	return path
}

// members are those that a program knows, by their VTEPs, with their states.
func (p *program) members() (control.Membership, map[string]string) {
	p.t.Helper()
	o := p.ask("members", "--json")
	var m control.Membership
	if o.code != 0 || json.Unmarshal([]byte(o.stdout), &m) != nil {
		p.t.Fatalf("members: %+v", o)
	}
	states := make(map[string]string)
	for _, of := range m.Members {
		states[of.VTEP.String()] = of.State
	}
	return m, states
}

// awaitMembers waits until a program knows of VTEPs in a state, and has just those of
// them that are alive as peers.
func (p *program) awaitMembers(want map[string]string) {
	p.t.Helper()
	within(p.t, 20*time.Second, func() error {
		m, states := p.members()
		if !maps.Equal(states, want) {
			return fmt.Errorf("members %v, want %v: %+v", states, want, m)
		}
		var peers, alive []string
		for _, v := range p.status().VNIs {
			for _, peer := range v.Peers {
				peers = append(peers, peer.VTEP.String())
			}
		}
		for _, of := range m.Members {
			if of.State == "alive" && !of.Self {
				alive = append(alive, of.VTEP.String())
			}
		}
		slices.Sort(peers)
		slices.Sort(alive)
		if !slices.Equal(peers, alive) {
			return fmt.Errorf("peers %v, want %v", peers, alive)
		}
		return nil
	})
}

// joined starts a program for each host: all with the same flags, but for the address
// of the device.
func joined(t *testing.T, hosts []*host, key string, more ...string) []*program {
	t.Helper()
	var programs []*program
	for i, h := range hosts {
		programs = append(programs, up(t, h.Namespace, joinFlags(hosts, i, key, more...)...))
	}
	return programs
}

func joinFlags(hosts []*host, i int, key string, more ...string) []string {
	return append([]string{
		"--vni", "4097", "--join", hosts[0].ip4.String(), "--key-file", key, "--addr", fmt.Sprintf("10.0.1.%d/24", 100+i),
	}, more...)
}

// TestJoin: three hosts with the same flags find each other and each other's stations;
// who is killed, leaves, comes again or is replaced is followed.
func TestJoin(t *testing.T) {
	t.Parallel()
	for _, privileges := range []string{"auto", "all"} {
		t.Run("privileges="+privileges, func(t *testing.T) {
			t.Parallel()
			hosts := newHosts(t, "join", 3, wiring{})
			key := keyFile(t, membership.NewKey())
			more := []string{"--learning=false", "--arp", "proxy", "--privileges", privileges}
			p := joined(t, hosts, key, more...)
			if line := p[1].upLine(); !strings.Contains(line, " peers none members at 192.168.52.204:7947 mtu 1450 ") {
				t.Errorf("the line of a member: %q", line)
			}
			all := map[string]string{"192.168.52.203": "alive", "192.168.52.204": "alive", "192.168.52.205": "alive"}
			for _, one := range p {
				one.awaitMembers(all)
			}
			addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(100 + i)}) }
			// Nothing is learned and nothing is asked: all is told.
			ping(t, hosts[1].Namespace, addr(2), 3)
			ping(t, hosts[0].Namespace, addr(1), 3)
			must(t, transfer(hosts[2].Namespace, hosts[0].Namespace, addr(0), 1<<20))
			if o := p[1].ask("config", "show"); strings.Contains(o.stdout, "peers: [") || strings.Contains(o.stdout, "fdb:\n") {
				t.Errorf("what members said is shown as options: %s", o.stdout)
			}
			if o := p[1].ask("doctor"); o.code != 0 || !strings.Contains(o.stdout, "other members that answer: 2") {
				t.Errorf("doctor: %+v", o)
			}
			o := p[1].ask("members")
			if o.code != 0 || strings.Count(o.stdout, "alive") != 3 || !strings.Contains(o.stdout, "(here)") {
				t.Errorf("members: %+v", o)
			}

			// A VNI more is told, and one less.
			for i, one := range p[:2] {
				if o := one.ask("vni", "add", "4098", "--addr", fmt.Sprintf("10.0.2.%d/24", 203+i)); o.code != 0 {
					t.Fatalf("vni add: %+v", o)
				}
			}
			eventually(t, func() error {
				out, err := hosts[0].Command(t.Context(), "ping", "-c", "1", "-W", "1", "10.0.2.204").CombinedOutput()
				if err != nil {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
			if o := p[0].ask("vni", "del", "4098"); o.code != 0 {
				t.Fatalf("vni del: %+v", o)
			}
			eventually(t, func() error {
				if o := p[1].ask("fdb", "show", "--vni", "4098"); strings.Contains(o.stdout, "192.168.52.203") {
					return fmt.Errorf("who does not serve it any more is in the table: %s", o.stdout)
				}
				return nil
			})
			if o := p[1].ask("vni", "del", "4098"); o.code != 0 {
				t.Fatalf("vni del: %+v", o)
			}

			// Another process goes on with what was told, and is known.
			next := p[1].takeover(p[1].cmd.Path, joinFlags(hosts, 1, key, more...)...)
			ping(t, hosts[1].Namespace, addr(2), 1, "-W", "1")
			ping(t, hosts[0].Namespace, addr(1), 1, "-W", "1")
			p[1] = next
			for _, one := range p {
				one.awaitMembers(all)
			}
			ping(t, hosts[1].Namespace, addr(2), 3)

			p[2].signal(syscall.SIGKILL)
			if code := p[2].exit(); code != -1 {
				t.Errorf("exit status %d after SIGKILL", code)
			}
			all["192.168.52.205"] = "failed"
			p[0].awaitMembers(all)
			p[1].awaitMembers(all)
			if o := p[0].ask("fdb", "show"); strings.Contains(o.stdout, "192.168.52.205") {
				t.Errorf("entries of a member that is gone: %s", o.stdout)
			}
			all["192.168.52.205"] = "alive"
			p[2] = up(t, hosts[2].Namespace, joinFlags(hosts, 2, key, more...)...)
			for _, one := range p {
				one.awaitMembers(all)
			}
			ping(t, hosts[0].Namespace, addr(2), 3)

			// The one by which the others found each other is not needed any more.
			p[0].stop()
			all["192.168.52.203"] = "left"
			p[1].awaitMembers(all)
			ping(t, hosts[1].Namespace, addr(2), 3)
			p[1].stop()
			p[2].stop()
		})
	}
}

// TestJoinReload: where to join is changed while it runs; a key is not.
func TestJoinReload(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "joinre", 2, wiring{})
	key := keyFile(t, membership.NewKey())
	file := filepath.Join(t.TempDir(), "govxlan.yaml")
	write := func(join string) {
		t.Helper()
		must(t, os.WriteFile(file, []byte("local: 192.168.52.203\njoin: ["+join+"]\nkey-file: "+key+"\nvnis:\n  - vni: 4097\n    addr: [10.0.1.100/24]\n"), 0o600))
	}
	write("192.168.52.203")
	p := up(t, hosts[0].Namespace, "--config", file)
	other := up(t, hosts[1].Namespace, "--vni", "4097", "--key-file", key, "--local", "192.168.52.204", "--addr", "10.0.1.101/24")
	p.awaitMembers(map[string]string{"192.168.52.203": "alive"})
	write("192.168.52.203, 192.168.52.204")
	if o := p.ask("reload"); o.code != 0 || !strings.Contains(o.stdout, "join") {
		t.Errorf("reload: %+v", o)
	}
	all := map[string]string{"192.168.52.203": "alive", "192.168.52.204": "alive"}
	p.awaitMembers(all)
	other.awaitMembers(all)
	ping(t, hosts[0].Namespace, netip.MustParseAddr("10.0.1.101"), 3)
	must(t, os.WriteFile(key, []byte(membership.NewKey()), 0o600))
	if o := p.ask("reload"); o.code != 1 || !strings.Contains(o.stderr, "the key in") {
		t.Errorf("reload with another key: %+v", o)
	}
	p.awaitMembers(all)
}

// TestJoinRefused: one clear sentence each.
func TestJoinRefused(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "joinno", 2, wiring{})
	ns := hosts[0].Namespace
	good, bad := keyFile(t, membership.NewKey()), keyFile(t, "secret")
	base := []string{"--vni", "4097", "--local", "192.168.52.203"}
	with := func(more ...string) []string { return append(slices.Clone(base), more...) }
	refused(t, ns, 2, []string{"--join", "govxlan key join", "--key-file"}, with("--join", "192.168.52.204")...)
	refused(t, ns, 2, []string{bad, "44 characters"}, with("--join", "192.168.52.204", "--key-file", bad)...)
	refused(t, ns, 2, []string{"no such file"}, with("--key-file", "/nonexistent")...)
	refused(t, ns, 2, []string{"address of a member"}, with("--key-file", good, "--join", "192.168.52")...)
	refused(t, ns, 2, []string{"--join-port", "port of VXLAN"}, with("--key-file", good, "--join-port", "4789")...)
	refused(t, ns, 2, []string{"0.0.0.0"}, "--vni", "4097", "--local", "0.0.0.0", "--key-file", good)
	hold, err := ns.Listen("tcp", "192.168.52.203:7947")
	must(t, err)
	defer hold.Close()
	before := snapshot(t, ns)
	refused(t, ns, 1, []string{"7947", "--join-port"}, with("--key-file", good)...)
	if after := snapshot(t, ns); after != before {
		t.Errorf("something is left: before\n%safter\n%s", before, after)
	}
	p := up(t, hosts[1].Namespace, "--vni", "4097", "--local", "192.168.52.204")
	if o := p.ask("members"); o.code != 1 || !strings.Contains(o.stderr, "--key-file") {
		t.Errorf("members of an endpoint without: %+v", o)
	}
	p.stop()
}

// TestJoinStrangers: who has another key is refused, and counted; rubbish ends nothing.
func TestJoinStrangers(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "joinstr", 2, wiring{})
	one := up(t, hosts[0].Namespace, joinFlags(hosts, 0, keyFile(t, membership.NewKey()))...)
	two := up(t, hosts[1].Namespace, joinFlags(hosts, 1, keyFile(t, membership.NewKey()))...)
	eventually(t, func() error {
		m, _ := two.members()
		if len(m.Joins) != 1 || m.Joins[0].Joined || !strings.Contains(m.Joins[0].Error, "key") {
			return fmt.Errorf("with another key: %+v", m)
		}
		if m, _ := one.members(); m.Counters.WrongKey == 0 || len(m.Members) != 1 {
			return fmt.Errorf("of another key: %+v", m)
		}
		return nil
	})
	must(t, hosts[1].Namespace.Do(func() error {
		c, err := net.Dial("udp", "192.168.52.203:7947")
		if err != nil {
			return err
		}
		defer c.Close()
		for n := range 256 {
			if _, err := c.Write(slices.Repeat([]byte{byte(n)}, n+1)); err != nil {
				return err
			}
		}
		return nil
	}))
	eventually(t, func() error {
		if m, _ := one.members(); m.Counters.Foreign+m.Counters.WrongKey < 100 {
			return fmt.Errorf("rubbish is not counted: %+v", m.Counters)
		}
		return nil
	})
	one.awaitMembers(map[string]string{"192.168.52.203": "alive"})
	if o := one.ask("doctor"); !strings.Contains(o.stdout, "another key") {
		t.Errorf("doctor: %+v", o)
	}
	one.stop()
	two.stop()
}
