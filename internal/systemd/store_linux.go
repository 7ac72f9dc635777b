package systemd

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstInherited is SD_LISTEN_FDS_START.
const firstInherited = 3

// Descriptor is one that the service manager handed to this process.
type Descriptor struct {
	FD   int
	Name string
}

// Keeps says whether the service manager keeps descriptors for this service. One
// before version 254 does not say: then it is asked to.
func Keeps() bool {
	if !Running() {
		return false
	}
	most, ok := os.LookupEnv("FDSTORE")
	return !ok || most != "0"
}

// Store leaves a descriptor with the service manager, which hands it to the next
// process of the service under that name. It stays open there whatever is heard
// of it: a socket with an error in its queue would else be dropped.
func Store(name string, fd int) error {
	return send("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd)
}

// Forget has the service manager close what it keeps under a name.
func Forget(name string) { _ = send("FDSTOREREMOVE=1\nFDNAME="+name, -1) }

// Barrier waits until the service manager has read all that it was sent. It reads
// who sent a message from /proc: that of a process which has just ended is lost.
func Barrier(within time.Duration) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	defer unix.Close(pipe[0])
	err := send("BARRIER=1", pipe[1])
	unix.Close(pipe[1])
	if err != nil {
		return err
	}
	// It closes its end, the last one.
	for end := time.Now().Add(within); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pipe[0])}}, max(int(time.Until(end).Milliseconds()), 0))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("poll", err)
		case n == 0:
			return fmt.Errorf("the service manager does not answer within %v", within)
		default:
			return nil
		}
	}
}

// send is sd_pid_notify_with_fds(3).
func send(state string, fd int) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return errors.New("NOTIFY_SOCKET is not set: no service manager runs this")
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(socket)
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	// A leading @ of the path becomes the zero byte of an abstract name.
	if err := unix.Sendmsg(socket, []byte(state), rights, &unix.SockaddrUnix{Name: path}, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("notify the service manager: %w", os.NewSyscallError("sendmsg", err))
	}
	return nil
}

// Inherited returns what the service manager handed to this process (LISTEN_FDS),
// once: the environment says nothing of it afterwards. Descriptors are closed
// when another program is executed.
func Inherited() []Descriptor {
	defer func() {
		for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
			os.Unsetenv(name)
		}
	}()
	pid, err := strconv.Atoi(os.Getenv("LISTEN_PID"))
	if err != nil || pid != os.Getpid() {
		return nil
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n < 1 {
		return nil
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	var list []Descriptor
	for i := range n {
		d := Descriptor{FD: firstInherited + i, Name: "unknown"}
		if i < len(names) {
			d.Name = names[i]
		}
		if _, err := unix.FcntlInt(uintptr(d.FD), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			continue // not open
		}
		list = append(list, d)
	}
	return list
}
