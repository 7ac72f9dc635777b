package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/govxlan/govxlan/vtep"
)

// printTunnel prints a line for each peer of an encrypted tunnel, and a sentence
// about those that nothing can be said to.
func printTunnel(w io.Writer, s *vtep.TunnelStatus) error {
	if s == nil {
		return nil
	}
	fmt.Fprintf(w, "  tunnel port %d  mtu %d  key %s\n", s.ListenPort, s.MTU, s.PublicKey)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  KEY\tENDPOINT\tHANDSHAKE\tRX\tTX\tADDRESSES")
	for _, p := range s.Peers {
		endpoint, handshake := p.Endpoint, "never"
		if endpoint == "" {
			endpoint = "-"
		}
		if p.LastHandshake != nil {
			handshake = fmt.Sprintf("%v ago", duration(*p.LastHandshake))
		}
		addresses := "none"
		if n := len(p.AllowedIPs); n > 0 {
			addresses = p.AllowedIPs[0]
			if n > 1 {
				addresses += fmt.Sprintf(" +%d", n-1)
			}
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", shortKey(p.PublicKey), endpoint, handshake, size(p.RxBytes), size(p.TxBytes), addresses)
	}
	if len(s.Peers) == 0 {
		fmt.Fprintln(t, "  none")
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range s.Peers {
		switch {
		case p.LastHandshake != nil:
		case p.Endpoint == "":
			fmt.Fprint(w, wrap("has no endpoint here and has not come from anywhere yet: nothing can be sent to it", "  "+shortKey(p.PublicKey)+" "))
		case p.TxBytes > 0:
			fmt.Fprint(w, wrap("has not answered: is it up, is "+p.Endpoint+" its address, do firewalls let UDP through, and does each end have the public (and preshared) key of the other?", "  "+shortKey(p.PublicKey)+" "))
		}
	}
	return nil
}

// shortKey is the beginning of a key, enough to know it by.
func shortKey(key string) string {
	const most = 8
	if len(key) <= most {
		return key
	}
	return strings.TrimSuffix(key[:most], "=") + "…"
}
