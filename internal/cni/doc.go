// Package cni is govxlan as a plugin of the Container Network Interface (CNI
// specification 1.1 and older): it gives a container an interface on a VNI.
//
// A plugin is a process of a moment, a VTEP is not: the VNI's device belongs to
// an endpoint that runs on the host ('govxlan up'), which the plugin asks by the
// control socket. What the plugin makes itself is the bridge that the device is a
// port of, and for each container a pair of devices between that bridge and it.
//
//	container: eth0 ── veth pair ── bridge ── vx4097 (TAP) ── endpoint ── underlay
//
// It keeps no file. What it made is found again by the names and the aliases of
// the devices, which tell the network, the container and the interface; so there
// is nothing that could contradict what is really there.
package cni
