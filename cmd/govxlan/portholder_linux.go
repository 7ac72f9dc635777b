package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// portHolder names whoever has a UDP port of this network namespace.
func portHolder(port uint16) string {
	inodes := make(map[string]bool)
	for _, table := range []string{"/proc/net/udp", "/proc/net/udp6"} {
		udpInodes(table, port, inodes)
	}
	if len(inodes) == 0 {
		return "another program"
	}
	if name := vxlanDevice(port); name != "" {
		return fmt.Sprintf("the kernel's vxlan device %s (see 'ip -d link show %s')", name, name)
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return "another program"
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
		return fmt.Sprintf("process %s (%s)", pid, strings.TrimSpace(string(name)))
	}
	if os.Geteuid() == 0 {
		// Root sees the files of all processes, and the kernel's own sockets
		// belong to none. The device of this one may have been moved away.
		return "the kernel (a vxlan device of another network namespace, or a process of another process namespace)"
	}
	return "a process that this user may not see"
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
