package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/namespace"
)

// namespaceOf is a network namespace as another process finds it too, and what it
// can be told by.
func namespaceOf(name string) (path string, id *control.NamespaceID, err error) {
	path = name
	if strings.Contains(name, "/") {
		if path, err = filepath.Abs(name); err != nil {
			return "", nil, err
		}
		// "self" is somebody else for whoever is asked.
		for _, self := range []string{"/proc/self/", "/proc/thread-self/"} {
			if rest, ok := strings.CutPrefix(path, self); ok {
				path = fmt.Sprintf("/proc/%d/%s", os.Getpid(), rest)
			}
		}
	}
	found, err := namespace.Identify(path)
	if err != nil {
		return "", nil, err
	}
	return path, (*control.NamespaceID)(&found), nil
}
