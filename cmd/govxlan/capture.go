package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/spf13/cobra"
)

// captureFlags are the command line of capture.
type captureFlags struct {
	control controlFlags
	vni     vniFlag

	peer, mac, ip, direction string
	buffer, ringSize         string
	count                    uint64
	duration                 time.Duration
	ringFiles                int
	file, color              string
	verbose                  bool

	wish control.CaptureWish
	ring int64 // ringSize in bytes
}

func newCaptureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Show or record frames at the running endpoint, with what became of them",
		Long: `capture shows the packets that the running endpoint sends and receives, the
outer headers included, and what became of them: a packet that is dropped says
why. With --inner it shows the frames as they cross the VNIs' devices instead.
It ends with Ctrl-C, after --count frames, or after --duration.

Without -w it prints one line a frame: time, direction (> out, < in, arrows
where the terminal has them), VNI, the other VTEP, and the frame. -v explains
each field by field, and --json prints one JSON object a line, that of
'govxlan decode --json' with "capture":
  vni, device, peer, verdict, dropped, outer, direction, interface

With -w it writes a pcapng file, which Wireshark and tshark read: with each
packet its direction and, as packet comment, why it was dropped. -w - writes to
standard output. The outer headers are made up of what the endpoint knows; MAC
addresses, and the TTL of what arrives, may be 0.

All conditions must hold: --vni, --peer (address of a VTEP or group), --mac and
--ip (source or destination of the inner frame), --direction, --drops.

The endpoint never waits for a capture. Frames that there was no room for are
counted as missed; -B gives more room.

It ends with status 0; 1 when there is no endpoint, when it ended, or when the
file could not be written; 2 on wrong usage.`,
		Example: `  govxlan capture --vni 4097
  govxlan capture --drops
  govxlan capture --inner --ip 10.0.1.0/24 -v
  govxlan capture -w overlay.pcapng -C 100 -W 10
  govxlan capture -w - | wireshark -k -i -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(cmd.OutOrStdout()); err != nil {
				return usageError{err}
			}
			return f.run(cmd)
		},
	}
	f.control.add(cmd)
	f.vni.add(cmd, "only frames of VNI `N`")
	flags := cmd.Flags()
	flags.StringVarP(&f.file, "write", "w", "", "write a pcapng to `FILE`, or - for standard output")
	flags.BoolVar(&f.wish.Inner, "inner", false, "frames as they cross the devices, without outer headers")
	flags.BoolVar(&f.wish.Drops, "drops", false, "only what is dropped")
	flags.StringVar(&f.peer, "peer", "", "only to or from the VTEP, or to the group, `ADDR`")
	flags.StringVar(&f.mac, "mac", "", "only inner frames to or from `MAC`")
	flags.StringVar(&f.ip, "ip", "", "only inner packets, or ARP, to or from `ADDR[/LEN]`")
	flags.StringVar(&f.direction, "direction", "both", "only `WAY`: in or out")
	flags.Uint64VarP(&f.count, "count", "c", 0, "end after `N` frames")
	flags.DurationVar(&f.duration, "duration", 0, "end after a `TIME` such as 30s")
	flags.IntVarP(&f.wish.SnapLen, "snaplen", "s", 0, "keep `N` bytes of each packet (0: all)")
	flags.StringVarP(&f.buffer, "buffer", "B", "", "keep `SIZE` KiB of frames that wait, or K, M, G (8M)")
	flags.StringVarP(&f.ringSize, "ring-size", "C", "", "next file after `SIZE` million bytes, or K, M, G")
	flags.IntVarP(&f.ringFiles, "ring-files", "W", 0, "with -C: `N` files, the oldest overwritten")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "explain frames field by field")
	flags.StringVar(&f.color, "color", "auto", "colour `WHEN`: auto, always or never")
	for flag, words := range map[string][]string{
		"direction": {"in", "out", "both"},
		"color":     {"auto", "always", "never"},
	} {
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// check judges the flags and makes the wish of them.
func (f *captureFlags) check(stdout io.Writer) error {
	var err error
	if f.wish.VNIs, err = f.vni.only(); err != nil {
		return err
	}
	if f.peer != "" {
		if f.wish.Peer, err = netip.ParseAddr(f.peer); err != nil {
			return fmt.Errorf("--peer %q: give the address of a VTEP, without a port", f.peer)
		}
	}
	if f.mac != "" {
		if f.wish.MAC, err = vxlan.ParseMAC(f.mac); err != nil || f.wish.MAC.IsZero() {
			return fmt.Errorf("--mac %q: give a MAC address such as 02:42:0a:00:01:67", f.mac)
		}
	}
	if f.ip != "" {
		if f.wish.IP, err = parsePrefix(f.ip); err != nil {
			return fmt.Errorf("--ip %q: give an address, or a prefix such as 10.0.1.0/24", f.ip)
		}
	}
	if f.wish.Direction, err = vtep.ParseDirection(f.direction); err != nil {
		return fmt.Errorf("--direction %q: give in, out or both", f.direction)
	}
	if f.wish.SnapLen < 0 || f.duration < 0 {
		return errors.New("--snaplen and --duration cannot be negative")
	}
	if f.buffer != "" {
		n, err := parseSize(f.buffer, 1<<10)
		if err != nil || n > 1<<30 {
			return fmt.Errorf("-B %q: give a number of KiB such as 4096, or 64M; up to 1G", f.buffer)
		}
		f.wish.Buffer = int(n)
	}
	if f.ringSize != "" {
		if f.ring, err = parseSize(f.ringSize, 1e6); err != nil {
			return fmt.Errorf("-C %q: give a number of million bytes such as 100, or 64M", f.ringSize)
		}
	}
	switch f.color {
	case "auto", "always", "never":
	default:
		return fmt.Errorf("--color: %q is none of auto, always, never", f.color)
	}
	toFile := f.file != ""
	switch {
	case f.ringFiles < 0:
		return fmt.Errorf("-W %d is no number of files", f.ringFiles)
	case f.ringFiles > 0 && f.ring == 0:
		return errors.New("-W needs -C, the size of each file")
	case f.ring > 0 && (!toFile || f.file == "-"):
		return errors.New("-C needs -w with the name of a file")
	case toFile && (f.verbose || f.control.json):
		return errors.New("-w goes neither with -v nor with --json: see 'govxlan decode' for what is in the file")
	case f.verbose && f.control.json:
		return errors.New("-v and --json cannot be had at once")
	}
	if f.file == "-" && isTerminal(stdout) {
		return errors.New("-w - writes bytes that are not for a terminal: redirect them, or leave -w out")
	}
	f.wish.Count = f.count
	f.wish.Notes = !toFile
	return nil
}

// parsePrefix takes an address for the prefix of itself alone.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		return netip.ParsePrefix(s)
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.WithZone("")
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// parseSize reads a positive number of units, or of KiB, MiB or GiB with K, M or G
// behind it.
func parseSize(s string, unit int64) (int64, error) {
	digits := s
	if n := len(s) - 1; n > 0 {
		if i := strings.IndexByte("kmg", s[n]|0x20); i >= 0 {
			digits, unit = s[:n], 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 1 || n > 1<<40/unit {
		return 0, fmt.Errorf("%q is no size", s)
	}
	return n * unit, nil
}

// captureSink is where captured frames go.
type captureSink interface {
	// take is given each block of the pcapng, valid during the call.
	take(*pcapng.Block) error
	// flush brings to its place what was taken.
	flush() error
	close() error
	// taken is how many frames were.
	taken() uint64
}

func (f *captureFlags) sink(cmd *cobra.Command) (captureSink, error) {
	stdout := cmd.OutOrStdout()
	if f.file != "" {
		return newCaptureFile(f.file, stdout, f.ring, f.ringFiles)
	}
	color := (&decodeFlags{color: f.color}).colored(stdout)
	return newCapturePrinter(stdout, captureStyle{
		color: color, verbose: f.verbose, json: f.control.json, columns: columns(stdout), arrows: utf8Locale(),
	}), nil
}

// run captures until something ends it.
func (f *captureFlags) run(cmd *cobra.Command) error {
	client, err := f.control.client()
	if err != nil {
		return err
	}
	ctx, abort := context.WithCancel(cmd.Context())
	defer abort()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	stream, err := client.Capture(ctx, f.wish)
	if err != nil {
		return err
	}
	defer stream.Close()
	// Only now: a capture that cannot be had leaves the file of the last one.
	sink, err := f.sink(cmd)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "capturing, Ctrl-C ends it"+f.unknown())
	f.warn(ctx, client, cmd.ErrOrStderr())

	// The first signal ends the capture, and what is on its way still comes; the
	// second one does not wait for that.
	interrupted := make(chan struct{})
	timer := time.NewTimer(f.duration)
	if f.duration == 0 {
		timer.Stop()
	}
	defer timer.Stop()
	go func() {
		select {
		case <-signals:
			close(interrupted)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		_ = stream.Stop() // fails when the stream has ended by itself
		select {
		case <-signals:
			abort()
		case <-ctx.Done():
		}
	}()
	err = f.copy(ctx, stream, sink, interrupted)
	err = errors.Join(err, sink.close())
	fmt.Fprintf(cmd.ErrOrStderr(), "%s captured, %d missed\n", frames(sink.taken()), stream.Missed)
	return err
}

// unknown is a warning where outer headers are looked at closely.
func (f *captureFlags) unknown() string {
	if f.wish.Inner || f.file == "" && !f.verbose && !f.control.json {
		return ""
	}
	return "; outer headers: what is not known is 0, as MACs and TTLs received"
}

// warn says when the VNI asked for is not here: of one that is, silence would mean
// that nothing passes.
func (f *captureFlags) warn(ctx context.Context, client *control.Client, stderr io.Writer) {
	if len(f.wish.VNIs) == 0 {
		return
	}
	status, err := client.Status(ctx)
	if err != nil || slices.ContainsFunc(status.VNIs, func(v vtep.VNIStatus) bool { return v.VNI == f.wish.VNIs[0] }) {
		return
	}
	fmt.Fprintf(stderr, "VNI %v is not here now: of it there is only what is dropped for that\n", f.wish.VNIs[0])
}

// copy brings blocks to the sink until the stream ends.
func (f *captureFlags) copy(ctx context.Context, stream *control.CaptureStream, sink captureSink, interrupted <-chan struct{}) error {
	skip := false
	for {
		if !stream.Ready() {
			if err := sink.flush(); err != nil {
				return err
			}
		}
		b, err := stream.Next()
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if !skip && f.file == "" {
			// Whoever reads along wants it to stop; how much was missed comes
			// behind the frames that are on their way.
			select {
			case <-interrupted:
				skip = true
			default:
			}
		}
		if skip {
			continue
		}
		if err := sink.take(b); err != nil {
			return err
		}
	}
}

func frames(n uint64) string {
	if n == 1 {
		return "1 frame"
	}
	return fmt.Sprintf("%d frames", n)
}
