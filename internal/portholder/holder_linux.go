package portholder

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// Of says who has a UDP port of this network namespace.
func Of(port uint16) Holder {
	inodes := make(map[string]bool)
	for _, table := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		udpInodes(table, port, inodes)
	}
	if len(inodes) == 0 {
		return Holder{}
	}
	h := Holder{Held: true}
	if h.Device = vxlanDevice(port); h.Device != "" {
		return h
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return h
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			continue
		}
		inode, ok := strings.CutPrefix(target, "socket:[")
		if !ok || !inodes[strings.TrimSuffix(inode, "]")] {
			continue
		}
		pid := strings.Split(link, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			continue
		}
		if h.PID, err = strconv.Atoi(pid); err != nil {
			continue
		}
		h.Name = strings.TrimSpace(string(name))
		return h
	}
	// Root sees the files of all processes, and the kernel's own sockets belong
	// to none.
	h.Hidden = os.Geteuid() != 0
	return h
}

// vxlanDevice names the vxlan device of this network namespace that has the
// port, or returns "".
func vxlanDevice(port uint16) string {
	links, err := netlink.LinkList()
	if err != nil {
		return ""
	}
	for _, link := range links {
		if v, ok := link.(*netlink.Vxlan); ok && v.Port == int(port) && v.Flags&net.FlagUp != 0 {
			return v.Name
		}
	}
	return ""
}

// udpInodes reads the inodes of the sockets that are bound to port. Columns of
// the table: number, local address:port in hex, ..., inode the tenth.
func udpInodes(table string, port uint16, into map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 10 {
			continue
		}
		_, hex, ok := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); ok && err == nil && uint16(n) == port {
			into[fields[9]] = true
		}
	}
}
