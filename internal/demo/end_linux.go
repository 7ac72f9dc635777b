package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
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
	cmd  *netlab.Cmd
	args []string
	log  string
	up   chan string // the line that says frames can flow
	// status is this end of the child's --status-fd: for each byte that is
	// written, the child writes one line of JSON.
	status *os.File
	lines  *bufio.Reader
}

// startProcess starts this very executable inside the host's namespace. Its
// socket is there, its TAP in the sandbox.
func startProcess(ctx context.Context, near, far *side, cfg Config) (*process, error) {
	p := &process{
		args: []string{
			"up", "--vni", cfg.VNI.String(), "--local", near.Underlay.String(), "--peer", far.Underlay.String(),
			"--netns", near.sandbox.Path(), "--name", vtepDev, "--bridge", bridgeDev,
		},
		log: filepath.Join(near.host.LabDir(), "vtep"+near.Letter+".log"),
		up:  make(chan string, 1),
	}
	// Not bound to the context: when that ends, the lab ends the process, and
	// waits for it.
	p.cmd = near.host.Command(context.WithoutCancel(ctx), "/proc/self/exe", append(p.args, "--status-fd", "3")...)
	p.cmd.Args[0] = "govxlan"
	p.cmd.Outlive = cfg.Keep

	// Into a file and not a pipe, for a process that is to outlive this one.
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stderr = log
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	childEnd := os.NewFile(uintptr(pair[1]), "status")
	defer childEnd.Close()
	if err := unix.SetNonblock(pair[0], true); err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	p.status = os.NewFile(uintptr(pair[0]), "status")
	p.lines = bufio.NewReader(p.status)
	p.cmd.ExtraFiles = []*os.File{childEnd}
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
	case line := <-p.up:
		if strings.HasPrefix(line, "up ") {
			return nil
		}
		return p.failure("said " + strconv.Quote(line))
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
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	last := string(lines[len(lines)-1])
	if err != nil || last == "" {
		return fmt.Errorf("govxlan up (process %d) %s", p.cmd.Process.Pid, what)
	}
	return fmt.Errorf("govxlan up (process %d) %s: %s", p.cmd.Process.Pid, what, last)
}

func (p *process) table(context.Context) ([]VTEPEntry, error) {
	_ = p.status.SetDeadline(time.Now().Add(patience))
	if _, err := p.status.Write([]byte{'\n'}); err != nil {
		return nil, p.failure("does not take questions: " + reason(err))
	}
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return nil, p.failure("does not answer: " + reason(err))
	}
	var answer struct{ FDB []VTEPEntry }
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, p.failure("answers in a way that is not understood: " + err.Error())
	}
	return answer.FDB, nil
}

func reason(err error) string {
	var op *net.OpError
	var path *os.PathError
	switch {
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}
