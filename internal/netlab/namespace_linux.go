package netlab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// threadNetns is the network namespace of the calling thread.
const threadNetns = "/proc/thread-self/ns/net"

// Namespace is one network namespace of a lab: a "host", a container, or what
// Docker calls a sandbox.
type Namespace struct {
	lab         *Lab
	label, name string
	file        *os.File        // the namespace itself
	link        *netlink.Handle // route netlink inside it
}

// Name is the name under /run/netns, for "ip netns exec".
func (ns *Namespace) Name() string { return ns.name }

// Label is the name that the namespace was given: hostA.
func (ns *Namespace) Label() string { return ns.label }

// Path is the file that stands for the namespace, as --netns takes it.
func (ns *Namespace) Path() string { return filepath.Join(runNetns, ns.name) }

// LabDir is the directory of the lab, Lab.Dir.
func (ns *Namespace) LabDir() string { return ns.lab.Dir() }

// create makes the namespace, on a thread that comes back from it.
func (ns *Namespace) create() (err error) {
	if err := os.MkdirAll(runNetns, 0o755); err != nil {
		return err
	}
	mount, err := os.OpenFile(ns.Path(), os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	mount.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, ns.remove())
		}
	}()
	err = onOwnThread(func() error { return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET)) }, func() error {
		if err := unix.Mount(threadNetns, ns.Path(), "", unix.MS_BIND, ""); err != nil {
			return os.NewSyscallError("mount "+ns.Path(), err)
		}
		f, err := os.Open(threadNetns)
		if err != nil {
			return err
		}
		ns.file = f
		ns.link, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	for _, scope := range []string{"all", "default"} {
		// Without duplicate address detection an IPv6 address, link-local ones
		// included, works at once; nobody else is here to hold the same one.
		for key, value := range map[string]string{"accept_dad": "0", "router_solicitations": "0"} {
			err := ns.Sysctl("net.ipv6.conf."+scope+"."+key, value)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return ns.SetUp("lo")
}

// release gives up the descriptors, not the namespace.
func (ns *Namespace) release() {
	if ns.link != nil {
		ns.link.Close()
	}
	if ns.file != nil {
		ns.file.Close()
	}
}

func (ns *Namespace) remove() error {
	ns.release()
	return removeNamespace(ns.name)
}

// enter moves the calling thread, which must be locked, into the namespace.
func (ns *Namespace) enter() error {
	return os.NewSyscallError("setns "+ns.name, unix.Setns(int(ns.file.Fd()), unix.CLONE_NEWNET))
}

// Do runs f inside the namespace: sockets that f opens belong to it for good,
// whoever uses them later. f runs on a goroutine and a thread of its own and
// must not hand work that opens sockets to other goroutines. A panic in f
// appears in the caller; runtime.Goexit in f (t.FailNow) is an error here.
func (ns *Namespace) Do(f func() error) error {
	return onOwnThread(ns.enter, f)
}

// onOwnThread runs move and then f on a locked thread. The thread goes back to
// the pool only when it is certainly back in the namespace that it came from.
func onOwnThread(move, f func() error) error {
	type outcome struct {
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		o := outcome{err: errors.New("netlab: the function inside the namespace did not return")}
		runtime.LockOSThread()
		home, err := os.Open(threadNetns)
		if err != nil {
			runtime.UnlockOSThread()
			done <- outcome{err: err}
			return
		}
		defer func() {
			o.panicked = recover()
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			} // else the thread ends with this goroutine
			home.Close()
			done <- o
		}()
		if err := move(); err != nil {
			o.err = err
			return
		}
		o.err = f()
	}()
	o := <-done
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

// Sysctl sets a kernel parameter of the namespace, named with dots; a dot
// inside a device name is written as a slash, as sysctl(8) does it.
func (ns *Namespace) Sysctl(key, value string) error {
	path := "/proc/sys/" + strings.NewReplacer(".", "/", "/", ".").Replace(key)
	return ns.Do(func() error {
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("sysctl %s=%s in %s: %w", key, value, ns.name, err)
		}
		return nil
	})
}

// Dial connects from inside the namespace. The address must be numeric.
func (ns *Namespace) Dial(network, address string) (conn net.Conn, err error) {
	err = ns.Do(func() error {
		conn, err = net.Dial(network, address)
		return err
	})
	return conn, err
}

// Listen listens inside the namespace on a numeric address.
func (ns *Namespace) Listen(network, address string) (l net.Listener, err error) {
	err = ns.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a packet socket (udp, ip4:icmp, ...) inside the namespace
// on a numeric address.
func (ns *Namespace) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = ns.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}
