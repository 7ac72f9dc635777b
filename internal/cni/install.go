package cni

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/govxlan/govxlan/internal/wholefile"
)

// Install puts a copy of the file program into the directory of plugins, and the
// list into that of network configurations under the name file. Each is there as
// a whole or not at all, also for who looks meanwhile. The plugin comes first: a
// runtime that sees the list finds it.
func Install(program, pluginDir string, list []byte, listDir, file string) error {
	from, err := os.Open(program)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := put(from, pluginDir, PluginType, 0o755); err != nil {
		return err
	}
	return put(bytes.NewReader(list), listDir, file, 0o644)
}

func put(from io.Reader, dir, name string, mode os.FileMode) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	err := wholefile.Write(path, mode, func(w io.Writer) error {
		_, err := io.Copy(w, from)
		return err
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
