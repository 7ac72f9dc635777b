package vxlan

// KernelEncapECN is [EncapECN] as the Linux kernel does it (RFC 3168 section
// 9.1.1, full functionality): an inner CE becomes ECT(0) outside, so that marks
// set inside the tunnel can be told from those set before it.
func KernelEncapECN(inner ECN) ECN {
	if inner &= 3; inner == CE {
		return ECT0
	}
	return inner
}

// KernelDecapECN is [DecapECN] as the Linux kernel does it. The fields that
// result are those of RFC 6040; of the combinations that are called unused there
// the kernel remarks on two only, those of an inner Not-ECT.
func KernelDecapECN(outer, inner ECN) (ECN, ECNVerdict) {
	e, verdict := DecapECN(outer, inner)
	if verdict == ECNAlert && inner&3 != NotECT {
		verdict = ECNDeliver
	}
	return e, verdict
}
