package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

const openVSwitchSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// underlayBridge takes the underlay's address over: the user-space switch sends
// tunnel packets only over bridges of its own.
const underlayBridge = "under0"

// startOpenVSwitch runs Open vSwitch's user-space datapath with a vxlan port, one
// switch on each host. It speaks VXLAN as govxlan does.
func startOpenVSwitch(ctx context.Context, _ *runner, p *pair) error {
	tools := make(map[string]string)
	for _, name := range openVSwitchTools {
		path, err := findTool(name)
		if err != nil {
			return err
		}
		tools[name] = path
	}
	p.version = toolVersion(ctx, tools["ovs-vswitchd"], "--version")
	p.command = "ovs-vswitchd (bridges with datapath_type=netdev, a port of type vxlan)"
	for _, h := range p.hosts {
		if err := startSwitch(ctx, p, h, tools); err != nil {
			return err
		}
	}
	return nil
}

var openVSwitchTools = []string{"ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"}

func startSwitch(ctx context.Context, p *pair, h *host, tools map[string]string) error {
	dir := filepath.Join(h.LabDir(), p.mode+"-ovs-"+h.letter)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	database, socket := filepath.Join(dir, "conf.db"), filepath.Join(dir, "db.sock")
	if _, err := output(ctx, h, tools["ovsdb-tool"], "create", database, openVSwitchSchema); err != nil {
		return err
	}
	// Everything that Open vSwitch keeps under /run is in this directory, the
	// bridges' control sockets too.
	p.environment = append(os.Environ(), "OVS_RUNDIR="+dir, "OVS_LOGDIR="+dir, "OVS_DBDIR="+dir, "OVS_SYSCONFDIR="+dir)
	server, err := p.run(ctx, h, tools["ovsdb-server"], database, "--remote=punix:"+socket, "--unixctl="+filepath.Join(dir, "db.ctl"), "--no-chdir")
	if err != nil {
		return err
	}
	if err := server.await(ctx, func() bool { _, err := os.Stat(socket); return err == nil }); err != nil {
		return err
	}
	vsctl := func(args ...string) error {
		_, err := output(ctx, h, tools["ovs-vsctl"], append([]string{"--db=unix:" + socket, "--timeout=10"}, args...)...)
		return err
	}
	if err := vsctl("--no-wait", "init"); err != nil {
		return err
	}
	daemon, err := p.run(ctx, h, tools["ovs-vswitchd"], "unix:"+socket, "--unixctl="+filepath.Join(dir, "switch.ctl"), "--no-chdir")
	if err != nil {
		return err
	}
	var mac string
	err = h.Do(func() error {
		link, err := net.InterfaceByName(underlayDev)
		if err == nil {
			mac = link.HardwareAddr.String()
		}
		return err
	})
	if err != nil {
		return err
	}
	// ovs-vsctl waits until the switch has done it.
	err = vsctl("--", "add-br", underlayBridge,
		"--", "set", "bridge", underlayBridge, "datapath_type=netdev", "fail_mode=standalone", `other_config:hwaddr="`+mac+`"`,
		"--", "add-port", underlayBridge, underlayDev,
		"--", "add-br", overlayDev,
		"--", "set", "bridge", overlayDev, "datapath_type=netdev", "fail_mode=standalone",
		"--", "add-port", overlayDev, "vx0",
		"--", "set", "interface", "vx0", "type=vxlan",
		fmt.Sprintf("options:remote_ip=%v", p.far(h).under), fmt.Sprintf("options:key=%d", benchVNI), "options:dst_port=4789")
	if err != nil {
		return err
	}
	err = daemon.await(ctx, func() bool { return h.hasDevice(underlayBridge) && h.hasDevice(overlayDev) })
	if err != nil {
		return err
	}
	if err := h.AddAddr(underlayBridge, h.underCIDR()); err != nil {
		return err
	}
	if err := h.SetUp(underlayBridge); err != nil {
		return err
	}
	return h.setUp(overlayDev, overlayMTU)
}
