package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/govxlan/govxlan/internal/dockeroverlay"
	"github.com/govxlan/govxlan/internal/explain"
	"github.com/govxlan/govxlan/internal/explain/input"
	"github.com/govxlan/govxlan/vxlan"
)

// decodeFlags are the command line of decode, and what it was checked into.
type decodeFlags struct {
	from    string
	ports   []uint
	vni     string
	limit   int
	inner   bool
	names   []string
	summary bool
	json    bool
	hex     bool
	color   string

	start     explain.Start
	portList  []uint16
	filter    bool
	filterVNI uint32
}

func newDecodeCommand() *cobra.Command {
	var f decodeFlags
	cmd := &cobra.Command{
		Use:   "decode [FILE | HEX | -]",
		Short: "Explain a capture or bytes, field by field",
		Long: `decode explains packets field by field: where each field is, what it holds, what
that means, and whether the checksums are right. It takes a pcap or pcapng file
(also compressed with gzip), hex as an argument, a hexdump of tcpdump, xxd,
hexdump or Wireshark in a file, the bytes of one packet, or any of these on
standard input (-, or no argument).

The packet may begin at the outer Ethernet header, at the outer IP header or at
the VXLAN header, or be a bare Ethernet frame: which one is found out. UDP ports
4789, 8472 and 4790 (VXLAN-GPE) carry VXLAN; on others a payload that looks like
VXLAN is taken for it.

With --json, each packet is one object on a line of its own:
  number, time, length, captured, start, summary, comment
  vni, vnis       of the outermost tunnel, and of all
  outer, inner    src_mac, dst_mac, vlan, src, dst, protocol, src_port, dst_port
  sizes           total, inner, overhead, parts: [{name, size}]
  layers          [{layer, side, offset, size, hex, fields:
                    [{name, offset, size, value, meaning, verdict, parts}]}]
  problems        [{layer, offset, text, cut}]
What a packet does not have is left out. Fields may be added, never renamed.

It ends with status 0; 1 when nothing could be decoded, nothing carried the VNI
asked for, or the file is damaged; 2 on wrong usage.`,
		Example: `  govxlan decode overlay.pcapng
  govxlan decode --summary --vni 4097 overlay.pcap
  tcpdump -i eth0 -U -w - udp port 4789 | govxlan decode --inner -
  govxlan decode 0800000000100100ffffffffffff02420a0001640806...
  govxlan decode --json overlay.pcap | jq -r 'select(.inner) | .inner.src'`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd.Flags().Changed("vni")); err != nil {
				return usageError{err}
			}
			return f.run(cmd, args)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.from, "from", "", "the bytes begin at `LAYER`: ethernet, ip or vxlan (default: found out)")
	flags.UintSliceVar(&f.ports, "port", nil, "UDP port `N` carries VXLAN too; repeatable")
	flags.StringVar(&f.vni, "vni", "", "only packets with VNI `N`")
	flags.IntVar(&f.limit, "limit", 0, "end after `N` packets (0: all)")
	flags.BoolVar(&f.inner, "inner", false, "only the inner frames")
	flags.StringSliceVar(&f.names, "names", nil, "say which container an address is, by `FILE` from 'overlay inspect --json'; repeatable")
	flags.BoolVar(&f.summary, "summary", false, "one line a packet")
	flags.BoolVar(&f.json, "json", false, "one JSON object a packet")
	flags.BoolVarP(&f.hex, "hex", "x", false, "all bytes in hex too, the layers marked")
	flags.StringVar(&f.color, "color", "auto", "colour `WHEN`: auto, always or never")
	flags.Lookup("port").DefValue = "" // not "[]"
	flags.Lookup("names").DefValue = ""
	for flag, words := range map[string][]string{
		"from":  {"ethernet", "ip", "vxlan"},
		"color": {"auto", "always", "never"},
	} {
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	return cmd
}

// check judges the flags.
func (f *decodeFlags) check(vniGiven bool) error {
	var err error
	if f.from != "" {
		if f.start, err = explain.ParseStart(f.from); err != nil {
			return fmt.Errorf("--from: %w", err)
		}
	}
	for _, p := range f.ports {
		if p == 0 || p > 65535 {
			return fmt.Errorf("--port: %d is no UDP port: give 1 to 65535", p)
		}
		f.portList = append(f.portList, uint16(p))
	}
	if vniGiven {
		vni, err := vxlan.ParseVNI(f.vni)
		if err != nil {
			return fmt.Errorf("--vni: %w", err)
		}
		f.filter, f.filterVNI = true, uint32(vni)
	}
	if f.limit < 0 {
		return fmt.Errorf("--limit: %d is no number of packets", f.limit)
	}
	if !slices.Contains([]string{"auto", "always", "never"}, f.color) {
		return fmt.Errorf("--color: %q is none of auto, always, never", f.color)
	}
	switch {
	case f.summary && f.json:
		return errors.New("--summary and --json cannot be had at once")
	case f.hex && (f.summary || f.json):
		return errors.New("-x goes neither with --summary nor with --json")
	}
	return nil
}

// run reads and explains packets until the input ends.
func (f *decodeFlags) run(cmd *cobra.Command, args []string) error {
	names, err := dockeroverlay.Names(f.names...)
	if err != nil {
		return fmt.Errorf("--names: %w", err)
	}
	r, name, closer, err := openPackets(args, cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer closer()
	stdout := cmd.OutOrStdout()
	style := explain.Style{Width: columns(stdout), Color: f.colored(stdout), Hex: f.hex, Inner: f.inner}
	out := bufio.NewWriter(stdout)
	defer out.Flush()

	tally := tally{vnis: map[uint32]bool{}}
	for f.limit == 0 || tally.shown < f.limit {
		// A live capture: show what there is before waiting for more.
		if !r.Ready() {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			out.Flush()
			return fmt.Errorf("%s: %w", name, err)
		}
		tally.read++
		start := p.Start
		if f.start != explain.Detect {
			start = f.start
		}
		e := explain.Packet(p.Bytes, start, explain.Options{
			Ports: f.portList, Number: tally.read, Time: p.Time.Local(), Length: p.Length, Comment: p.Comment,
		})
		if p.Time.IsZero() {
			e.Time = p.Time
		}
		if r.Count() == 1 {
			e.Number = 0 // there is no other
		}
		tally.count(e)
		if f.filter && !e.HasVNI(f.filterVNI) || f.inner && !e.HasInner() {
			continue
		}
		tally.shown++
		e.Name(names)
		if err := f.show(out, e, style); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.verdict(name, tally)
}

// show writes one packet in the form asked for.
func (f *decodeFlags) show(out io.Writer, e *explain.Explanation, style explain.Style) error {
	switch {
	case f.json:
		b, err := e.JSON(style)
		if err != nil {
			return fmt.Errorf("packet %d as JSON: %w", e.Number, err)
		}
		_, err = out.Write(append(b, '\n'))
		return err
	case f.summary:
		return e.WriteSummary(out, style)
	}
	return e.WriteText(out, style)
}

// tally is what was seen, for the exit status.
type tally struct {
	read, shown, decoded int
	vnis                 map[uint32]bool
	inner                int
	err                  error // why the first undecodable packet was
}

func (t *tally) count(e *explain.Explanation) {
	if err := e.Err(); err != nil {
		if t.err == nil {
			t.err = err
		}
	} else {
		t.decoded++
	}
	for _, v := range e.VNIs {
		t.vnis[v] = true
	}
	if e.HasInner() {
		t.inner++
	}
}

// verdict is the error of a run that ended well but had nothing to tell.
func (f *decodeFlags) verdict(name string, t tally) error {
	switch {
	case t.read == 0 && f.limit == 0:
		return fmt.Errorf("%s holds no packet", name)
	case t.decoded == 0 && t.read == 1:
		return fmt.Errorf("%s: %w", name, t.err)
	case t.decoded == 0 && t.read > 1:
		return fmt.Errorf("%s: none of its %d packets could be decoded; the first is %w", name, t.read, t.err)
	case t.shown > 0:
		return nil
	case f.filter && len(t.vnis) == 0:
		return fmt.Errorf("%s: no packet carries VNI %d, nor any other (%s read)", name, f.filterVNI, packets(t.read))
	case f.filter && !t.vnis[f.filterVNI]:
		return fmt.Errorf("%s: no packet carries VNI %d, only %s", name, f.filterVNI, someVNIs(t.vnis))
	case f.inner && t.inner == 0:
		return fmt.Errorf("%s: no packet carries an inner frame (%s read)", name, packets(t.read))
	}
	return nil
}

func packets(n int) string {
	if n == 1 {
		return "1 packet"
	}
	return fmt.Sprintf("%d packets", n)
}

// someVNIs lists what was seen instead, not too much of it.
func someVNIs(seen map[uint32]bool) string {
	var all []uint32
	for v := range seen {
		all = append(all, v)
	}
	slices.Sort(all)
	var words []string
	for _, v := range all[:min(len(all), 8)] {
		words = append(words, fmt.Sprint(v))
	}
	s := strings.Join(words, ", ")
	if rest := len(all) - len(words); rest > 0 {
		s += fmt.Sprintf(" and %d others", rest)
	}
	return s
}

// openPackets finds out what the arguments mean: a file, hex, standard input.
// The name is for error messages.
func openPackets(args []string, stdin io.Reader) (r *input.Reader, name string, closer func(), err error) {
	nothing := func() {}
	if len(args) == 0 || len(args) == 1 && args[0] == "-" {
		if f, ok := stdin.(*os.File); ok && len(args) == 0 && term.IsTerminal(int(f.Fd())) {
			return nil, "", nothing, usagef("nothing to decode: name a capture file, give hex, or pipe either in (see 'govxlan decode --help')")
		}
		r, err = input.NewReader(stdin)
		if err != nil {
			return nil, "", nothing, fmt.Errorf("decode standard input: %w", err)
		}
		return r, "standard input", nothing, nil
	}
	// Hex in groups comes as many arguments when it is not quoted.
	joined := strings.Join(args, " ")
	if len(args) > 1 {
		if !input.LooksLikeHex(joined) {
			return nil, "", nothing, usagef("decode takes one file, or hex; %q is neither", joined)
		}
	} else {
		f, err := os.Open(args[0])
		switch {
		case err == nil:
			r, err := input.NewReader(f)
			if err != nil {
				f.Close()
				return nil, "", nothing, fmt.Errorf("decode %s: %w", args[0], err)
			}
			return r, args[0], func() { f.Close() }, nil
		case !input.LooksLikeHex(joined) && errors.Is(err, os.ErrNotExist):
			return nil, "", nothing, fmt.Errorf("decode %q: there is no such file, and it is no hex either", shorten(args[0]))
		case !input.LooksLikeHex(joined):
			return nil, "", nothing, fmt.Errorf("decode: %w", err)
		}
	}
	r, err = input.FromHex(joined)
	if err != nil {
		return nil, "", nothing, fmt.Errorf("decode the hex given: %w", err)
	}
	return r, "the hex given", nothing, nil
}

// shorten keeps an argument that fills the screen out of an error message.
func shorten(s string) string {
	if len(s) > 60 {
		return s[:57] + "..."
	}
	return s
}

// columns is the width to write for: that of the terminal, or $COLUMNS, or 80;
// wider than 140, lines get hard to follow.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return min(n, 140)
		}
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return min(n, 140)
	}
	return 80
}

// colored decides on colour; https://no-color.org has the last word when nobody
// asked.
func (f *decodeFlags) colored(w io.Writer) bool {
	if f.color != "auto" {
		return f.color == "always"
	}
	return hasColor(w)
}
