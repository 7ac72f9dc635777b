package daemon

import (
	"fmt"
	"os"
	"strings"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/namespace"
)

// identify returns what tells a network namespace apart.
func identify(name string) (control.NamespaceID, error) {
	id, err := namespace.Identify(name)
	return control.NamespaceID(id), err
}

// pin keeps a namespace that is named by a process, whose number another may
// have later, and returns a name that stays. Others are names already.
func pin(name string) (stays string, unpin func(), err error) {
	if !strings.HasPrefix(name, "/proc/") {
		return name, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return "", nil, fmt.Errorf("network namespace %s: %w", name, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { f.Close() }, nil
}
