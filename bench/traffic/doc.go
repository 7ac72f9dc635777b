// Package traffic generates and measures the load of the benchmarks: TCP streams,
// UDP datagrams, requests and responses, echo requests.
//
// A [Job] is done by a process of its own (Main), which the benchmark starts
// inside the namespace of a host. So its processor time is its own, and neither
// the benchmark nor a second job disturbs it.
//
// Each stream has a thread to itself with blocking sockets and raw system calls,
// as a C program would. Ordinary blocking calls of Go would measure its scheduler:
// a monitor thread wakes up every 20 µs to take the processor from a goroutine
// that waits in the kernel, and hands it back with a futex. On two cores that
// costs more than the copying.
package traffic
