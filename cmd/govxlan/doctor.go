package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/dockeroverlay"
	"github.com/govxlan/govxlan/internal/doctor"
	"github.com/spf13/cobra"
)

func newDoctorCommand() *cobra.Command {
	var f controlFlags
	var vni vniFlag
	var peers []string
	var port uint16
	var docker, sandboxes string
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Find out why an overlay does not work, and what mends it",
		Long: `Check what commonly keeps an overlay from working: on this host, in the running
endpoint if there is one, and on the way to its peers, or to those of --peer. Each
finding says whether it is well, and with which command it is mended.

It changes nothing, and ends with status 0 unless something fails.`,
		Example: `  govxlan doctor
  govxlan doctor --peer 192.168.52.204 --vni 4097
  govxlan doctor --docker
  govxlan doctor --json | jq '.findings[] | select(.state != "ok")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			only, err := vni.parse()
			if err != nil {
				return err
			}
			var names []config.PeerName
			for _, s := range peers {
				name, err := config.ParsePeer(s, 0) // 0: that of the endpoint, see portsOf
				if err != nil {
					return usagef("--peer %w", err)
				}
				names = append(names, name)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			cfg := doctor.Config{VNI: only, Port: port}
			if cfg.Peers, err = config.ResolvePeers(ctx, names); err != nil {
				return err
			}
			if cfg.Client, cfg.Status, err = f.running(ctx); err != nil {
				cfg.ControlError = err
			}
			if cfg.Status != nil {
				cfg.Peers = portsOf(cfg.Peers, cfg.Status.Port)
			} else {
				cfg.Peers = portsOf(cfg.Peers, port)
			}
			if docker != "" {
				cfg.Overlays, _, cfg.OverlayError = dockeroverlay.Inspect(ctx, dockeroverlay.Options{Sandboxes: sandboxes, Docker: docker})
			}
			r := doctor.Examine(ctx, cfg)
			if ctx.Err() != nil {
				return errors.New("interrupted before all was checked")
			}
			if f.json {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = printFindings(cmd.OutOrStdout(), r)
			}
			if err != nil {
				return err
			}
			if !r.OK {
				return fmt.Errorf("%s: see above for what mends it", counted(r.Failures, "check fails", "checks fail"))
			}
			return nil
		},
	}
	f.add(cmd)
	vni.add(cmd, "only this VNI")
	cmd.Flags().StringSliceVar(&peers, "peer", nil, "look at the way to this VTEP, ADDR[:PORT] or a host name; repeatable (default: all peers of the endpoint)")
	cmd.Flags().StringVar(&docker, "docker", "", "look at Docker's own overlay networks too, by its socket (default: "+dockeroverlay.DefaultDocker+")")
	cmd.Flags().Lookup("docker").NoOptDefVal = dockeroverlay.DefaultDocker
	cmd.Flags().StringVar(&sandboxes, "sandboxes", dockeroverlay.DefaultSandboxes, "where Docker keeps its network namespaces, for --docker")
	cmd.Flags().Uint16Var(&port, "port", 4789, "UDP port, where no endpoint runs")
	return cmd
}

// portsOf gives peers that were named without a port one.
func portsOf(peers []netip.AddrPort, port uint16) []netip.AddrPort {
	for i, p := range peers {
		if p.Port() == 0 {
			peers[i] = netip.AddrPortFrom(p.Addr(), port)
		}
	}
	return peers
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// mostAlike bounds findings in a row that all is well, of one check.
const mostAlike = 8

// printFindings prints a finding a paragraph, in 80 columns.
func printFindings(w io.Writer, r doctor.Report) error {
	color := map[doctor.State]string{}
	if hasColor(w) {
		color = map[doctor.State]string{doctor.OK: "\x1b[32m", doctor.Warn: "\x1b[33m", doctor.Fail: "\x1b[31m", doctor.Skip: "\x1b[2m"}
	}
	const margin = "                     "
	run := 0 // of findings that say of one thing after another that it is well
	for i, f := range r.Findings {
		if i == 0 || f.Check != r.Findings[i-1].Check || f.State != r.Findings[i-1].State {
			run = 0
		}
		if run++; f.State == doctor.OK && run > mostAlike {
			if i+1 == len(r.Findings) || r.Findings[i+1].Check != f.Check || r.Findings[i+1].State != f.State {
				fmt.Fprintf(w, "%s... and %d more\n", margin, run-mostAlike)
			}
			continue
		}
		word := string(f.State)
		if f.State == doctor.Fail || f.State == doctor.Warn {
			word = strings.ToUpper(word)
		}
		text := f.Text
		if f.VNI != nil {
			text = fmt.Sprintf("VNI %v: %s", *f.VNI, text)
		}
		text = wrap(text, fmt.Sprintf("%-4s  %-14s ", word, f.Check))
		if c := color[f.State]; c != "" {
			text = c + word + "\x1b[0m" + strings.TrimPrefix(text, word)
		}
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		if f.Command != "" {
			prompt := "$"
			if f.On.IsValid() {
				prompt = fmt.Sprintf("on %v: $", f.On)
			}
			fmt.Fprintf(w, "%s%s %s\n", margin, prompt, f.Command)
		}
	}
	_, err := fmt.Fprintf(w, "%s, %s\n", counted(r.Failures, "failure", "failures"), counted(r.Warnings, "warning", "warnings"))
	return err
}
