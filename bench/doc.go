// Package bench measures tunnels side by side: govxlan, the kernel's vxlan
// device, no tunnel at all, and others that are installed. "govxlan bench net" is
// its front.
//
// Each system gets a pair of hosts of its own, network namespaces joined by a veth
// pair, in which it runs for the whole of the measurements. Every test goes round
// all systems before the next test begins, and all tests are repeated in rounds:
// what disturbs the machine for a while disturbs all systems alike, and a ratio is
// taken within one round.
//
// [Run] needs root and Linux. The load comes from package traffic, the figures go
// to package report.
package bench
