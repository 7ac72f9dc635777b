package vxlan

import "testing"

// INET_ECN_encapsulate of the kernel.
func TestKernelEncapECN(t *testing.T) {
	for inner, want := range map[ECN]ECN{NotECT: NotECT, ECT1: ECT1, ECT0: ECT0, CE: ECT0} {
		if got := KernelEncapECN(inner); got != want {
			t.Errorf("inner %v: outer %v, want %v", inner, got, want)
		}
	}
}

// INET_ECN_decapsulate of the kernel, all 16 pairs.
func TestKernelDecapECN(t *testing.T) {
	for _, tt := range []struct {
		inner, outer ECN
		want         ECN
		verdict      ECNVerdict
	}{
		{NotECT, NotECT, NotECT, ECNDeliver},
		{NotECT, ECT0, NotECT, ECNAlert},
		{NotECT, ECT1, NotECT, ECNAlert},
		{NotECT, CE, NotECT, ECNDrop},

		{ECT0, NotECT, ECT0, ECNDeliver},
		{ECT0, ECT0, ECT0, ECNDeliver},
		{ECT0, ECT1, ECT1, ECNDeliver},
		{ECT0, CE, CE, ECNDeliver},

		{ECT1, NotECT, ECT1, ECNDeliver},
		{ECT1, ECT0, ECT1, ECNDeliver},
		{ECT1, ECT1, ECT1, ECNDeliver},
		{ECT1, CE, CE, ECNDeliver},

		{CE, NotECT, CE, ECNDeliver},
		{CE, ECT0, CE, ECNDeliver},
		{CE, ECT1, CE, ECNDeliver},
		{CE, CE, CE, ECNDeliver},
	} {
		got, verdict := KernelDecapECN(tt.outer, tt.inner)
		if got != tt.want || verdict != tt.verdict {
			t.Errorf("inner %v, outer %v: %v, %v; want %v, %v", tt.inner, tt.outer, got, verdict, tt.want, tt.verdict)
		}
	}
}
