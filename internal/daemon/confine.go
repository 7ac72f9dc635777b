package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/internal/privilege"
	"go.uber.org/zap"
)

// resolver is what names are looked up with, beside /etc: where those who keep
// /etc/resolv.conf have it.
var resolver = []string{"/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager"}

// Confine gives up what the process needs no longer, for good, before Run.
func (d *Daemon) Confine() error {
	e := d.config.Endpoint
	if e.Privileges == config.KeepAll {
		return nil
	}
	socket := d.server.Path()
	w := privilege.Wish{
		Capabilities: []string{privilege.NetAdmin},
		// Names of hosts, time zones, and what the kernel says of processes and
		// devices.
		Read:  append([]string{"/etc", "/usr/share/zoneinfo", "/proc", "/sys", "/run/netns"}, resolver...),
		Write: []string{"/dev/net/tun"},
		Clear: []string{filepath.Dir(socket)},
		Ports: ports(e.Metrics, e.Pprof),
	}
	paths := []string{d.source.Path, e.Text("wireguard")}
	if m := e.Members; m != nil {
		w.Ports = append(w.Ports, m.Port, 0) // 0: whatever is free, to connect from this address
		// Members have one port, or those of --join.
		w.Connect = append(w.Connect, m.Port)
		for _, j := range m.Join {
			if _, port, err := membership.SplitJoin(j); err == nil {
				w.Connect = append(w.Connect, port)
			}
		}
		paths = append(paths, m.File)
	}
	if e.Dev != "" || d.any(func(s *config.Spec) bool { return len(s.Groups) > 0 }) {
		// Sockets are bound to the device again when it is made anew.
		w.Capabilities = append(w.Capabilities, privilege.NetRaw)
	}
	if e.Privileges == config.KeepNamespaces || d.any(func(s *config.Spec) bool { return s.Device.Netns != "" }) {
		w.Capabilities = append(w.Capabilities, privilege.SysAdmin)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		// Editors put another file into its place, and it may be a link.
		w.Read = append(w.Read, filepath.Dir(path))
		if real, err := filepath.EvalSymlinks(path); err == nil {
			w.Read = append(w.Read, filepath.Dir(real))
		}
	}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		w.Write = append(w.Write, dir) // what tests reach is written at the end
	}
	return d.become(w)
}

// become changes the user as the configuration has it, and does what a wish says.
func (d *Daemon) become(w privilege.Wish) error {
	u := d.config.Endpoint.User
	w.User = u
	defer awake()()
	if err := privilege.Drop(w); err != nil {
		if u != nil {
			return fmt.Errorf("--user %s: %w", u.Name, err)
		}
		return err
	}
	now := privilege.Current()
	if now.NoNewPrivileges {
		d.log.Info("privileges are given up", zap.Stringer("left", now))
	}
	if now.UID != 0 {
		d.warn(now.User)
	}
	return nil
}

// awake keeps Go's monitor from its long sleep. What is done on all threads stops
// the world some fifty times in a row, and once in several hundred starts went on
// only when the monitor woke up by itself, which it does after 60 s unless a timer
// is due before.
func awake() (end func()) {
	const step, long = 20 * time.Millisecond, 20 * time.Second
	var timers []*time.Timer
	for at := step; at < long; at += step {
		timers = append(timers, time.AfterFunc(at, func() {}))
	}
	return func() {
		for _, t := range timers {
			t.Stop()
		}
	}
}

// warn says what a user, who is not root, may not do later.
func (d *Daemon) warn(user string) {
	for path, what := range map[string]string{
		"/dev/net/tun": "VNIs cannot be added while it runs (chmod 666 /dev/net/tun, as udev has it)",
		d.source.Path:  "the configuration cannot be read again while it runs",
	} {
		if path == "" {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			d.log.Warn(what, zap.String("user", user), zap.Error(err))
			continue
		}
		f.Close()
	}
}

// any says whether a VNI is such a one.
func (d *Daemon) any(such func(*config.Spec) bool) bool { return slices.ContainsFunc(d.specs(), such) }

// ports are those of addresses; what is none is left out.
func ports(addrs ...string) (list []uint16) {
	for _, a := range addrs {
		if _, port, err := net.SplitHostPort(a); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil {
				list = append(list, uint16(n))
			}
		}
	}
	return list
}

// users may hand over to this process, beside root and its own: whom it is going to
// be.
func (d *Daemon) users() []int {
	if u := d.config.Endpoint.User; u != nil {
		return []int{u.UID}
	}
	return nil
}

// serve opens the control socket, which the user is going to have, if there is one.
func (d *Daemon) serve(path, version string) (*control.Server, error) {
	if u := d.config.Endpoint.User; u != nil {
		s, err := control.ListenFor(u.UID, u.GID, path, process{d.endpoint, d}, version)
		if err != nil {
			return nil, fmt.Errorf("--user %s: %w", u.Name, err)
		}
		return s, nil
	}
	return control.Listen(path, process{d.endpoint, d}, version)
}

// controlPath is where the control socket is to be.
func (d *Daemon) controlPath() (string, error) {
	e := d.config.Endpoint
	switch {
	case e.Control != "":
		return e.Control, nil
	case e.User != nil:
		return control.PathOf(e.Port, e.User.UID)
	}
	return control.DefaultPath(e.Port)
}
