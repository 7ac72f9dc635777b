package firewall

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Rules are those of a network namespace at one moment.
type Rules struct {
	nft    *ruleset
	legacy map[bool][]*legacyTable // by whether they are for IPv6
}

// ErrRights: the rules can only be read with CAP_NET_ADMIN.
var ErrRights = errors.New("the capability CAP_NET_ADMIN is missing")

// Read reads the rules of this thread's network namespace. Rules of legacy
// iptables are asked of iptables-legacy-save, if there are any and that is
// installed.
func Read(ctx context.Context) (*Rules, error) {
	nft, err := readNFT()
	if errors.Is(err, unix.EPERM) {
		return nil, ErrRights
	}
	if err != nil {
		return nil, err
	}
	r := &Rules{nft: nft, legacy: make(map[bool][]*legacyTable)}
	for _, v6 := range []bool{false, true} {
		names, program := "/proc/thread-self/net/ip_tables_names", "iptables-legacy-save"
		if v6 {
			names, program = "/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save"
		}
		tables, err := os.ReadFile(names)
		if err != nil || len(tables) == 0 {
			continue
		}
		out, err := exec.CommandContext(ctx, program).Output()
		if err != nil {
			continue
		}
		r.legacy[v6] = parseLegacy(strings.ToValidUTF8(string(out), "?"))
	}
	return r, nil
}

// Check says what would drop a packet, nothing if nothing does.
func (r *Rules) Check(p Packet) []Drop {
	return append(r.nft.check(&p), checkLegacy(r.legacy[p.Src.Is6()], &p)...)
}
