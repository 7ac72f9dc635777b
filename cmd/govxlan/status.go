package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/cobra"
)

// controlFlags are common to all commands that ask a running endpoint.
type controlFlags struct {
	path string
	json bool
}

func (f *controlFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.path, "control", "", "control socket (default: that of this network namespace)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
}

func (f *controlFlags) client() (*control.Client, error) {
	path := f.path
	if path == "" {
		var err error
		if path, err = control.Find(); err != nil {
			return nil, err
		}
	}
	return control.NewClient(path), nil
}

// printJSON prints one value, indented for people and valid for programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newStatusCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the running endpoint: VNIs, peers, counters",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			s, err := client.Status(cmd.Context())
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s)
		},
	}
	f.add(cmd)
	return cmd
}

// printStatus prints an endpoint in at most 80 columns.
func printStatus(w io.Writer, s control.Status) error {
	over := ""
	if s.Transport != "" {
		over = "  transport " + s.Transport
	}
	fmt.Fprintf(w, "govxlan %s  local %s port %d%s  up %v\n", s.Version, s.Local, s.Port, over, duration(s.Uptime))
	fmt.Fprintf(w, "  %d threads carry frames, by %s\n", s.Workers, s.IO)
	fmt.Fprintf(w, "  datapath %s\n", s.DatapathStatus)
	for _, p := range s.Programs {
		fmt.Fprintf(w, "  programs on %s, in their order: %s\n", p.Device, strings.Join(p.Programs, ", "))
	}
	if d := drops(s.Counters); d != "" {
		fmt.Fprintf(w, "  dropped before any VNI: %s\n", d)
	}
	for _, v := range s.VNIs {
		device := v.Device
		if v.VLAN != 0 {
			device = fmt.Sprintf("%s vlan %d", device, v.VLAN)
		}
		fmt.Fprintf(w, "\nvni %v  device %s  mac %v  mtu %d\n", v.VNI, device, v.MAC, v.MTU)
		fmt.Fprintf(w, "  offload %s  queues %d  fdb %d entries\n", v.Offload, v.Queues, v.Entries)
		if v.Datapath != s.Datapath {
			fmt.Fprintf(w, "  datapath %s\n", v.DatapathStatus)
		}
		if v.ARP != vtep.ARPFlood.String() {
			fmt.Fprintf(w, "  arp %s  neighbours %d  answered %d\n", v.ARP, v.Neighbours, v.Counters.TxARPAnswered)
		}
		fmt.Fprintf(w, "  rx %d frames %s  tx %d frames %s\n", v.Counters.RxFrames, size(v.Counters.RxBytes), v.Counters.TxFrames, size(v.Counters.TxBytes))
		if d := drops(v.Counters); d != "" {
			fmt.Fprintf(w, "  dropped: %s\n", d)
		}
		for _, g := range v.Multicast {
			name, state := g.Group.String(), "joined"
			if g.Port != s.Port {
				name = fmt.Sprintf("%s port %d", name, g.Port)
			}
			if !g.Joined {
				state = "not joined: " + g.Error
			}
			fmt.Fprintf(w, "  group %s dev %s  tx %d frames %s  %s\n", name, g.Device, g.TxFrames, size(g.TxBytes), state)
		}
		if len(v.Groups) > 0 {
			fmt.Fprintf(w, "  frames of groups: %s\n", groups(v.Groups))
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  PEER\tHEARD\tRX FRAMES\tRX\tTX FRAMES\tTX\tPMTU")
		for _, p := range v.Peers {
			heard := "never"
			if p.LastHeard != nil {
				heard = fmt.Sprintf("%v ago", duration(*p.LastHeard))
			}
			name := p.VTEP.String()
			if p.Port != s.Port {
				name = fmt.Sprintf("%s port %d", name, p.Port)
			}
			pmtu := "-"
			if p.PathMTU != 0 {
				pmtu = fmt.Sprint(p.PathMTU)
			}
			fmt.Fprintf(t, "  %s\t%s\t%d\t%s\t%d\t%s\t%s\n", name, heard, p.RxFrames, size(p.RxBytes), p.TxFrames, size(p.TxBytes), pmtu)
		}
		if len(v.Peers) == 0 {
			fmt.Fprintln(t, "  none")
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// groups lists the groups of group policy that frames came from.
func groups(all []vtep.GroupStatus) string {
	const most = 8 // of one line; all are in the JSON form
	var list []string
	for i, g := range all {
		if i == most {
			list = append(list, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		list = append(list, fmt.Sprintf("%d (%d)", g.Group, g.RxFrames))
	}
	return strings.Join(list, ", ")
}

// duration of a status, readable.
func duration(s vtep.Seconds) time.Duration {
	d := time.Duration(float64(s) * float64(time.Second))
	if d >= time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(100 * time.Millisecond)
}

// drops lists the counters above zero whose names say drop, as "reason N".
// The names are those of the JSON form, so that both say the same.
func drops(counters any) string {
	b, err := json.Marshal(counters)
	if err != nil {
		return err.Error()
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	var list []string
	var name string
	for {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch v := token.(type) {
		case string:
			name = v
		case float64:
			if v > 0 && strings.Contains(name, "_drop_") {
				list = append(list, fmt.Sprintf("%s %.0f", name, v))
			}
		}
	}
	return strings.Join(list, ", ")
}

// size is a number of bytes with three figures.
func size(n uint64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1000, 0
	for v >= 999.5 && i < len(units)-1 {
		v, i = v/1000, i+1
	}
	return fmt.Sprintf("%.3g %cB", v, units[i])
}
