package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/explain"
	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/vxlan"
)

// captureStyle says how captured frames are printed.
type captureStyle struct {
	color, arrows bool
	verbose, json bool
	columns       int
}

// ANSI colours: what is dropped, what one may skip, the VNI.
const (
	inkDropped = "31"
	inkFaint   = "2"
	inkVNI     = "35"
)

// capturePrinter prints captured frames.
type capturePrinter struct {
	style      captureStyle
	out        *bufio.Writer
	interfaces []string
	printed    uint64
}

func newCapturePrinter(w io.Writer, style captureStyle) *capturePrinter {
	return &capturePrinter{style: style, out: bufio.NewWriter(w)}
}

func (c *capturePrinter) taken() uint64 { return c.printed }
func (c *capturePrinter) close() error  { return c.flush() }

func (c *capturePrinter) flush() error {
	if err := c.out.Flush(); err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

func (c *capturePrinter) take(b *pcapng.Block) error {
	switch b.Type {
	case pcapng.TypeInterface:
		c.interfaces = append(c.interfaces, b.Interface.Name)
		return nil
	case pcapng.TypePacket:
	default:
		return nil
	}
	p := &b.Packet
	var note control.CaptureNote
	if err := json.Unmarshal(p.Note, &note); err != nil {
		return fmt.Errorf("capture: the endpoint is of another version: %w", err)
	}
	c.printed++
	e := explain.Packet(p.Bytes, explain.Ethernet, explain.Options{
		Ports: outerPorts(p, &note), Time: p.Time.Local(), Length: p.Length, Comment: p.Comment,
	})
	var err error
	switch {
	case c.style.json:
		err = c.json(e, p, &note)
	case c.style.verbose:
		c.line(e, p, &note)
		err = e.WriteText(c.out, explain.Style{Width: c.style.columns, Color: c.style.color})
	default:
		c.line(e, p, &note)
	}
	if err != nil {
		return fmt.Errorf("standard output: %w", err)
	}
	return nil
}

// outerPorts are those of the outer packet: one of them carries VXLAN here.
func outerPorts(p *pcapng.Packet, note *control.CaptureNote) []uint16 {
	if !note.Outer {
		return nil
	}
	var outer vxlan.Packet
	if _, err := outer.ParseDatagram(p.Bytes); err == nil {
		return []uint16{outer.DstPort}
	}
	return nil
}

// line prints one frame.
func (c *capturePrinter) line(e *explain.Explanation, p *pcapng.Packet, note *control.CaptureNote) {
	arrow := [...]string{"?", "<", ">"}[p.Direction%3]
	if c.style.arrows {
		arrow = [...]string{"?", "←", "→"}[p.Direction%3]
	}
	vni := "-"
	if note.VNI != nil {
		vni = note.VNI.String()
	}
	what := e.InnerLine()
	if what == "" {
		what = e.OneLine()
	}
	head := fmt.Sprintf("%s %s ", p.Time.Local().Format("15:04:05.000000"), arrow)
	rest := fmt.Sprintf(" %s  %s", far(p, note), what)
	if p.Comment != "" {
		rest += "  # " + p.Comment
	}
	switch {
	case !c.style.color:
		fmt.Fprintln(c.out, head+vni+rest)
	case note.Dropped:
		fmt.Fprintln(c.out, paint(inkDropped, head+vni+rest))
	default:
		fmt.Fprintln(c.out, paint(inkFaint, head)+paint(inkVNI, vni)+rest)
	}
}

// far is the other end of a frame's way over the underlay.
func far(p *pcapng.Packet, note *control.CaptureNote) string {
	switch {
	case note.Peer.IsValid() && note.Peer.Port() != vxlan.Port && p.Direction == pcapng.Outbound:
		return note.Peer.String()
	case note.Peer.IsValid():
		// The port of what arrives stands for a flow.
		return note.Peer.Addr().String()
	case note.Verdict == "passed":
		return "flood"
	}
	return "-"
}

func paint(ink, s string) string { return "\x1b[" + ink + "m" + s + "\x1b[0m" }

// jsonCapture is what --json has in addition to the explanation.
type jsonCapture struct {
	Direction string `json:"direction"`
	Interface string `json:"interface"`
	control.CaptureNote
}

// json prints one frame as one JSON object: its explanation, with what is known
// of its capture.
func (c *capturePrinter) json(e *explain.Explanation, p *pcapng.Packet, note *control.CaptureNote) error {
	b, err := e.JSON(explain.Style{})
	if err != nil {
		return err
	}
	n := jsonCapture{Direction: [...]string{"unknown", "in", "out"}[p.Direction%3], Interface: c.interfaces[p.Interface], CaptureNote: *note}
	more, err := json.Marshal(map[string]jsonCapture{"capture": n})
	if err != nil {
		return err
	}
	// Two objects made one.
	_, err = fmt.Fprintf(c.out, "%s,%s\n", strings.TrimSuffix(string(b), "}"), more[1:])
	return err
}
