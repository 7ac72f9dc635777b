// Package wholefile writes files that others read meanwhile, or after the power has
// failed: what they find under a name is all of the old content, or all of the new.
package wholefile

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Pending is what the name of a file begins with that is not whole yet. One that is
// there for long was left by a process that was killed. It is hidden, and has none of
// the endings by which programs choose among the files of a directory.
const Pending = ".new-"

// Write makes, or replaces, the file at path, of what write writes. It is on the disk
// before it has its name; that its name is there too, sync the directory for. On
// failure nothing has changed.
func Write(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), Pending+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	whole := false
	defer func() {
		if !whole { // a panic of write's, too
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	// Not that of the process's umask.
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	whole = true
	return nil
}
