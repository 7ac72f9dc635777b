package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
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
	var vni vniFlag
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the running endpoint: VNIs, peers, counters",
		Long: fmt.Sprintf(`Show the running endpoint: VNIs, peers, counters.

More than %d VNIs are shown in a line each, and of more than %d peers of a VNI the
first ones, unless --vni names one or --all asks for all of them.`, mostVNIs, mostPeers),
		Example: `  govxlan status
  govxlan status --json`,
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
			s, err := client.Status(cmd.Context(), only...)
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return printStatus(cmd.OutOrStdout(), s, all || only != nil)
		},
	}
	f.add(cmd)
	vni.add(cmd, "only this VNI")
	cmd.Flags().BoolVar(&all, "all", false, "all VNIs and peers, however many")
	return cmd
}

// What is shown at once unless more is asked for.
const (
	mostVNIs  = 16
	mostPeers = 32
)

// printStatus prints an endpoint in at most 80 columns; all: however long it
// gets.
func printStatus(w io.Writer, s control.Status, all bool) error {
	over := ""
	if s.Transport != "" {
		over = "transport " + s.Transport + "  "
	}
	fmt.Fprintf(w, "govxlan %s  local %s port %d\n", s.Version, s.Local, s.Port)
	by := fmt.Sprintf("%d threads carry frames, by %s", s.Workers, s.IO)
	if s.Workers == 0 {
		by = s.IO + " carry frames"
	}
	fmt.Fprintf(w, "  up %v  %s%s\n", duration(s.Uptime), over, by)
	fmt.Fprint(w, wrap(s.DatapathStatus.String(), "  datapath "))
	if s.Privileges.User != "" { // older ones do not tell
		fmt.Fprint(w, wrap(s.Privileges.String(), "  runs as "))
	}
	for _, p := range s.Programs {
		fmt.Fprint(w, wrap(strings.Join(p.Programs, ", "), "  programs on "+p.Device+", in their order: "))
	}
	if err := printTunnel(w, s.Tunnel); err != nil {
		return err
	}
	if d := drops(s.Counters.Drops()); d != "" {
		fmt.Fprint(w, wrap(d, "  dropped before any VNI: "))
	}
	if !all && len(s.VNIs) > mostVNIs {
		return printBriefly(w, s.VNIs)
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
		if d := drops(v.Counters.Drops()); d != "" {
			fmt.Fprint(w, wrap(d, "  dropped: "))
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
			fmt.Fprint(w, wrap(groups(v.Groups), "  frames of groups: "))
		}
		peers := v.Peers
		if !all {
			peers = peers[:min(len(peers), mostPeers)]
		}
		if err := printPeers(w, peers, s.Port); err != nil {
			return err
		}
		if more := len(v.Peers) - len(peers); more > 0 {
			fmt.Fprintf(w, "  and %d more: --vni %v shows them\n", more, v.VNI)
		}
	}
	return nil
}

// printPeers prints a line for each peer, with a column for path MTUs if one is
// known.
func printPeers(w io.Writer, peers []vtep.PeerStatus, port uint16) error {
	narrow := slices.ContainsFunc(peers, func(p vtep.PeerStatus) bool { return p.PathMTU != 0 })
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, heard, rxFrames, rx, txFrames, tx, pmtu string) {
		if narrow {
			tx += "\t" + pmtu
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", name, heard, rxFrames, rx, txFrames, tx)
	}
	row("PEER", "HEARD", "RX FRAMES", "RX", "TX FRAMES", "TX", "PMTU")
	for _, p := range peers {
		heard := "never"
		if p.LastHeard != nil {
			heard = fmt.Sprintf("%v ago", duration(*p.LastHeard))
		}
		name := p.VTEP.String()
		if p.Port != port {
			name = fmt.Sprintf("%s port %d", name, p.Port)
		}
		pmtu := "-"
		if p.PathMTU != 0 {
			pmtu = strconv.Itoa(p.PathMTU)
		}
		row(name, heard, count(p.RxFrames), size(p.RxBytes), count(p.TxFrames), size(p.TxBytes), pmtu)
	}
	if len(peers) == 0 {
		fmt.Fprintln(t, "  none")
	}
	return t.Flush()
}

// printBriefly prints a line for each VNI.
func printBriefly(w io.Writer, vnis []vtep.VNIStatus) error {
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VNI\tDEVICE\tPEERS\tFDB\tRX\tBYTES\tTX\tBYTES\tDROPPED")
	for _, v := range vnis {
		fmt.Fprintf(t, "%v\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", v.VNI, v.Device, len(v.Peers), v.Entries,
			count(v.Counters.RxFrames), size(v.Counters.RxBytes), count(v.Counters.TxFrames), size(v.Counters.TxBytes), count(dropped(v.Counters)))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d VNIs; --vni N shows all of one, --all of each\n", len(vnis))
	return err
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

// drops lists those above zero, as "reason N". The names are those of the JSON form,
// so that both say the same.
func drops(all iter.Seq2[string, uint64]) string {
	var list []string
	for name, n := range all {
		if n > 0 {
			list = append(list, fmt.Sprintf("%s %d", name, n))
		}
	}
	return strings.Join(list, ", ")
}

// dropped is how many frames were dropped, for whatever reason.
func dropped(c vtep.Counters) (sum uint64) {
	for _, n := range c.Drops() {
		sum += n
	}
	return sum
}

// count is a number: as it is while it is short, else with three figures.
func count(n uint64) string {
	if n < 10_000_000 {
		return strconv.FormatUint(n, 10)
	}
	return strings.Replace(strings.TrimSuffix(size(n), "B"), " ", "", 1)
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
