// Package control is how commands talk to a running endpoint: HTTP with JSON
// bodies over a unix socket that only the user who runs the endpoint may open.
//
//	GET /v1/status         the whole of it: VNIs, peers, counters
//	GET /v1/fdb?vni=4097   the tables; without vni, all of them
//	POST /v1/fdb           a change: FDBChange
//	GET /v1/nexthops       nexthop groups; vni as above
//	POST /v1/nexthops      a change: NexthopChange
//	GET /v1/watch          events, one JSON object a line, without end; vni as above
//	GET /v1/capture        frames as a pcapng without end; see CaptureWish
//	GET /v1/neigh          neighbours; vni as above
//	POST /v1/neigh         a change: NeighbourChange
//
// The socket is found by the UDP port and the network namespace:
//
//	/run/govxlan/<port>-<inode of the network namespace>.sock
package control
