package wholefile

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// there are the files of a directory, and what is in them.
func there(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		text, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		files[e.Name()] = string(text)
	}
	return files
}

// A file is replaced by one with the content and the mode that were asked for, and
// until then the old one is there, beside one that is Pending.
func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.conf")
	for _, c := range []struct {
		text string
		mode os.FileMode
	}{{"one", 0o600}, {"and two", 0o777}, {"", 0o644}} {
		before := there(t, dir)
		err := Write(path, c.mode, func(w io.Writer) error {
			if _, err := io.WriteString(w, c.text); err != nil {
				return err
			}
			meanwhile := there(t, dir)
			for name := range meanwhile {
				if strings.HasPrefix(name, Pending) && !strings.HasSuffix(name, ".conf") {
					delete(meanwhile, name)
				}
			}
			if diff := cmp.Diff(before, meanwhile); diff != "" {
				t.Errorf("files while one is written (-want +got):\n%s", diff)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]string{"a.conf": c.text}, there(t, dir)); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
		if s, err := os.Stat(path); err != nil || s.Mode() != c.mode && runtime.GOOS != "windows" {
			t.Errorf("%v, %v: want mode %v", s, err, c.mode)
		}
	}
}

// Whatever fails, what was there is, and nothing else.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{"old": "old", "directory": ""}
	if err := os.WriteFile(filepath.Join(dir, "old"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no more")
	half := func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, no)
	}
	for name, write := range map[string]func(io.Writer) error{
		"old": half, "new": half,
		"directory": func(io.Writer) error { return nil },
		"none/new":  func(io.Writer) error { return nil },
	} {
		if err := Write(filepath.Join(dir, name), 0o600, write); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := Write(filepath.Join(dir, "old"), 0o600, half); !errors.Is(err, no) {
		t.Errorf("%v, want that of write", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = Write(filepath.Join(dir, "old"), 0o600, func(io.Writer) error { panic(no) })
	}()
	if diff := cmp.Diff(want, there(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
