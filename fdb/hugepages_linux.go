package fdb

import (
	"syscall"
	"unsafe"
)

// hugePageBytes is the size of a huge page where they are most common.
const hugePageBytes = 2 << 20

// adviseHugePages asks for huge pages behind a large table. Its slots are read at
// random, so that with small ones nearly every look-up waits for the page table
// too: with a million entries 33 ns instead of 41 (BenchmarkLookup). Where the
// system has none, or gives none, nothing changes.
func adviseHugePages(slots []slot) {
	const madvHugePage = 14 // MADV_HUGEPAGE, asm-generic/mman-common.h
	bytes := uintptr(len(slots)) * unsafe.Sizeof(slot{})
	if bytes < 2*hugePageBytes {
		return
	}
	// Whole huge pages within it: the rest belongs to others too.
	first := uintptr(unsafe.Pointer(unsafe.SliceData(slots)))
	skip := -first & (hugePageBytes - 1)
	size := (bytes - skip) &^ (hugePageBytes - 1)
	region := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(slots)), skip)), size)
	_ = syscall.Madvise(region, madvHugePage)
}
