package cni

import (
	"fmt"
	"os"
	"runtime"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"
)

// home is the network namespace that the plugin was called in.
var home *os.File

// settle keeps this goroutine, which does all the work, to the thread that it is
// on: the first one of the process, since Main comes first.
//
// Namespaces are entered on that thread alone, and found by the names of the
// process. A name of another thread, /proc/PID/task/TID, has the kernel forget the
// files of the thread and those of the process at the same time when it ends, each
// in the way of the other, and whoever waits for the process then waits for
// seconds on a host that is busy (seen with Linux 6.18 on two cores).
func settle() error {
	runtime.LockOSThread()
	f, err := os.Open("/proc/self/ns/net")
	home = f
	return err
}

// inside calls f in the network namespace of a container.
func inside(path string, f func() error) (err error) {
	there, err := os.Open(path)
	if err != nil {
		return fail(types.ErrInvalidNetNS, "CNI_NETNS: %v", err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fail(types.ErrInvalidNetNS, "CNI_NETNS: enter network namespace %s: %v", path, err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// What follows would be done to the container instead of the host.
		panic(fmt.Sprintf("leave network namespace %s: %v", path, back))
	}
	return err
}
