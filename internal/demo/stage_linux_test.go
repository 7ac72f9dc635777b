package demo

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplained(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("add vxlan: %w", unix.EOPNOTSUPP), "modprobe -a veth bridge vxlan"},
		{fmt.Errorf("unshare: %w", unix.EPERM), "--privileged"},
		{other, "other"},
	} {
		got := explained(c.err)
		if !errors.Is(got, c.err) || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%v became %v, want it with %q", c.err, got, c.want)
		}
	}
}
