// Package control is how commands talk to a running endpoint: HTTP with JSON
// bodies over a unix socket that only the user who runs the endpoint may open.
//
//	GET /v1/status         the whole of it: VNIs, peers, counters
//	GET /v1/fdb?vni=4097   the tables; without vni, all of them
//	GET /v1/neigh          neighbours; vni as above
//	POST /v1/neigh         a change: NeighbourChange
//
// The socket is found by the UDP port and the network namespace:
//
//	/run/govxlan/<port>-<inode of the network namespace>.sock
package control
