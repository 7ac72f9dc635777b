// Command demo shows the network driver at work: two hosts, each with a Docker
// daemon of its own, a network of both, a container on each, the way of a packet
// between, and that nothing is left. It is what `make demo-docker` runs, as root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/dockerlab"
	"github.com/govxlan/govxlan/internal/netlab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	program := "bin/govxlan"
	if len(os.Args) > 1 {
		program = os.Args[1]
	}
	began := time.Now()
	if err := demo(ctx, program); err != nil {
		fmt.Fprintln(os.Stderr, "demo-docker:", err)
		os.Exit(1)
	}
	fmt.Printf("\nNothing is left of it. It took %v.\n", time.Since(began).Round(time.Second))
}

// node is one of the hosts.
type node struct {
	*dockerlab.Daemon
	name   string
	addr   string
	driver *netlab.Cmd
}

// demo shows everything, and removes it.
func demo(ctx context.Context, program string) (err error) {
	program, err = filepath.Abs(program)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "gvxdemo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lab, err := netlab.New("dkdemo")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Close()) }()

	title("Two hosts, each with a Docker daemon of its own (two network namespaces, joined by ens160)")
	nodes, err := hosts(ctx, lab, dir)
	for _, n := range nodes {
		defer func() {
			// Docker first: it asks the driver to remove what containers have.
			err = errors.Join(err, n.Stop())
			if n.driver != nil {
				n.driver.Stop()
			}
		}()
	}
	if err != nil {
		return err
	}
	title("The network driver on each: govxlan docker-plugin")
	for _, n := range nodes {
		if err := n.drive(ctx, program, filepath.Join(dir, n.name)); err != nil {
			return err
		}
	}
	return walk(ctx, nodes[0], nodes[1], program)
}

// hosts makes the hosts and starts their daemons. Those that it returns are to be
// stopped, also after an error.
func hosts(ctx context.Context, lab *netlab.Lab, dir string) (nodes []*node, err error) {
	a, err := lab.Namespace("node1")
	if err != nil {
		return nil, err
	}
	b, err := lab.Namespace("node2")
	if err != nil {
		return nil, err
	}
	if err := lab.Veth(a, "ens160", "192.168.52.203/24", b, "ens160", "192.168.52.204/24", 1500); err != nil {
		return nil, err
	}
	for i, ns := range []*netlab.Namespace{a, b} {
		n := &node{name: ns.Label(), addr: fmt.Sprintf("192.168.52.%d", 203+i)}
		if n.Daemon, err = dockerlab.Start(ctx, ns, filepath.Join(dir, fmt.Sprint(i)), n.name); err != nil {
			return nodes, err
		}
		nodes = append(nodes, n)
		if err := n.say(ctx, "version", "--format", "Docker {{.Server.Version}} on "+n.name+", "+n.addr); err != nil {
			return nodes, err
		}
	}
	return nodes, nil
}

// drive starts the driver, and waits until Docker would find it.
func (n *node) drive(ctx context.Context, program, state string) error {
	socket := "/run/docker/plugins/govxlan.sock"
	n.driver = n.Command(ctx, program, "docker-plugin", "--state", state, "--log-level", "warn")
	n.driver.Stderr = os.Stderr
	if err := n.driver.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if n.Command(ctx, "test", "-S", socket).Run() == nil {
			return nil
		}
	}
	return fmt.Errorf("the driver on %s does not make %s", n.name, socket)
}

// walk shows a network from its creation to its end.
func walk(ctx context.Context, a, b *node, program string) error {
	const image = dockerlab.Image
	peers := "peers=" + a.addr + "," + b.addr
	steps := []struct {
		title string
		run   func() error
	}{
		{"One network, created on both", func() error {
			for _, n := range []*node{a, b} {
				if err := n.say(ctx, "network", "create", "-d", "govxlan", "--subnet", "10.0.1.0/24", "-o", "vni=4097", "-o", peers, "my-overlay"); err != nil {
					return err
				}
			}
			return nil
		}},
		{"A container on each", func() error {
			return errors.Join(
				a.say(ctx, "run", "-d", "--name", "c1", "--network", "my-overlay", "--ip", "10.0.1.100", image, "sleep", "9999"),
				b.say(ctx, "run", "-d", "--name", "c2", "--network", "my-overlay", "--ip", "10.0.1.103", image, "sleep", "9999"))
		}},
		{"They are on one Ethernet", func() error {
			return errors.Join(
				a.say(ctx, "exec", "c1", "ip", "address", "show", "eth0"),
				a.say(ctx, "exec", "c1", "ping", "-c", "3", "10.0.1.103"))
		}},
		{"The way: eth0, a veth pair, br0 and the TAP vx4097 in the network's sandbox, and ens160", func() error {
			path, err := a.Command(ctx, "sh", "-c", "ls /run/docker/netns/gvx-*").Output()
			if err != nil {
				return err
			}
			sandbox := strings.TrimSpace(string(path))
			return errors.Join(
				a.look(ctx, "nsenter", "--net="+sandbox, "ip", "-br", "link"),
				a.look(ctx, "nsenter", "--net="+sandbox, "bridge", "fdb", "show", "br", "br0"),
				a.look(ctx, program, "status"),
				a.look(ctx, program, "fdb", "show"))
		}},
		{"A ping and its answer, as the VTEP carries them", func() error {
			capture := a.Command(ctx, program, "capture", "-c", "2", "--ip", "10.0.1.103")
			out := new(strings.Builder)
			capture.Stdout, capture.Stderr = out, out
			if err := capture.Start(); err != nil {
				return err
			}
			// It says nothing before the first packet: so there are many.
			err := a.quiet(ctx, "exec", "c1", "ping", "-c", "20", "-i", "0.1", "10.0.1.103")
			err = errors.Join(err, capture.Wait())
			fmt.Printf("\n[%s] $ govxlan capture -c 2 --ip 10.0.1.103\n%s", a.name, out)
			return err
		}},
		{"100 MB by HTTP, with a checksum", func() error {
			return errors.Join(
				b.say(ctx, "exec", "c2", "sh", "-c", "dd if=/dev/urandom of=/www/file bs=1M count=100 2>&1; httpd -h /www < /dev/null > /dev/null 2>&1; md5sum < /www/file"),
				a.say(ctx, "exec", "c1", "sh", "-c", "wget -q -O - http://10.0.1.103/file | md5sum"))
		}},
		{"c2 moves to the other host, with its address", func() error {
			return errors.Join(
				b.say(ctx, "rm", "--force", "c2"),
				a.say(ctx, "run", "-d", "--name", "c2", "--network", "my-overlay", "--ip", "10.0.1.103", image, "sleep", "9999"),
				a.say(ctx, "exec", "c1", "ping", "-c", "1", "10.0.1.103"))
		}},
		{"The end", func() error {
			return errors.Join(
				a.say(ctx, "rm", "--force", "c1", "c2"),
				a.say(ctx, "network", "rm", "my-overlay"),
				b.say(ctx, "network", "rm", "my-overlay"))
		}},
	}
	for _, s := range steps {
		title(s.title)
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	return nil
}

func title(text string) { fmt.Printf("\n=== %s\n", text) }

// say runs docker and shows the command and what it prints.
func (n *node) say(ctx context.Context, args ...string) error {
	fmt.Printf("\n[%s] $ docker %s\n", n.name, strings.Join(args, " "))
	out, err := n.Docker(ctx, args...)
	if out != "" {
		fmt.Println(out)
	}
	return err
}

// quiet runs docker.
func (n *node) quiet(ctx context.Context, args ...string) error {
	_, err := n.Docker(ctx, args...)
	return err
}

// look shows a command of the host.
func (n *node) look(ctx context.Context, name string, args ...string) error {
	fmt.Printf("\n[%s] $ %s %s\n", n.name, filepath.Base(name), strings.Join(args, " "))
	out, err := n.Command(ctx, name, args...).CombinedOutput()
	fmt.Printf("%s\n", strings.TrimRight(string(out), "\n"))
	return err
}
