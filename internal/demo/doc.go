// Package demo shows a VXLAN overlay at work on one machine: two "hosts" as
// network namespaces, a container on each, a real VTEP per host, and a ping
// whose frames are captured at every device between the two containers.
//
// Run builds the stage, plays it, and fills a Report, which a Printer turns
// into text while the demo goes on. Everything that the text says about a
// packet was read from a packet that was captured.
package demo
