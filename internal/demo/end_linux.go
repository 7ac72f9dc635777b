package demo

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
)

// end is a host's VTEP.
type end interface {
	// ready returns when frames can flow.
	ready(ctx context.Context) error
	// table returns the VTEP's forwarding table.
	table(ctx context.Context) ([]VTEPEntry, error)
}

// kernelEnd is the kernel's vxlan device.
type kernelEnd struct {
	side *side
	vni  vxlan.VNI
}

// newKernelEnd makes a vxlan device in the sandbox whose socket is in the host.
func newKernelEnd(near, far *side, vni vxlan.VNI) (end, error) {
	err := near.host.VXLAN(netlab.VXLANConfig{
		Name: vtepDev, VNI: uint32(vni), Local: near.Underlay, Remotes: []netip.Addr{far.Underlay},
		MTU: overlayMTU, Namespace: near.sandbox, Bridge: bridgeDev,
	})
	return &kernelEnd{near, vni}, err
}

func (e *kernelEnd) ready(context.Context) error { return nil }

func (e *kernelEnd) table(context.Context) ([]VTEPEntry, error) {
	entries, err := e.side.sandbox.FDB(vtepDev)
	if err != nil {
		return nil, err
	}
	var table []VTEPEntry
	for _, f := range entries {
		if !f.Remote.IsValid() {
			continue // the bridge's entry for this port
		}
		mac, err := vxlan.ParseMAC(f.MAC)
		if err != nil {
			return nil, err
		}
		t := VTEPEntry{VNI: e.vni, MAC: mac, VTEP: f.Remote, Port: vxlan.Port, Kind: "learned", Age: f.Age.Seconds()}
		switch {
		case mac.IsZero():
			t.Kind = "flood"
		case f.Permanent:
			t.Kind = "static"
		}
		table = append(table, t)
	}
	return table, nil
}

// process is a VTEP of this program: a child that runs "govxlan up".
type process struct {
	cmd     *netlab.Cmd
	args    []string
	log     string
	socket  string
	up      chan string     // the line that says frames can flow
	control *control.Client // asks the child for its table
}

// startProcess starts this very executable inside the host's namespace. Its
// socket is there, its TAP in the sandbox.
func startProcess(ctx context.Context, near, far *side, cfg Config) (*process, error) {
	p := &process{
		args: []string{
			"up", "--vni", cfg.VNI.String(), "--local", near.Underlay.String(), "--peer", far.Underlay.String(),
			"--netns", near.Sandbox, "--name", vtepDev, "--bridge", bridgeDev,
		},
		log:    filepath.Join(near.host.LabDir(), "vtep"+near.Letter+".log"),
		socket: filepath.Join(near.host.LabDir(), "vtep"+near.Letter+".sock"),
		up:     make(chan string, 1),
	}
	p.control = control.NewClient(p.socket)
	// Not bound to the context: when that ends, the lab ends the process, and
	// waits for it.
	p.cmd = near.host.Command(context.WithoutCancel(ctx), "/proc/self/exe", append(p.args, "--control", p.socket)...)
	p.cmd.Args[0] = "govxlan"
	p.cmd.Outlive = cfg.Keep

	// Into a file and not a pipe, for a process that is to outlive this one.
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.up)
		if line, err := bufio.NewReader(stdout).ReadString('\n'); err == nil {
			p.up <- strings.TrimSpace(line)
		}
	}()
	return p, nil
}

// patience is how long a VTEP may take to come up, or to answer.
const patience = 5 * time.Second

func (p *process) ready(ctx context.Context) error {
	select {
	case line, ok := <-p.up:
		if strings.HasPrefix(line, "up ") {
			return nil
		}
		if ok {
			return p.failure("said " + strconv.Quote(line))
		}
		// It closed its output without a word: it is about to end.
		return p.failure("ended")
	case <-p.cmd.Exited():
		return p.failure("ended")
	case <-time.After(patience):
		return p.failure(fmt.Sprintf("did not come up within %v", patience))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// failure says what became of the process, with the last thing that it had to
// say itself.
func (p *process) failure(what string) error {
	text, err := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	last := strings.TrimPrefix(lines[len(lines)-1], "govxlan: ")
	if err != nil || last == "" {
		return fmt.Errorf("govxlan up (process %d) %s", p.cmd.Process.Pid, what)
	}
	return fmt.Errorf("govxlan up (process %d) %s: %s", p.cmd.Process.Pid, what, last)
}

func (p *process) table(ctx context.Context) ([]VTEPEntry, error) {
	entries, err := p.control.FDB(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, p.failure("does not answer: " + err.Error())
	}
	var table []VTEPEntry
	for _, e := range entries {
		t := VTEPEntry{VNI: e.VNI, MAC: e.MAC, VTEP: e.VTEP, Port: e.Port, Kind: e.Kind}
		if e.Age != nil {
			t.Age = float64(*e.Age)
		}
		table = append(table, t)
	}
	return table, nil
}
