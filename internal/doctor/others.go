//go:build !linux

package doctor

import "github.com/govxlan/govxlan/vxlan"

// Examining the host needs Linux; what the endpoint says does not.

type counts struct{ received, checksum, noRoom uint64 }

func readCounts() counts                   { return counts{} }
func (x *examination) checkTUN()           {}
func (x *examination) checkRights()        {}
func (x *examination) checkPort()          {}
func (x *examination) checkKernelDevices() {}
func (x *examination) checkDevices()       {}
func (x *examination) checkRoutes()        {}
func (x *examination) checkFirewall()      {}
func (x *examination) checkConntrack()     {}
func (x *examination) checkChecksums()     {}
func (x *examination) ip(vxlan.VNI) string { return "ip" }
