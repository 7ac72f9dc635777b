package dockerplugin

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// bridgeName is the bridge in a sandbox.
const bridgeName = "br0"

// makeSandbox makes a network namespace that is found at path, with a bridge in
// it. What is there of it stays.
func makeSandbox(path string) error {
	there, err := isNamespace(path)
	if err == nil && !there {
		err = newNamespace(path)
	}
	if err == nil {
		err = namespace.Do(path, furnish)
	}
	if err != nil {
		return fmt.Errorf("sandbox %s: %w", path, err)
	}
	return nil
}

// isNamespace says whether a namespace is mounted at path.
func isNamespace(path string) (bool, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil && st.Type == unix.NSFS_MAGIC, err
}

// newNamespace makes an empty one.
func newNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	result := make(chan error)
	go func() {
		// The thread ends with the goroutine, in the namespace.
		runtime.LockOSThread()
		err := os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET))
		if err == nil {
			err = os.NewSyscallError("mount", unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""))
		}
		result <- err
	}()
	if err := <-result; err != nil {
		os.Remove(path)
		return err
	}
	return nil
}

// furnish makes the bridge, in the namespace of the calling thread.
func furnish() error {
	// The sandbox has no addresses of its own: nothing in it is to speak.
	for _, scope := range []string{"all", "default"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EROFS) {
			return err
		}
	}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		if err := netlink.LinkSetUp(lo); err != nil {
			return fmt.Errorf("lo: %w", err)
		}
	}
	bridge, err := netlink.LinkByName(bridgeName)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		// A MAC of its own: a bridge without one takes that of a port, and
		// changes it when ports come and go.
		mac := make(net.HardwareAddr, 6)
		rand.Read(mac)
		mac[0] = mac[0]&^1 | 2
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.HardwareAddr = bridgeName, mac
		bridge = &netlink.Bridge{LinkAttrs: attrs}
		err = netlink.LinkAdd(bridge)
	}
	if err == nil {
		err = netlink.LinkSetUp(bridge)
	}
	if err != nil {
		return fmt.Errorf("bridge %s: %w", bridgeName, err)
	}
	return nil
}

// removeSandbox removes the namespace with what is in it. One that is not there is
// no error.
func removeSandbox(path string) error {
	err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("sandbox %s: %w", path, os.NewSyscallError("umount", err))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}
