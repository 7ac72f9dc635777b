package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

var errNoMembers = errors.New("the endpoint has no members: they find each other where it is started with --key-file and --join (see 'govxlan up --help')")

func newMembersCommand() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "members",
		Short: "Show the members that were found by up --join",
		Long: `Show who is a member of the same networks, found through up --join: alive, failed
(it does not answer, and is tried again), or left; those that are gone for an hour
are not shown any more. VNIS are those that it serves, STATIONS how many MAC
addresses it says are behind it; --json lists them.`,
		Example: `  govxlan members
  govxlan members --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := f.client()
			if err != nil {
				return err
			}
			m, err := client.Members(cmd.Context())
			switch {
			case err != nil:
				return err
			case !m.On:
				return errNoMembers
			case f.json:
				return printJSON(cmd.OutOrStdout(), m)
			}
			return printMembers(cmd.OutOrStdout(), m, time.Now())
		},
	}
	f.add(cmd)
	return cmd
}

// printMembers prints a line for each member, and a sentence for each address that
// nobody answers at.
func printMembers(w io.Writer, m control.Membership, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VTEP\tNAME\tSTATE\tSINCE\tVNIS\tSTATIONS")
	for _, of := range m.Members {
		at, name, stations := of.VTEP.String(), of.Name, 0
		if of.Port != vxlan.Port {
			at = netip.AddrPortFrom(of.VTEP, of.Port).String()
		}
		if of.Self {
			name += " (here)"
		}
		var vnis []string
		for _, v := range of.VNIs {
			vnis = append(vnis, v.VNI.String())
			stations += len(v.Stations)
		}
		const most = 4
		if more := len(vnis) - most; more > 0 {
			vnis = append(vnis[:most], fmt.Sprintf("+%d", more))
		}
		if len(vnis) == 0 {
			vnis = []string{"-"}
		}
		since := now.Sub(of.Since).Round(time.Second)
		fmt.Fprintf(t, "%s\t%s\t%s\t%v\t%s\t%d\n", at, name, of.State, since, strings.Join(vnis, ","), stations)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, j := range m.Joins {
		if !j.Joined && j.Error != "" {
			fmt.Fprint(w, wrap(j.Error, "not joined at "+j.Address+", trying again: "))
		}
	}
	if n := m.Counters.WrongKey; n > 0 {
		fmt.Fprint(w, wrap(fmt.Sprintf("%d packets or connections of somebody with another key", n), "refused: "))
	}
	return nil
}
