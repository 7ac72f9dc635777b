package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
)

// kubernetes is what docs/kubernetes/govxlan.yaml has each node run.
type kubernetes struct {
	values            map[string]string
	install, endpoint kubernetesContainer
}

type kubernetesContainer struct {
	Args            []string `yaml:"args"`
	SecurityContext struct {
		Capabilities struct {
			Add []string `yaml:"add"`
		} `yaml:"capabilities"`
	} `yaml:"securityContext"`
}

// confined has a command begin with the capabilities of the container, and no
// others.
func (c *kubernetesContainer) confined(t *testing.T, cmd *netlab.Cmd) *netlab.Cmd {
	t.Helper()
	path, err := exec.LookPath("setpriv")
	must(t, err)
	bounds := "-all"
	for _, name := range c.SecurityContext.Capabilities.Add {
		bounds += ",+" + strings.ToLower(name)
	}
	cmd.Path, cmd.Args = path, append([]string{path, "--no-new-privs", "--inh-caps", "-all", "--bounding-set", bounds}, cmd.Args...)
	return cmd
}

func readKubernetes(t *testing.T) (k kubernetes) {
	t.Helper()
	f, err := os.Open("../../docs/kubernetes/govxlan.yaml")
	must(t, err)
	defer f.Close()
	for d := yaml.NewDecoder(f); ; {
		var object struct {
			Kind string            `yaml:"kind"`
			Data map[string]string `yaml:"data"`
			Spec struct {
				Template struct {
					Spec struct {
						Init       []kubernetesContainer `yaml:"initContainers"`
						Containers []kubernetesContainer `yaml:"containers"`
					} `yaml:"spec"`
				} `yaml:"template"`
			} `yaml:"spec"`
		}
		if err := d.Decode(&object); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		switch object.Kind {
		case "ConfigMap":
			k.values = object.Data
		case "DaemonSet":
			k.install, k.endpoint = object.Spec.Template.Spec.Init[0], object.Spec.Template.Spec.Containers[0]
		}
	}
	if k.values == nil || k.install.Args == nil || k.endpoint.Args == nil {
		t.Fatalf("the manifest: %+v", k)
	}
	return k
}

// expand puts values in the places of $(NAME), as the kubelet does.
func (k kubernetes) expand(args []string, more map[string]string) []string {
	values := maps.Clone(k.values)
	maps.Copy(values, more)
	args = slices.Clone(args)
	for i := range args {
		for name, value := range values {
			args[i] = strings.ReplaceAll(args[i], "$("+name+")", value)
		}
	}
	return args
}

// TestCNIKubernetesPrivileges: two nodes that run what the manifest says, word for
// word but for directories and for the API server that there is not, with the
// capabilities that it says, join their pods.
func TestCNIKubernetesPrivileges(t *testing.T) {
	t.Parallel()
	k := readKubernetes(t)
	hosts := newHosts(t, "kube", 2, wiring{})
	var pods [2]*netlab.Namespace
	var addresses [2]netip.Addr
	var nodes [2]*cniHost
	for i, h := range hosts {
		c := newCNIHost(t, h, fmt.Sprintf("kube%c", 'a'+i))
		c.p.stop()
		nodes[i] = c
		node := map[string]string{"DEVICE": underlayDevice, "HOST_IP": h.ip4.String()}
		args := k.expand(k.install.Args, node)
		for j, arg := range args {
			name, _, _ := strings.Cut(arg, "=")
			switch name {
			case "--node":
				args[j] = fmt.Sprintf("--range=10.244.%d.0/24", i+1)
			case "--network":
				args[j] = "--network=" + c.network
			case "--data-dir":
				args[j] = "--data-dir=" + c.ipam
			case "--bin-dir":
				args[j] = "--bin-dir=" + c.plugins
			case "--conf-dir":
				args[j] = "--conf-dir=" + c.conf
			}
		}
		if o := runCmd(t, k.install.confined(t, h.Command(t.Context(), govxlan, args...))); o.code != 0 {
			t.Fatalf("%q: %+v", args, o)
		}
		// The control socket is where the plugin finds it by itself.
		must(t, h.Do(func() (err error) {
			c.p.control, err = control.DefaultPath(4789)
			return err
		}))
		pods[i] = netlabtest.Namespace(t, h.lab, h.Label()+"pod")
		c.wrong(t, "add", pods[i], "no endpoint runs")
		path := c.p.control
		c.p = prepare(t, h.Namespace, append(k.expand(k.endpoint.Args, node)[1:], "--control", path)...)
		c.p.control = path
		k.endpoint.confined(t, c.p.cmd)
		c.p.start()
		if o := run(t, h.Namespace, "status"); o.code != 0 {
			t.Errorf("the readiness probe: %+v", o)
		}
		r := c.add(t, pods[i])
		addresses[i], _ = netip.AddrFromSlice(r.IPs[0].Address.IP.To4())
	}
	if want := [2]netip.Addr{netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.2.2")}; addresses != want {
		t.Errorf("the pods have %v, want %v", addresses, want)
	}
	for i, c := range nodes {
		other := 1 - i
		ping(t, pods[i], addresses[other], 2)
		ping(t, c.Namespace, addresses[other], 1) // a probe from another node
		ping(t, pods[i], hosts[other].ip4, 1)     // and beyond the cluster's network
		c.do(t, "check", pods[i])
	}
	must(t, transfer(pods[0], pods[1], addresses[1], 1<<20))
	for i, c := range nodes {
		c.do(t, "del", pods[i])
		if left := append(c.given(t), c.cached(t)...); len(left) > 0 {
			t.Errorf("left: %q", left)
		}
		if link, err := c.Link("vx4097"); err != nil || link.Bridge != "vxbr4097" {
			t.Errorf("the VNI of the start has gone with the last pod: %+v, %v", link, err)
		}
	}
}
