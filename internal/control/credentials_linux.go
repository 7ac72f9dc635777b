package control

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// admit says why a client may not ask; nil: it may. The mode of the socket keeps
// others out as well, but somebody may have changed it, and it can have any mode
// for the moment before it gets its own.
func admit(conn net.Conn) error {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("who asks cannot be told, so that it is refused")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return fmt.Errorf("who asks cannot be told, so that it is refused: %w", err)
	}
	var cred *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		failed = err
	}
	if failed != nil {
		return fmt.Errorf("who asks cannot be told, so that it is refused: %w", os.NewSyscallError("getsockopt SO_PEERCRED", failed))
	}
	return judge(cred)
}

// judge admits root and the user who runs the endpoint.
func judge(cred *unix.Ucred) error {
	self := os.Geteuid()
	if cred.Uid == 0 || int(cred.Uid) == self {
		return nil
	}
	who := fmt.Sprintf("uid %d, process %d", cred.Uid, cred.Pid)
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cred.Pid)); err == nil {
		who += fmt.Sprintf(" (%s)", bytes.TrimSpace(name))
	}
	if self == 0 {
		return fmt.Errorf("%s is refused: only root may ask this endpoint", who)
	}
	return fmt.Errorf("%s is refused: only root and uid %d, who runs the endpoint, may ask it", who, self)
}
