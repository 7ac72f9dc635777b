package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/govxlan/govxlan/internal/namespace"
)

var (
	besideRounds = flag.Int("beside-rounds", 2, "rounds of TestDockerBeside")
	besideFor    = flag.Duration("beside-for", 200*time.Millisecond, "how long TestDockerBeside sends in each")
)

// sendFor sends by TCP from one network namespace to an address in another for a while,
// and returns bytes a second as the receiver counted them.
func sendFor(d time.Duration, from, to, addr string) (rate float64, err error) {
	var listener net.Listener
	if err := namespace.Do(to, func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(addr, "0"))
		return err
	}); err != nil {
		return 0, err
	}
	defer listener.Close()
	var conn net.Conn
	if err := namespace.Do(from, func() (err error) {
		conn, err = net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		return err
	}); err != nil {
		return 0, err
	}
	defer conn.Close()
	in, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	began := time.Now()
	sent := make(chan error, 1)
	go func() {
		b := make([]byte, 1<<17)
		for time.Since(began) < d {
			if _, err := conn.Write(b); err != nil {
				sent <- err
				return
			}
		}
		sent <- conn.Close()
	}()
	n, err := io.Copy(io.Discard, in)
	return float64(n) / time.Since(began).Seconds(), errors.Join(err, <-sent)
}

// TestDockerBeside has a network of Docker's own overlay driver and networks of this one
// on the same two nodes, each with a container on both, and sends over them in turn. How
// fast is for whoever reads the log: go test ./internal/e2e -run TestDockerBeside -v
// -beside-rounds 7 -beside-for 2s.
func TestDockerBeside(t *testing.T) {
	t.Parallel()
	nodes := newDockerNodes(t, "dkbes", true)
	a, b := nodes[0], nodes[1]
	newSwarm(a, b)
	a.do("network", "create", "-d", "overlay", "--attachable", "--subnet", "10.0.1.0/24", "overlay1")
	for i, layout := range []string{"bridge", "direct"} {
		for _, n := range nodes {
			n.do("network", "create", "-d", "govxlan", "--subnet", fmt.Sprintf("10.0.%d.0/24", 2+i), "-o", "port=4790",
				"-o", fmt.Sprintf("vni=%d", 5000+i), "-o", "peers="+a.ip4.String()+","+b.ip4.String(), "-o", "layout="+layout, "gov-"+layout)
		}
	}
	kinds := []struct{ name, network, net string }{
		{"Docker's overlay", "overlay1", "10.0.1"}, {"govxlan, layout bridge", "gov-bridge", "10.0.2"}, {"govxlan, layout direct", "gov-direct", "10.0.3"},
	}
	where := func(n *dockerNode, name string) string {
		return fmt.Sprintf("/proc/%s/ns/net", n.do("inspect", "--format", "{{.State.Pid}}", name))
	}
	var from, to []string
	for _, k := range kinds {
		a.run("a-"+k.network, k.network, k.net+".100")
		b.run("b-"+k.network, k.network, k.net+".103")
		a.shell("a-"+k.network, "ping -c 1 -W 5 "+k.net+".103")
		from, to = append(from, where(a, "a-"+k.network)), append(to, where(b, "b-"+k.network))
	}
	rates := make([][]float64, len(kinds))
	ratios := make([][]float64, len(kinds))
	for range *besideRounds {
		for i, k := range kinds {
			rate, err := sendFor(*besideFor, from[i], to[i], k.net+".103")
			if err != nil || rate < 1e5 {
				t.Fatalf("%s: %.0f bytes a second, %v", k.name, rate, err)
			}
			rates[i] = append(rates[i], rate*8/1e9)
			ratios[i] = append(ratios[i], rates[i][len(rates[i])-1]/rates[0][len(rates[0])-1])
		}
	}
	for i, k := range kinds {
		for _, list := range [][]float64{rates[i], ratios[i]} {
			slices.Sort(list)
		}
		last := *besideRounds - 1
		t.Logf("%-24s %5.2f Gbit/s (%.2f-%.2f), %.2fx (%.2f-%.2f) of Docker's", k.name, rates[i][*besideRounds/2], rates[i][0], rates[i][last],
			ratios[i][*besideRounds/2], ratios[i][0], ratios[i][last])
	}
	for i := range kinds {
		a.do("rm", "--force", "a-"+kinds[i].network)
		b.do("rm", "--force", "b-"+kinds[i].network)
	}
	for _, n := range nodes {
		n.do("network", "rm", "gov-bridge", "gov-direct")
		n.do("swarm", "leave", "--force")
	}
}
