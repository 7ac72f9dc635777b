// Package dockeroverlay looks at the overlay networks that Docker makes with the
// kernel's vxlan device, and has others join them.
//
// Each network has a network namespace of its own on each node, its sandbox, under
// /run/docker/netns, with a bridge, a vxlan device in it and one end of a veth pair for
// each container of this node. Docker writes a permanent FDB entry and a permanent
// neighbour into it for each container of another node; the device has no flood entry,
// and answers ARP itself (proxy), so that neither broadcasts nor ARP cross the wire.
//
// Inspect reads that, and asks Docker for names. Config is what a host that is no node
// needs to join with `govxlan up`, and Attach puts what a node needs to reach it into
// the sandbox.
package dockeroverlay
