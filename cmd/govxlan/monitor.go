package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

func newMonitorCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Print changes of the forwarding table as they happen, until interrupted",
		Long: `Print one line for each change of the forwarding table, until it is interrupted:

  learned  a frame told where a MAC is
  moved    a frame told that a MAC is elsewhere now
  aged     a MAC was not heard of for the ageing time
  added, changed, deleted
           somebody entered or removed something
  held     a MAC moves between VTEPs too often, and is held (--mac-moves); from
           is where it wanted to
  released it may move again
  missed   a frame was lost for want of an entry and of peers
  noneigh  a station asked by ARP or ND for an address that no neighbour has
           (with --arp suppress or proxy)
  lost     so many changes came too fast to be told`,
		Example: `  govxlan monitor
  govxlan monitor --vni 4097 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := vni.only()
			if err != nil {
				return err
			}
			client, err := f.client()
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			events, err := client.Watch(ctx, only...)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			defer events.Close()
			lines := json.NewEncoder(cmd.OutOrStdout())
			for {
				e, err := events.Next()
				switch {
				case ctx.Err() != nil:
					return nil
				case err != nil:
					return err
				case f.json:
					err = lines.Encode(e)
				default:
					err = printEvent(cmd.OutOrStdout(), e)
				}
				if err != nil {
					return fmt.Errorf("standard output: %w", err)
				}
			}
		},
	}
	f.add(cmd)
	vni.add(cmd, "only this VNI")
	return cmd
}

// printEvent prints an event as one line.
func printEvent(w io.Writer, e vtep.Event) error {
	at := e.Time.Format("15:04:05.000")
	if e.Lost > 0 {
		_, err := fmt.Fprintf(w, "%s %-7s %d\n", at, e.What, e.Lost)
		return err
	}
	if e.IP.IsValid() {
		_, err := fmt.Fprintf(w, "%s %-7s vni %v %v\n", at, e.What, e.VNI, e.IP)
		return err
	}
	place := func(a netip.Addr, port uint16, v vxlan.VNI) string {
		s := netip.AddrPortFrom(a, port).String()
		if v != 0 {
			s += fmt.Sprintf(" remote-vni %v", v)
		}
		return s
	}
	line := fmt.Sprintf("%s %-7s vni %v %v", at, e.What, e.VNI, e.MAC)
	switch {
	case e.Nexthops != 0:
		line += fmt.Sprintf(" nhid %d", e.Nexthops)
	case e.VTEP.IsValid():
		line += " " + place(e.VTEP, e.Port, e.RemoteVNI)
	}
	if e.From != nil {
		v := vxlan.VNI(0)
		if e.From.VNI != nil {
			v = *e.From.VNI
		}
		line += " from " + place(e.From.VTEP, e.From.Port, v)
	}
	if e.Kind != "" {
		line += " " + e.Kind
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
