package cni

import (
	"errors"
	"net"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// What containers send beyond their network leaves with an address of the host:
// a rule for each address, in a table of this plugin's own, which says in its
// comment which port of which bridge it is for. Written by netlink: neither nft
// nor iptables has to be on the host.
const masqueradeTable = "govxlan-cni"

func masqueradeChain() (*nftables.Table, *nftables.Chain) {
	t := &nftables.Table{Name: masqueradeTable, Family: nftables.TableFamilyINet}
	return t, &nftables.Chain{
		Name: "postrouting", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

// masquerade adds the rules of a container. The lock is held.
func masquerade(port string, ips []*types100.IPConfig) error {
	c, err := nftables.New()
	if err != nil {
		return fail(types.ErrIOFailure, "ipMasq: nftables: %v", err)
	}
	table, chain := masqueradeChain()
	c.AddTable(table)
	c.AddChain(chain)
	for _, ip := range ips {
		c.AddRule(&nftables.Rule{
			Table: table, Chain: chain, Exprs: masqueradeRule(&ip.Address),
			UserData: userdata.AppendString(nil, userdata.TypeComment, port+" "+ip.Address.IP.String()),
		})
	}
	if err := c.Flush(); err != nil {
		return fail(types.ErrIOFailure, "ipMasq: the kernel's nftables: %v", err)
	}
	return nil
}

// masqueradeRule: from this address, to none of its own network and no multicast
// group.
func masqueradeRule(n *net.IPNet) []expr.Any {
	family, source, length, multicast := byte(unix.NFPROTO_IPV6), uint32(8), uint32(16), net.IPNet{IP: net.IP{0: 0xff, 15: 0}, Mask: net.CIDRMask(8, 128)}
	ip := n.IP.To16()
	if ip4 := n.IP.To4(); ip4 != nil {
		family, source, length, multicast = unix.NFPROTO_IPV4, 12, 4, net.IPNet{IP: net.IP{224, 0, 0, 0}, Mask: net.CIDRMask(4, 32)}
		ip = ip4
	}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: length},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip},
	}
	for _, not := range []net.IPNet{{IP: ip.Mask(n.Mask), Mask: n.Mask}, multicast} {
		rule = append(rule,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source + length, Len: length},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: not.Mask, Xor: make([]byte, length)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: not.IP},
		)
	}
	return append(rule, &expr.Counter{}, &expr.Masq{})
}

// masqueradeRules are those that there are; none where the kernel has no nftables.
func masqueradeRules(c *nftables.Conn) ([]*nftables.Rule, error) {
	rules, err := c.GetRules(masqueradeChain())
	switch {
	case err == nil:
		return rules, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EINVAL):
		return nil, nil
	}
	return nil, fail(types.ErrIOFailure, "ipMasq: rules of nftables: %v", err)
}

// owner is what the comment of a rule says: the port, and the address.
func owner(r *nftables.Rule) (port, address string) {
	comment, _ := userdata.GetString(r.UserData, userdata.TypeComment)
	port, address, _ = strings.Cut(comment, " ")
	return port, address
}

// masqueraded are the addresses for which there is a rule of a port.
func masqueraded(port string) (addresses []string, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fail(types.ErrIOFailure, "ipMasq: nftables: %v", err)
	}
	rules, err := masqueradeRules(c)
	for _, r := range rules {
		if of, address := owner(r); of == port {
			addresses = append(addresses, address)
		}
	}
	return addresses, err
}

// unmasquerade removes the rules of the ports that gone says so of, and the table
// with the last of them. Ports without rules are most of them, and no error. The lock
// is held.
func unmasquerade(gone func(port string) bool) error {
	c, err := nftables.New()
	if err != nil {
		return fail(types.ErrIOFailure, "ipMasq: nftables: %v", err)
	}
	rules, err := masqueradeRules(c)
	if err != nil || len(rules) == 0 {
		return err
	}
	left := len(rules)
	for _, r := range rules {
		if port, _ := owner(r); gone(port) {
			if err := c.DelRule(r); err != nil {
				return fail(types.ErrIOFailure, "ipMasq: %v", err)
			}
			left--
		}
	}
	if left == 0 {
		table, _ := masqueradeChain()
		c.DelTable(table)
	}
	if left == len(rules) {
		return nil
	}
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fail(types.ErrIOFailure, "ipMasq: remove rules of nftables: %v", err)
	}
	return nil
}
