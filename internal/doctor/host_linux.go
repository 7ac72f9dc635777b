package doctor

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/internal/portholder"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const tun = "/dev/net/tun"

// checkTUN: every TAP comes from this device.
func (x *examination) checkTUN() {
	fd, err := unix.Open(tun, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		_, err := unix.IoctlGetInt(fd, unix.TUNGETFEATURES)
		unix.Close(fd)
		if err != nil {
			x.find("tun", Fail, "rm /dev/net/tun && mknod -m 666 /dev/net/tun c 10 200", "%s is another device", tun)
			return
		}
		x.find("tun", OK, "", "%s is there and opens", tun)
	case errors.Is(err, unix.ENOENT):
		x.find("tun", Fail, "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200", "%s does not exist, as in many containers", tun)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		x.find("tun", Fail, "modprobe tun", "the kernel has no TUN driver, or has not loaded it")
	case errors.Is(err, unix.EACCES):
		x.find("tun", Fail, "chmod 666 /dev/net/tun", "this user may not open %s", tun)
	case errors.Is(err, unix.EPERM):
		x.find("tun", Fail, "", "%s may not be opened here: the container that this is must be given the device", tun)
	default:
		x.find("tun", Fail, "", "%s does not open: %v", tun, err)
	}
}

// has says whether this process has a capability.
func has(capability int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[capability/32].Effective&(1<<(capability%32)) != 0
}

// checkRights: what the endpoint needs when it starts, and doctor now.
func (x *examination) checkRights() {
	admin, raw := has(unix.CAP_NET_ADMIN), has(unix.CAP_NET_RAW)
	grant := "setcap cap_net_admin,cap_net_raw+ep <path of govxlan>"
	switch {
	case admin && raw:
		x.find("rights", OK, "", "CAP_NET_ADMIN and CAP_NET_RAW are there")
	case !admin && x.Status == nil:
		x.find("rights", Fail, grant, "CAP_NET_ADMIN is missing: 'govxlan up' cannot make its device")
	case !admin:
		x.find("rights", Warn, "sudo govxlan doctor", "CAP_NET_ADMIN is missing: doctor cannot read the firewall's rules")
	default:
		x.find("rights", Warn, grant, "CAP_NET_RAW is missing: no --transport packet, and doctor may not ask by ICMP and ARP")
	}
}

// checkPort: who has the UDP port.
func (x *examination) checkPort() {
	port := x.underPort()
	h := portholder.Of(port)
	switch {
	case x.Status != nil && h.PID != 0:
		x.find("port", OK, "", "UDP port %d is held by %v", port, h)
	case x.Status != nil:
		x.find("port", OK, "", "UDP port %d is the endpoint's", port)
	case !h.Held:
		x.find("port", OK, "", "UDP port %d is free", port)
	case h.Device != "":
		x.find("port", Fail, "ip link del "+h.Device, "UDP port %d is held by the kernel's vxlan device %s: remove that, or choose another with --port", port, h.Device)
	case h.PID != 0:
		x.find("port", Fail, fmt.Sprintf("kill %d", h.PID), "UDP port %d is held by %v: stop that, or choose another with --port", port, h)
	default:
		x.find("port", Fail, "", "UDP port %d is held by %v: choose another with --port", port, h)
	}
}

// checkKernelDevices: vxlan devices of the kernel, and other endpoints, that have
// a VNI of ours.
func (x *examination) checkKernelDevices() {
	mine := make(map[vxlan.VNI]bool)
	for _, v := range x.vnis() {
		mine[v.VNI] = true
	}
	found := false
	links, err := netlink.LinkList()
	if err != nil {
		x.find("duplicate-vni", Skip, "", "the devices of this host cannot be listed: %v", err)
		return
	}
	for _, link := range links {
		v, ok := link.(*netlink.Vxlan)
		if !ok || v.Flags&net.FlagUp == 0 {
			continue
		}
		vni := vxlan.VNI(v.VxlanId)
		switch {
		case mine[vni]:
			found = true
			x.report.add(Finding{Check: "duplicate-vni", State: Warn, VNI: &vni, Command: "ip link del " + v.Name,
				Text: fmt.Sprintf("the kernel's device %s has VNI %v too, on port %d: two VTEPs of one network on one host", v.Name, vni, v.Port)})
		case v.Port == vxlan.LinuxPort && x.port != vxlan.LinuxPort && x.Status == nil:
			found = true
			x.find("port-mix", Warn, "", "the kernel's device %s speaks on port %d, Linux's own default: an endpoint that shall talk to its peers needs --port %d", v.Name, v.Port, v.Port)
		}
	}
	for path, status := range x.others() {
		for _, v := range status.VNIs {
			if mine[v.VNI] {
				found = true
				vni := v.VNI
				x.report.add(Finding{Check: "duplicate-vni", State: Warn, VNI: &vni, Command: fmt.Sprintf("govxlan vni del %v --control %s", vni, path),
					Text: fmt.Sprintf("another endpoint, on port %d, has VNI %v too, as device %s", status.Port, vni, v.Device)})
			}
		}
	}
	if !found {
		x.find("duplicate-vni", OK, "", "no other VTEP of this host has the same VNI")
	}
}

// others are the endpoints of this network namespace beside the one that is looked
// at, by their control sockets.
func (x *examination) others() map[string]control.Status {
	all := make(map[string]control.Status)
	if x.Status == nil {
		return all
	}
	paths, _ := control.All()
	for _, path := range paths {
		s, err := control.NewClient(path).Status(x.ctx)
		if err == nil && s.Port != x.port {
			all[path] = s
		}
	}
	return all
}

// checkDevices: the TAPs, and who uses them.
func (x *examination) checkDevices() {
	seen := make(map[string]bool)
	links := make(map[string][]netlink.Link) // by namespace
	for _, v := range x.vnis() {
		if !seen[v.Device] {
			seen[v.Device] = true
			made := x.made[v.VNI]
			err := namespace.Do(made.Netns, func() (err error) {
				all, ok := links[made.Netns]
				if !ok {
					if all, err = netlink.LinkList(); err != nil {
						return err
					}
					links[made.Netns] = all
				}
				x.checkDevice(v.VNI, v.Device, made.Bridge, all)
				return nil
			})
			if err != nil {
				x.report.add(Finding{Check: "device", State: Skip, VNI: &v.VNI, Text: fmt.Sprintf("device %s cannot be looked at: %v", v.Device, err)})
			}
		}
	}
}

// checkDevice: bridge is the one that it was made a port of, "" for none, and links
// are all devices that there are beside it.
func (x *examination) checkDevice(vni vxlan.VNI, name, bridge string, links []netlink.Link) {
	ip := x.ip(vni)
	say := func(s State, command, format string, args ...any) {
		x.report.add(Finding{Check: "device", State: s, VNI: &vni, Command: command, Text: fmt.Sprintf(format, args...)})
	}
	at := slices.IndexFunc(links, func(l netlink.Link) bool { return l.Attrs().Name == name })
	if at < 0 {
		say(Skip, "", "device %s is not in this network namespace", name)
		return
	}
	link := links[at]
	a := link.Attrs()
	if a.Flags&net.FlagUp == 0 {
		say(Fail, fmt.Sprintf("%s link set dev %s up", ip, name), "device %s is down", name)
		return
	}
	if a.RawFlags&unix.IFF_LOWER_UP == 0 {
		say(Fail, fmt.Sprintf("%s link set dev %s carrier on", ip, name), "device %s has no carrier: somebody took it away", name)
		return
	}
	if a.MasterIndex != 0 {
		checkBridge(say, ip, link, links)
		return
	}
	if bridge != "" {
		say(Fail, fmt.Sprintf("%s link set dev %s master %s", ip, name, bridge), "device %s is no port of bridge %s, which it was made one of", name, bridge)
		return
	}
	for _, l := range links {
		if l.Attrs().ParentIndex == a.Index && l.Attrs().NetNsID < 0 {
			say(OK, "", "device %s is up, with %s on it", name, l.Attrs().Name)
			return
		}
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		say(Skip, "", "the addresses of %s cannot be listed: %v", name, err)
		return
	}
	for _, addr := range addrs {
		if !addr.IP.IsLinkLocalUnicast() {
			say(OK, "", "device %s is up, with address %v", name, addr.IPNet)
			return
		}
	}
	say(Warn, fmt.Sprintf("%s address add <address/bits> dev %s", ip, name), "device %s has neither an address nor a bridge: nobody on this host uses it", name)
}

// checkBridge: that of a TAP.
func checkBridge(say func(State, string, string, ...any), ip string, link netlink.Link, links []netlink.Link) {
	a := link.Attrs()
	master := "its bridge"
	for _, l := range links {
		if l.Attrs().Index == a.MasterIndex {
			master = l.Attrs().Name
			if l.Attrs().Flags&net.FlagUp == 0 {
				say(Fail, fmt.Sprintf("%s link set dev %s up", ip, master), "bridge %s of %s is down", master, a.Name)
				return
			}
		}
	}
	for _, l := range links {
		if b := l.Attrs(); b.MasterIndex == a.MasterIndex && b.Index != a.Index && b.MTU > a.MTU {
			say(Warn, fmt.Sprintf("%s link set dev %s mtu %d", ip, b.Name, a.MTU),
				"port %s of bridge %s has MTU %d and %s %d: the bridge drops longer frames, and tells nobody", b.Name, master, b.MTU, a.Name, a.MTU)
			return
		}
	}
	say(OK, "", "device %s is up, a port of %s", a.Name, master)
}

// counts are some of the kernel's counters of UDP in this network namespace.
type counts struct{ received, checksum, noRoom uint64 }

// readCounts reads those of IPv4 and IPv6 together.
func readCounts() (c counts) {
	if text, err := os.ReadFile("/proc/thread-self/net/snmp"); err == nil {
		// Two lines for each protocol: names, then numbers.
		var names []string
		for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
			f := strings.Fields(s.Text())
			if len(f) == 0 || f[0] != "Udp:" {
				continue
			}
			if names == nil {
				names = f
				continue
			}
			for i := range min(len(f), len(names)) {
				c.add(names[i], f[i])
			}
		}
	}
	if text, err := os.ReadFile("/proc/thread-self/net/snmp6"); err == nil {
		for s := bufio.NewScanner(strings.NewReader(string(text))); s.Scan(); {
			if f := strings.Fields(s.Text()); len(f) == 2 && strings.HasPrefix(f[0], "Udp6") {
				c.add(f[0][len("Udp6"):], f[1])
			}
		}
	}
	return c
}

func (c *counts) add(name, number string) {
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return
	}
	switch name {
	case "InDatagrams":
		c.received += n
	case "InCsumErrors":
		c.checksum += n
	case "RcvbufErrors":
		c.noRoom += n
	}
}

// checkConntrack: a table that is full drops what is new, and every flow of the
// overlay is a new one.
func (x *examination) checkConntrack() {
	const at = "/proc/sys/net/netfilter/nf_conntrack_"
	read := func(name string) int {
		text, err := os.ReadFile(at + name)
		if err != nil {
			return 0
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		return n
	}
	if s, command, text := judgeConntrack(read("count"), read("max")); text != "" {
		x.find("conntrack", s, command, "%s", text)
	}
}

// checkChecksums: what came with a wrong one.
func (x *examination) checkChecksums() {
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		if release := unix.ByteSliceToString(uts.Release[:]); mangles(release) {
			x.find("checksum", Warn, "govxlan up <flags> --offload off", "Linux %s mangles trains of equal UDP datagrams (fixed in 7.1.5)", release)
		}
	}
	now := readCounts()
	s, command, text := judgeChecksums(x.before, now)
	x.find("checksum", s, command, "%s", text)
	if n := now.noRoom - x.before.noRoom; n > 0 {
		x.find("receive-buffer", Warn, "govxlan up <flags> --workers <more>", "%d datagrams were dropped just now because a socket's buffer was full: the host is busy", n)
	}
}

// ip is how a command changes devices where that of a VNI is.
func (x *examination) ip(v vxlan.VNI) string {
	if netns := x.made[v].Netns; netns != "" {
		return fmt.Sprintf("nsenter --net=%s ip", namespace.Path(netns))
	}
	return "ip"
}
