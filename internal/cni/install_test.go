package cni

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Files are replaced as a whole, and a failure leaves neither half of one nor a
// temporary one.
func TestInstall(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	bin, conf := filepath.Join(dir, "opt/cni/bin"), filepath.Join(dir, "net.d")
	for _, text := range []string{"{}", "{ }"} {
		if err := Install(program, bin, []byte(text), conf, "10-govxlan.conflist"); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(conf, "10-govxlan.conflist")); string(got) != text || err != nil {
			t.Errorf("the list is %q, %v", got, err)
		}
		info, err := os.Stat(filepath.Join(bin, "govxlan"))
		if err != nil || info.Mode() != 0o755 || info.Size() != 3 {
			t.Errorf("the plugin: %v, %v", info, err)
		}
	}
	// A directory is where the list should go.
	if err := os.Mkdir(filepath.Join(conf, "20.conflist"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Install(program, bin, nil, conf, "20.conflist"); err == nil {
		t.Error("a directory is replaced by a file")
	}
	if err := Install(filepath.Join(dir, "none"), bin, nil, conf, "30.conflist"); err == nil {
		t.Error("a program that is not there is installed")
	}
	var names []string
	for _, d := range []string{bin, conf} {
		entries, err := os.ReadDir(d)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	if diff := cmp.Diff([]string{"govxlan", "10-govxlan.conflist", "20.conflist"}, names); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}
