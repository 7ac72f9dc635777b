package control

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenFor: the socket is the user's from the beginning, who may ask and
// remove it; nobody else may.
func TestListenFor(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give sockets away")
	}
	const uid, gid = 61234, 61235
	dir, err := os.MkdirTemp("", "govxlan-control-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "own", "sock")
	must(t, os.Mkdir(filepath.Dir(path), 0o755))
	e := newEndpoint(t, 10)

	if _, err := ListenFor(uid, gid, path, e, "1.2.3"); err == nil || !strings.Contains(err.Error(), "--control") || !strings.Contains(err.Error(), "61234") {
		t.Errorf("in a directory of root: %v", err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("something is left: %v", err)
	}

	must(t, os.Chown(filepath.Dir(path), uid, gid))
	s, err := ListenFor(uid, gid, path, e, "1.2.3")
	must(t, err)
	info, err := os.Lstat(path)
	must(t, err)
	if st := info.Sys().(*syscall.Stat_t); st.Uid != uid || st.Gid != gid || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is of %d:%d with mode %v", st.Uid, st.Gid, info.Mode())
	}
	must(t, s.Close())
}

// TestListenMode: the socket has its mode from the first moment, whatever the umask.
func TestListenMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	l, err := listenUnix(path)
	must(t, err)
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestGiveNothingElse: what a user put in the place of the socket stays whose it is.
func TestGiveNothingElse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Symlink(file, link))
	for _, path := range []string{file, link, filepath.Join(dir, "missing")} {
		if err := give(path, 61234, 61234); err == nil {
			t.Errorf("%s was given away", path)
		}
	}
	for _, path := range []string{file, link} {
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if st.Uid != 0 {
			t.Errorf("%s is of user %d now", path, st.Uid)
		}
	}
}

// TestWritable compares what is thought of a directory with what a user can do.
func TestWritable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can try as another user")
	}
	dir, err := os.MkdirTemp("", "govxlan-control-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	for _, owner := range [][2]int{{0, 0}, {61234, 0}, {0, 61235}, {61234, 61235}} {
		for _, mode := range []os.FileMode{0, 0o333, 0o555, 0o777} {
			// Each part differs from the others.
			for _, m := range []os.FileMode{mode, mode ^ 0o300, mode ^ 0o030, mode ^ 0o003} {
				sub := filepath.Join(dir, "sub")
				file := filepath.Join(sub, "file")
				must(t, os.Mkdir(sub, 0o700))
				must(t, os.WriteFile(file, nil, 0o600))
				must(t, os.Chown(file, 61234, 61235))
				must(t, os.Chown(sub, owner[0], owner[1]))
				must(t, os.Chmod(sub, m))
				info, err := os.Stat(sub)
				must(t, err)
				cmd := exec.CommandContext(context.Background(), "rm", "-f", file)
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61234, Gid: 61235}}
				_ = cmd.Run()
				_, err = os.Lstat(file)
				if got, want := writable(info, 61234, 61235), os.IsNotExist(err); got != want {
					t.Errorf("directory of %v with mode %v: %v, and removing a file there %v", owner, m, got, want)
				}
				must(t, os.RemoveAll(sub))
			}
		}
	}
}
