package membership

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestParseKey(t *testing.T) {
	made := NewKey()
	key, err := ParseKey([]byte(" " + made + "\n"))
	if err != nil || len(key) != KeyBytes {
		t.Fatalf("the key that was made, %q: %x, %v", made, key, err)
	}
	if again, err := ParseKey([]byte(hex.EncodeToString(key))); err != nil || string(again) != string(key) {
		t.Errorf("in hexadecimal: %x, %v", again, err)
	}
	if NewKey() == made {
		t.Error("two keys are the same")
	}
	for _, bad := range []string{"", "secret", made[:43], made + made, strings.Repeat("5e", 31), strings.Repeat("x", 64), made[:42] + "~="} {
		if key, err := ParseKey([]byte(bad)); err == nil {
			t.Errorf("%q is a key: %x", bad, key)
		}
	}
}

func TestReadKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, _, err := ReadKey(path); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, mode := range []os.FileMode{0o600, 0o644} {
		if err := os.WriteFile(path, []byte(NewKey()+"\n"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, open, err := ReadKey(path)
		if want := mode != 0o600 && runtime.GOOS != "windows"; err != nil || open != want {
			t.Errorf("mode %o: open %v, %v", mode, open, err)
		}
	}
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ReadKey(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a file without a key: %v", err)
	}
}
