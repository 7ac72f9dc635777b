// Package firewall finds out whether this host's packet filter drops a UDP packet
// of a VTEP: nftables, with iptables over it, and legacy iptables. It goes through
// the rules as the kernel would, for a packet of which some things are known. What
// depends on the rest may go either way, and then the answer is "maybe".
package firewall
