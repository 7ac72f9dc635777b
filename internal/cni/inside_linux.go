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
// Namespaces are entered on that thread alone, and opened under the names of the
// process. A plugin that did so on other threads took seconds to be waited for when
// the host was busy (Linux 6.18, two cores, load 15): the kernel spent them in
// d_invalidate, where the entries of the threads and that of the process below
// /proc are forgotten at the same time and in each other's way.
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
