package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// PathOf is where the endpoint of this network namespace listens that owns the UDP
// port and changes to a user, who has to be able to remove the socket: in a
// directory of the user's.
func PathOf(port uint16, uid int) (string, error) {
	path, err := DefaultPath(port)
	if err != nil {
		return "", err
	}
	return filepath.Join(ownDirectory(uid), filepath.Base(path)), nil
}

// ownDirectory has the sockets of a user whom endpoints change to.
func ownDirectory(uid int) string { return filepath.Join(Directory, strconv.Itoa(uid)) }

// ListenFor is Listen for a process that is going to be a user's: that user may
// ask, and remove the socket at the end. The directory has to be the user's, and
// the usual one is made so.
func ListenFor(uid, gid int, path string, endpoint Endpoint, version string) (_ *Server, err error) {
	if uid == os.Geteuid() {
		return Listen(path, endpoint, version)
	}
	dir := filepath.Dir(path)
	if dir == ownDirectory(uid) {
		// Nobody plays with names in it while we are at it.
		back, err := borrow(dir, uid, gid)
		if err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
		defer back()
	} else if info, err := os.Stat(dir); err == nil && !writable(info, uid, gid) {
		return nil, fmt.Errorf("uid %d could not remove the control socket from %s at the end: give a place in a directory of that user with --control", uid, dir)
	}
	s, err := Listen(path, endpoint, version)
	if err != nil {
		return nil, err
	}
	if err := give(path, uid, gid); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), s.Close())
	}
	return s, nil
}

// borrow makes a directory root's, or makes it, until back.
func borrow(dir string, uid, gid int) (back func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := os.Lchown(dir, os.Geteuid(), os.Getegid()); err != nil {
		return nil, err
	}
	return func() { _ = os.Lchown(dir, uid, gid) }, nil
}

// give makes a socket a user's, and nothing else that might be there instead.
func give(path string, uid, gid int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("somebody has put something else there")
	}
	return os.NewSyscallError("fchownat", unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH))
}

// writable says whether a user may remove own files from a directory.
func writable(dir os.FileInfo, uid, gid int) bool {
	need := os.FileMode(0o003)
	switch st := dir.Sys().(*syscall.Stat_t); {
	case uid == 0:
		return true
	case int(st.Uid) == uid:
		need <<= 6
	case int(st.Gid) == gid:
		need <<= 3
	}
	return dir.Mode()&need == need
}
