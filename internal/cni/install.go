package cni

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
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
	to, err := newFile(dir, name)
	if err != nil {
		return err
	}
	defer to.discard()
	if _, err := io.Copy(to, from); err != nil {
		return fmt.Errorf("write %s: %w", to.path, err)
	}
	return to.keep(mode)
}

// pendingFile is a file that is to be at path, and still has another name.
type pendingFile struct {
	*os.File
	path string
}

func newFile(dir, name string) (*pendingFile, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	// Its name has a dot in front, and none of the endings that runtimes look
	// for.
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return nil, err
	}
	return &pendingFile{f, filepath.Join(dir, name)}, nil
}

// keep gives the file its name, once all of it is on the disk.
func (f *pendingFile) keep(mode os.FileMode) error {
	err := f.Chmod(mode)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), f.path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	return nil
}

// discard removes a file that was not kept.
func (f *pendingFile) discard() {
	f.Close()
	_ = os.Remove(f.Name())
}
