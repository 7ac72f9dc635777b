// Package netlab lays several hosts out on one Linux machine: network
// namespaces joined by veth pairs, with bridges, kernel vxlan devices and
// processes inside them. The demo, the end-to-end tests and the benchmarks run
// in such a lab, so nothing of theirs ever touches the real network.
//
//	lab, err := netlab.New("demo")
//	...
//	defer lab.Close()
//	a, err := lab.Namespace("hostA")
//	b, err := lab.Namespace("hostB")
//	err = lab.Veth(a, "ens160", "192.168.52.203/24", b, "ens160", "192.168.52.204/24", 1500)
//
// Everything a lab makes is called gvx-LABEL-PID-..., so two labs never meet,
// and it is gone after Close: Close ends the processes that the lab started and
// removes its namespaces, with all devices in them, also when the lab was only
// half made. What a process that was killed outright left behind is removed by
// the next New, or by Sweep.
//
// It needs root (CAP_SYS_ADMIN for the namespaces, CAP_NET_ADMIN inside them)
// and Linux; on other systems the package is empty.
package netlab
