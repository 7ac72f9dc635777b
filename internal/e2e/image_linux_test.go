package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

// imageOf lays the file system of a Dockerfile out in a directory, as far as
// Dockerfiles go that start from nothing, and returns its entry point.
func imageOf(t *testing.T, dockerfile, dir string) (entry []string) {
	t.Helper()
	text, err := os.ReadFile(dockerfile)
	must(t, err)
	for _, line := range strings.Split(string(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "", "#", "CMD":
		case "FROM":
			if rest != "scratch" {
				t.Fatalf("%s: this test knows no other base than scratch", line)
			}
		case "COPY":
			from, to, _ := strings.Cut(rest, " ")
			if from != "govxlan" {
				t.Fatalf("%s: what is that?", line)
			}
			must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, to)), 0o755))
			content, err := os.ReadFile(govxlan)
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, to), content, 0o755))
		case "ENTRYPOINT":
			must(t, json.Unmarshal([]byte(rest), &entry))
		default:
			t.Fatalf("%s: this test does not know it", line)
		}
	}
	return entry
}

// TestImage: the program runs with nothing around it but what a container gets
// from its engine: /proc, and /dev/net/tun.
func TestImage(t *testing.T) {
	t.Parallel()
	build := exec.Command("go", "version", "-m", govxlan)
	if out, err := build.CombinedOutput(); err == nil && strings.Contains(string(out), "CGO_ENABLED=1") {
		t.Skip("this build needs a C library, which the one that is released does not")
	}
	hosts := newHosts(t, "image", 2, wiring{})
	a, b := hosts[0], hosts[1]
	b.kernelVTEP(t, netlab.VXLANConfig{VNI: 4097}, false, a)
	must(t, b.AddAddr("vxlan0", "10.0.1.2/24"))
	root := t.TempDir()
	entry := imageOf(t, "../../cmd/govxlan/dist/Dockerfile", root)
	p := prepare(t, a.Namespace)
	p.control = filepath.Join(root, "run", "c.sock")
	inside := fmt.Sprintf(`mkdir %[1]s/proc %[1]s/dev && mount -t proc proc %[1]s/proc && mount -t tmpfs tmpfs %[1]s/dev && mkdir %[1]s/dev/net &&
		mknod -m 666 %[1]s/dev/net/tun c 10 200 && exec chroot %[1]s "$@"`, root)
	args := append([]string{"--mount", "--propagation", "private", "sh", "-c", inside, "sh"}, entry...)
	p.cmd = a.Command(context.Background(), "unshare", append(args,
		"up", "--control", "/run/c.sock", "--vni", "4097", "--peer", b.ip4.String(), "--addr", "10.0.1.1/24")...)
	p.cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.start()
	ping(t, a.Namespace, netip.MustParseAddr("10.0.1.2"), 3)
	if s := p.status(); len(s.VNIs) != 1 {
		t.Errorf("status %+v", s)
	}
}
