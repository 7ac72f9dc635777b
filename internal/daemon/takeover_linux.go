package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/handover"
	"github.com/govxlan/govxlan/internal/systemd"
	"github.com/govxlan/govxlan/vtep"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	// preparing is how long the new process may take to make everything ready,
	// while the old one still carries frames.
	preparing = 30 * time.Second
	// switching is how long either may take for one step while nobody does.
	switching = 5 * time.Second
)

// word is what the two say to each other beside the testament and the state.
type word struct {
	Ready bool   `json:"ready,omitempty"` // everything is made
	Taken bool   `json:"taken,omitempty"` // the state too
	Yours bool   `json:"yours,omitempty"` // the old one will not come back
	Error string `json:"error,omitempty"`
}

// hear receives a word that must be the one that ok wants.
func hear(c *handover.Channel, ok func(word) bool, within time.Duration) error {
	var w word
	fds, err := c.Receive(&w, within)
	handover.CloseAll(fds)
	switch {
	case err != nil:
		return err
	case w.Error != "":
		return errors.New(w.Error)
	case !ok(w):
		return fmt.Errorf("an unexpected word: %+v", w)
	}
	return nil
}

// bequeath writes down how everything is configured, with the descriptors. d.mu
// is held.
func (d *Daemon) bequeath() (testament, []int, error) {
	t := testament{Format: heritageFormat, Version: d.version, Process: os.Getpid(), Members: d.ofMembers()}
	var fds []int
	var err error
	if t.Descriptors, fds, err = d.endpoint.Descriptors(); err != nil {
		return t, nil, err
	}
	for _, dev := range t.Descriptors.Devices {
		n := d.networkOf(dev.VNIs[0])
		if n == nil {
			return t, nil, fmt.Errorf("VNI %v comes or goes at this moment: try again", dev.VNIs[0])
		}
		t.Networks = append(t.Networks, n.testament())
	}
	return t, fds, nil
}

// TakeOver answers a process that wants to go on in place of this one.
func (d *Daemon) TakeOver(wish control.Takeover) (control.TakenOver, error) {
	me := control.TakenOver{Version: d.version, Process: os.Getpid()}
	if !d.offering.CompareAndSwap(false, true) {
		return me, errors.New("another process is taking over at this moment")
	}
	log := d.log.With(zap.Int("by", wish.Process), zap.String("version", wish.Version))
	conn, err := net.DialTimeout("unix", wish.Door, switching)
	var c *handover.Channel
	if err == nil {
		c, err = handover.NewChannel(conn)
	}
	if err != nil {
		d.offering.Store(false)
		return me, fmt.Errorf("take over: %w", err)
	}
	go func() {
		defer d.offering.Store(false)
		defer c.Close()
		if err := d.offer(c, log); err != nil {
			log.Warn("not taken over, this process goes on", zap.Error(err))
			// If it still listens.
			_ = c.Send(word{Error: err.Error()}, nil, switching)
		}
	}()
	return me, nil
}

// offer hands everything over. nil: this process has nothing any more, and ends.
func (d *Daemon) offer(c *handover.Channel, log *zap.Logger) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, fds, err := d.bequeath()
	if err != nil {
		return err
	}
	t.Control = d.server.Path()
	socket := -1
	var failed error
	if err := d.server.Socket(func(fd int) { socket, failed = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }); err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	defer unix.Close(socket)
	if err := c.Send(t, append(fds, socket), preparing); err != nil {
		return err
	}
	if err := hear(c, func(w word) bool { return w.Ready }, preparing); err != nil {
		return err
	}
	since := time.Now()
	return d.endpoint.HandOver(func(now vtep.Descriptors, _ []int, s vtep.State) error {
		if !reflect.DeepEqual(now, t.Descriptors) {
			return errors.New("devices or groups came or went meanwhile: try again")
		}
		if err := c.Send(s, nil, switching); err != nil {
			return err
		}
		if err := hear(c, func(w word) bool { return w.Taken }, switching); err != nil {
			return err
		}
		// From here on the socket's file is the other's: should the word not
		// reach it, it ends, and this one does not.
		if err := c.Send(word{Yours: true}, nil, switching); err != nil {
			return err
		}
		d.server.Keep(false)
		d.handedOver.Store(true)
		log.Info("taken over by another process", zap.Duration("paused", time.Since(since)))
		return nil
	})
}

// claim asks the process that listens at a control socket to hand over. It
// returns nil without an error when there is none.
func claim(ctx context.Context, path, version string, users ...int) (_ *heritage, err error) {
	name := fmt.Sprintf("@govxlan-takeover-%d-%d", os.Getpid(), time.Now().UnixNano())
	// Abstract: nothing is left of it, and it is one network namespace's, which
	// both must be in.
	door, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	defer door.Close()
	who, err := control.NewClient(path).TakeOver(ctx, control.Takeover{Door: name, Version: version, Process: os.Getpid()})
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return nil, nil
	case err != nil && strings.Contains(err.Error(), "404"):
		return nil, errors.New("take over: the endpoint that runs is of a version that cannot hand over: stop it and start this one")
	case err != nil:
		return nil, fmt.Errorf("take over: %w", err)
	}
	of := func(err error) error {
		return fmt.Errorf("take over from process %d (version %s), which goes on: %w", who.Process, who.Version, err)
	}
	if err := door.SetDeadline(time.Now().Add(switching)); err != nil {
		return nil, of(err)
	}
	conn, err := door.Accept()
	if err != nil {
		return nil, of(err)
	}
	c, err := handover.NewChannel(conn, users...)
	if err != nil {
		return nil, of(err)
	}
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	var t struct {
		testament
		word
	}
	fds, err := c.Receive(&t, preparing)
	if err == nil && t.Error != "" {
		err = errors.New(t.Error)
	}
	if err == nil && t.Format != heritageFormat {
		err = fmt.Errorf("it speaks of formats that this version does not know (%d): stop it and start this one", t.Format)
	}
	if err != nil {
		handover.CloseAll(fds)
		return nil, of(err)
	}
	h := newHeritage(t.testament, fds)
	h.abandon = func(cause error) {
		_ = c.Send(word{Error: cause.Error()}, nil, switching)
		c.Close()
	}
	h.commit = func() (s vtep.State, err error) {
		defer func() {
			if err != nil {
				err = of(err)
			}
		}()
		if err := c.Send(word{Ready: true}, nil, switching); err != nil {
			return s, err
		}
		var state struct {
			vtep.State
			word
		}
		if _, err := c.Receive(&state, preparing); err != nil {
			return s, err
		}
		if state.Error != "" {
			return s, errors.New(state.Error)
		}
		if err := c.Send(word{Taken: true}, nil, switching); err != nil {
			return s, err
		}
		if err := hear(c, func(w word) bool { return w.Yours }, 2*switching); err != nil {
			return s, err
		}
		return state.State, c.Close()
	}
	return h, nil
}

// keep leaves everything with the service manager, for the next process of the
// service. It returns nil when that has it all, and this process nothing any
// more.
func (d *Daemon) keep() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t, _, err := d.bequeath()
	if err != nil {
		return err
	}
	return d.endpoint.HandOver(func(now vtep.Descriptors, fds []int, s vtep.State) error {
		t.Descriptors, t.State = now, &s
		// Behind those that the next process goes on with: it closes these when it
		// carries frames itself.
		err := handover.Keep(t, append(fds, d.endpoint.Programs()...))
		d.handedOver.Store(err == nil)
		return err
	})
}

// kept is what the process before left with the service manager; nil: nothing.
func kept() (*heritage, error) {
	var t testament
	fds, ok, err := handover.Kept(&t)
	if err == nil && !ok {
		return nil, nil
	}
	if err == nil && (t.Format != heritageFormat || t.State == nil) {
		err = fmt.Errorf("what was kept for this start is of a format that this version does not know (%d)", t.Format)
	}
	if err != nil {
		handover.CloseAll(fds)
		return nil, err
	}
	h := newHeritage(t, fds)
	h.kept = true
	h.abandon = func(error) {}
	h.commit = func() (vtep.State, error) { return *t.State, nil }
	return h, nil
}

// listen goes on at the control socket of the one before, if it is at this path.
func (h *heritage) listen(path string, endpoint control.Endpoint, version string) (*control.Server, error) {
	if h == nil || h.control < 0 || h.Control != path {
		return nil, nil
	}
	file := os.NewFile(uintptr(h.control), "control socket")
	h.control = -1
	defer file.Close()
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("control socket: it is a %T", l)
	}
	return control.Inherit(u, endpoint, version), nil
}

// close gives back what was not used.
func (h *heritage) close() {
	if h == nil {
		return
	}
	for i, fd := range h.fds {
		if fd >= 0 {
			unix.Close(fd)
			h.fds[i] = -1
		}
	}
	if h.control >= 0 {
		unix.Close(h.control)
		h.control = -1
	}
}

// keeps says whether a service manager would keep everything.
func keeps() bool { return systemd.Keeps() }
