package netlab_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab"
)

func init() {
	// parent sleeps in one process group with a child of its own that sleeps
	// and that ignores SIGTERM.
	roles["parent"] = func() {
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), roleVariable+"=stubborn")
		out, err := child.StdoutPipe()
		if err != nil {
			fail(err)
		}
		if err := child.Start(); err != nil {
			fail(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			fail(err)
		}
		fmt.Println(child.Process.Pid)
		_ = child.Wait()
	}
	roles["stubborn"] = func() {
		signal.Ignore(syscall.SIGTERM)
		fmt.Println()
		select {}
	}
	// owner makes a lab with a sleeping process in it and says their names;
	// the lab is kept when its input says so.
	roles["owner"] = func() {
		lab, err := netlab.New("owned")
		if err != nil {
			fail(err)
		}
		ns, err := lab.Namespace("a")
		if err != nil {
			fail(err)
		}
		cmd := ns.Command(context.Background(), "/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=sleep")
		keep := os.Getenv("NETLAB_TEST_KEEP") != ""
		cmd.Outlive = keep
		if err := cmd.Start(); err != nil {
			fail(err)
		}
		if keep {
			if err := lab.Keep(); err != nil {
				fail(err)
			}
		}
		fmt.Println(lab.Name(), ns.Name(), cmd.Process.Pid)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
}

// role prepares this test binary in a role inside a namespace.
func role(t *testing.T, ns *netlab.Namespace, name string) *netlab.Cmd {
	t.Helper()
	cmd := ns.Command(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+name)
	return cmd
}
