// Package control is how commands talk to a running endpoint: HTTP with JSON
// bodies over a unix socket, for root and the user who runs the endpoint alone.
// Server answers, Client asks. docs/openapi.yaml has all paths and bodies, and
// docs/control.md examples for others than this package.
//
//	GET /v1/status         the whole of it: VNIs, peers, counters
//	GET /v1/stats?vni=4097 the counters; without vni, of all VNIs
//	GET /v1/fdb            the tables; vni as above
//	POST /v1/fdb           a change: FDBChange
//
// What goes wrong is answered with a status from 400 on and a Failure. The socket
// is found by the UDP port and the network namespace:
//
//	/run/govxlan/<port>-<inode of the network namespace>.sock
package control
