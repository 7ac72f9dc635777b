package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
)

// port is the end in the host's namespace of a container's pair of devices: a
// port of the bridge. Who it is for, its alias tells, for GC.
type port struct {
	network, container, ifName string
}

func (r *request) port() port { return port{r.Name, r.ContainerID, r.IfName} }

// What devices of ours say in their aliases.
const (
	portAlias   = "govxlan-cni-port "
	bridgeAlias = "govxlan-cni-bridge"
	vniAlias    = "govxlan-cni-vni" // of a VNI's device
)

// mostContainerID is how long an ID can be for an alias, of 255 bytes, to hold it.
const mostContainerID = 200

// name is the device's: the same whenever it is asked for, for the same
// container.
func (p port) name() string {
	return "gvx" + digest(p.network + "\x00" + p.container + "\x00" + p.ifName)[:maxIfName-3]
}

func (p port) alias() string {
	return networkAlias(p.network) + p.container + " " + p.ifName
}

// networkAlias is what the aliases of all ports of a network begin with.
func networkAlias(network string) string { return portAlias + digest(network)[:16] + " " }

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// attachments are the ports of a network in this namespace, by whom they are for.
func attachments(network string) (map[types.GCAttachment]netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fail(types.ErrIOFailure, "list devices: %v", err)
	}
	found := make(map[types.GCAttachment]netlink.Link)
	for _, l := range links {
		rest, ok := strings.CutPrefix(l.Attrs().Alias, networkAlias(network))
		if !ok {
			continue
		}
		if container, ifName, ok := strings.Cut(rest, " "); ok {
			found[types.GCAttachment{ContainerID: container, IfName: ifName}] = l
		}
	}
	return found, nil
}
