// Package dockerplugin is Docker's network driver `govxlan`: what Docker asks
// for over the plugin API (networks, endpoints, joining and leaving) becomes VNIs
// of a VTEP in this process, and links for containers.
//
// Two layouts join containers to a VNI. In `bridge` each network has a sandbox, a
// network namespace with the bridge br0: the VNI's TAP is one port of it, and each
// container has a veth pair to another. In `direct` the eth0 of each container is
// a TAP of its own, whose other end is the VTEP: frames between containers of this
// host pass a tap.Switch in this process.
//
// What Docker said is kept in a file for each network (state_linux.go), written before
// the answer goes out. A driver that starts makes what the files say (restore_linux.go),
// of what is there: sandboxes, veth pairs and TAPs outlive the process. Docker
// repeats requests, and makes them in any order after a crash of its own: each
// one is answered as if it were the first.
//
// The nodes of a network may be members of it (package membership): then they tell
// each other where its containers are (roster_linux.go). In a swarm a manager
// chooses for all (allocate_linux.go).
package dockerplugin
