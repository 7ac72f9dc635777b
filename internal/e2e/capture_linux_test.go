package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/vtep"
)

// capture is a run of govxlan capture.
type capture struct {
	p              *program
	cmd            *netlab.Cmd
	stdout, stderr *output
}

// capture begins to capture at the program, and returns once nothing is missed.
func (p *program) capture(args ...string) *capture {
	p.t.Helper()
	return p.captureBy(govxlan, append([]string{"capture", "--control", p.control}, args...)...)
}

func (p *program) captureBy(name string, args ...string) *capture {
	p.t.Helper()
	c := &capture{p: p, stdout: newOutput(), stderr: newOutput()}
	c.cmd = p.ns.Command(context.Background(), name, args...)
	c.cmd.Stdout, c.cmd.Stderr = c.stdout, c.stderr
	must(p.t, c.cmd.Start())
	p.t.Cleanup(c.cmd.Stop)
	select {
	case <-c.stderr.line:
	case <-time.After(patience):
	}
	if !strings.HasPrefix(c.stderr.String(), "capturing, Ctrl-C ends it") {
		p.t.Fatalf("%s: %s", c.cmd, c.stderr)
	}
	return c
}

// end interrupts the capture, which must end well and have had so many frames;
// -1: any number.
func (c *capture) end(frames int) {
	c.p.t.Helper()
	must(c.p.t, c.cmd.Process.Signal(os.Interrupt))
	c.ended(0, frames)
}

// ended waits for its end, and returns what it had to say on standard error.
func (c *capture) ended(code, frames int) string {
	c.p.t.Helper()
	select {
	case <-c.cmd.Exited():
	case <-time.After(patience):
		c.p.t.Fatalf("%s does not end: %s", c.cmd, c.stderr)
	}
	if got := exitCode(c.p.t, c.cmd.Wait()); got != code {
		c.p.t.Errorf("%s: exit status %d, want %d: %s", c.cmd, got, code, c.stderr)
	}
	_, said, _ := strings.Cut(c.stderr.String(), "\n")
	if frames >= 0 && !regexp.MustCompile(fmt.Sprintf(`(?m)^%d frames? captured, 0 missed$`, frames)).MatchString(said) {
		c.p.t.Errorf("%s: %q, want %d frames", c.cmd, said, frames)
	}
	return said
}

// tshark reads fields of the packets in a file that a filter lets through. Of a
// writer that was killed, and of nobody else, the last packet may be cut short.
func tshark(t *testing.T, path, filter string, fields ...string) [][]string {
	t.Helper()
	args := []string{"-n", "-r", path, "-Y", filter, "-T", "fields", "-E", "separator=\t", "-E", "occurrence=a", "-E", "aggregator=,"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.CommandContext(t.Context(), "tshark", args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil && !(filepath.Base(path) == "killed" && strings.Contains(said.String(), "cut short")) {
		t.Fatalf("tshark %s: %v\n%s", path, err, said.String())
	}
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return rows
}

// TestCaptureIsTheWire: the packets of a capture are those that a listener on the
// wire sees, but for what its file says is made up; and tshark reads what is said
// of them.
func TestCaptureIsTheWire(t *testing.T) {
	eachLone(t, "capture", func(t *testing.T, l *lone) {
		path := filepath.Join(l.a.LabDir(), "f.pcapng")
		c := l.program.capture("-w", path)
		inner := l.program.capture("--inner", "--vni", "4097", "-w", path+".inner")
		drops := l.program.capture("--drops", "-c", "3")

		var wire []outer
		for n := range 20 {
			l.device.send(testFrame(broadcast, station(byte(n%3)), nil, 60+60*n, uint32(n)))
			o := l.heard()
			o.payload = bytes.Clone(o.payload)
			wire = append(wire, o)
		}
		l.setTOS(0x20)
		answer := testFrame(station(1), station(77), nil, 500, 100)
		l.say(header(0x08, 0, l.vni, 0), answer)
		l.device.expect(answer)
		l.say([]byte("hello"))
		l.say(header(0x08, 0, 4098, 0), answer)
		l.awaitDropped(1, 0, 1)
		must(t, l.b.AddAddr(underlayDevice, map[bool]string{false: "192.168.52.99/24", true: "fd52::99/64"}[l.v6]))
		forged := l.from(map[bool]string{false: "192.168.52.99", true: "fd52::99"}[l.v6])
		_, err := forged.WriteTo(append(header(0x08, 0, l.vni, 0), answer...), l.to)
		must(t, err)
		l.program.awaitCounters("a stranger", func(c vtep.Counters) bool { return c.RxDropUnknownVTEP == 1 })
		said := drops.ended(0, 3)
		if lines := strings.Count(drops.stdout.String(), "dropped: rx_drop_"); lines != 3 || strings.Count(drops.stdout.String(), "\n") != 3 {
			t.Errorf("drops: %s%s", drops.stdout, said)
		}
		c.end(24)
		inner.end(22)

		ip, ttl, tos := "ip", "ip.ttl", "ip.dsfield"
		if l.v6 {
			ip, ttl, tos = "ipv6", "ipv6.hlim", "ipv6.tclass"
		}
		rows := tshark(t, path, "frame", "frame.interface_name", "frame.packet_flags_direction", "frame.comment",
			ip+".src", ip+".dst", "udp.srcport", "udp.dstport", ttl, tos, "udp.payload", "udp.checksum.status", "vxlan.vni", "frame.len")
		if len(rows) != 24 {
			t.Fatalf("tshark reads %d packets: %q", len(rows), rows)
		}
		for i, o := range wire {
			// tshark leaves out the payload that it has explained.
			want := []string{
				"underlay", "0x00000002", "", o.src.Addr().String(), o.dst.Addr().String(), fmt.Sprint(o.src.Port()), fmt.Sprint(o.dst.Port()),
				fmt.Sprint(o.ttl), fmt.Sprintf("0x%0*x", map[bool]int{false: 2, true: 8}[l.v6], o.tos),
			}
			if got := rows[i][:9]; !slices.Equal(got, want) {
				t.Errorf("packet %d: %q, want %q", i, got, want)
			}
		}
		for i, want := range []string{
			"", "dropped: rx_drop_bad_header: ", "dropped: rx_drop_unknown_vni: ", "dropped: rx_drop_unknown_vtep: ",
		} {
			row := rows[20+i]
			if !strings.HasPrefix(row[2], want) || (want == "") != (row[2] == "") || row[1] != "0x00000001" || row[4] != l.a.ip(l.v6).String() {
				t.Errorf("packet %d: %q, want %q", 20+i, row, want)
			}
		}
		if row := rows[20]; row[8] != fmt.Sprintf("0x%0*x", map[bool]int{false: 2, true: 8}[l.v6], 0x20) || row[3] != l.b.ip(l.v6).String() {
			t.Errorf("what came: %q", row)
		}
		if rows := tshark(t, path, "vxlan.vni==4097", "frame.number"); len(rows) != 22 {
			t.Errorf("%d packets of VNI 4097", len(rows))
		}
		if rows := tshark(t, path, "frame.comment contains rx_drop_unknown_vtep", "frame.number"); len(rows) != 1 {
			t.Errorf("%d packets of strangers", len(rows))
		}
		rows = tshark(t, path+".inner", "frame", "frame.interface_name", "frame.packet_flags_direction", "frame.len", "frame.comment")
		if len(rows) != 22 || rows[0][0] != l.program.device() || rows[0][1] != "0x00000002" || rows[20][2] != "500" || !strings.Contains(rows[21][3], "unknown_vtep") {
			t.Errorf("inner view: %q", rows)
		}

		// Byte for byte, as this program reads its own file.
		got := l.captured(path)
		for i, o := range wire {
			if !bytes.Equal(got[i].payload, o.payload) || got[i].df != o.df || got[i].label != o.label || got[i].length != o.length || (got[i].checksum == 0) != (o.checksum == 0) {
				t.Errorf("packet %d: %+v\nwant %+v", i, got[i], o)
			}
		}
	}, "--pmtu", "off")
}

// from is a socket of the peer's host on another of its addresses.
func (l *lone) from(address string) net.PacketConn {
	l.t.Helper()
	var c net.PacketConn
	eventually(l.t, func() (err error) {
		c, err = l.b.ListenPacket("udp", net.JoinHostPort(address, "4789"))
		return err // an IPv6 address is not there at once
	})
	l.t.Cleanup(func() { c.Close() })
	return c
}

// captured are the outer packets in a file.
func (l *lone) captured(path string) []outer {
	l.t.Helper()
	f, err := os.Open(path)
	must(l.t, err)
	defer f.Close()
	r := pcapng.NewReader(f)
	var all []outer
	for {
		b, err := r.Next()
		if err == io.EOF {
			return all
		}
		must(l.t, err)
		if b.Type == pcapng.TypePacket {
			o, _ := parseOuter(bytes.Clone(b.Packet.Bytes))
			all = append(all, o)
		}
	}
}

// TestCaptureLeavesTrafficAlone: a capture whose reader is stopped, one that is
// killed, one whose disk is full: the traffic and the others go on, and files are
// whole.
func TestCaptureLeavesTrafficAlone(t *testing.T) {
	t.Parallel()
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			tn := kernelTunnel(t, "capmany", wiring{}, false, "--transport", transport)
			p, dir := tn.program, tn.a.LabDir()
			file := func(name string) string { return filepath.Join(dir, name) }

			stuck := p.capture("-B", "256K")
			must(t, stuck.cmd.Process.Signal(syscall.SIGSTOP))
			killed := p.capture("-w", file("killed"))
			// Of its own, so that it is gone with the process: and what is left of
			// the file is taken away before.
			small := p.captureBy("unshare", "-m", "sh", "-c",
				`mount -t tmpfs -o size=128k none "$1" && cd "$1" && "$2" capture --control "$3" -w full; r=$?; cat full >"$4"; exit $r`,
				"sh", mkdir(t, file("small")), govxlan, p.control, file("full"))
			good := p.capture("-w", file("good"), "-s", "100", "--ip", inner4A.String(), "-B", "64M")
			ring := p.capture("-w", file("ring"), "-C", "1", "-W", "2")

			stop := make(chan struct{})
			done := make(chan error)
			go func() {
				for {
					select {
					case <-stop:
						done <- nil
						return
					default:
					}
					if err := transfer(tn.a.Namespace, tn.b.Namespace, inner4B, 4<<20); err != nil {
						done <- err
						return
					}
				}
			}()
			said := small.ended(1, -1)
			if !strings.Contains(said, "govxlan: capture: write full: no space left on device (the file ends with the last frame that is whole)\n") {
				t.Errorf("full disk: %q", said)
			}
			must(t, killed.cmd.Process.Kill())
			<-killed.cmd.Exited()
			close(stop)
			must(t, <-done)
			ping(t, tn.a.Namespace, inner4B, 3)

			good.end(-1)
			ring.end(-1)
			must(t, stuck.cmd.Process.Signal(syscall.SIGCONT))
			must(t, stuck.cmd.Process.Signal(syscall.SIGTERM))
			if said := stuck.ended(0, -1); strings.Contains(said, " 0 missed") {
				t.Errorf("the one that was stopped: %q", said)
			}
			for _, name := range []string{"killed", "full", "good", "ring0", "ring1"} {
				if rows := tshark(t, file(name), "vxlan.vni==4097", "frame.number"); len(rows) < 20 {
					t.Errorf("%s has %d packets", name, len(rows))
				}
			}
			eventually(t, func() error {
				// All of them have gone from the endpoint: as many as may be had again.
				for range 8 {
					if o := p.ask("capture", "--duration", "1ms"); o.code != 0 {
						return fmt.Errorf("%+v", o)
					}
				}
				return nil
			})
		})
	}
}

func mkdir(t *testing.T, path string) string {
	t.Helper()
	must(t, os.Mkdir(path, 0o755))
	return path
}

// TestCaptureEndpointEnds: the capture of an endpoint that ends, or is killed, has
// all frames up to then, and says so.
func TestCaptureEndpointEnds(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			l := newLone(t, "capend", false)
			path := filepath.Join(l.a.LabDir(), "f")
			c := l.program.capture("-w", path)
			l.device.send(testFrame(broadcast, station(1), nil, 60, 1))
			l.heard()
			eventually(t, func() error {
				if rows := tshark(t, path, "vxlan", "frame.number"); len(rows) != 1 {
					return fmt.Errorf("%d packets are in the file", len(rows))
				}
				return nil
			})
			l.program.signal(signal)
			said := c.ended(1, 1)
			if !strings.Contains(said, "the endpoint has ended\n") {
				t.Errorf("%q", said)
			}
			l.program.exit()
			if rows := tshark(t, path, "vxlan", "frame.number"); len(rows) != 1 {
				t.Errorf("%d packets are in the file", len(rows))
			}
		})
	}
}

// TestCaptureExamples runs the commands of docs/capture.md, each for a moment.
func TestCaptureExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "capture.md"))
	must(t, err)
	l := newLone(t, "capdoc", false)
	dir := mkdir(t, filepath.Join(l.a.LabDir(), "docs"))
	ran := 0
	for _, m := range regexp.MustCompile(`(?m)^govxlan capture([^|\n#]*)(\||$|#)`).FindAllStringSubmatch(string(page), -1) {
		args := strings.Fields(m[1])
		t.Run(strings.TrimSpace(m[1]), func(t *testing.T) {
			cmd := l.a.Command(t.Context(), govxlan, append(append([]string{"capture", "--control", l.program.control}, args...), "--duration", "50ms")...)
			cmd.Dir = dir
			if o := runCmd(t, cmd); o.code != 0 || !strings.Contains(o.stderr, "0 frames captured, 0 missed\n") {
				t.Errorf("%+v", o)
			}
			ran++
		})
	}
	if ran < 8 {
		t.Errorf("the page has %d commands", ran)
	}
}
