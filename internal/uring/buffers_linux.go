package uring

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Buffers is a group of buffers of one size that the kernel reads into as it
// needs them. Their memory is touched on use only.
type Buffers struct {
	ring  *Ring
	Group uint16 // for SQE.Group
	size  int
	count uint16
	tail  uint16
	mem   []byte // count x size
	slots []bufferSlot
	raw   []byte // of slots
}

// bufferSlot is struct io_uring_buf; the tail of the ring lies in the first
// one.
type bufferSlot struct {
	addr uint64
	len  uint32
	id   uint16
	tail uint16
}

// bufferRegistration is struct io_uring_buf_reg.
type bufferRegistration struct {
	addr    uint64
	entries uint32
	group   uint16
	flags   uint16
	_       [3]uint64
}

// NewBuffers registers a group of count buffers, a power of two, of size bytes.
func (r *Ring) NewBuffers(group uint16, count uint16, size int) (_ *Buffers, err error) {
	b := &Buffers{ring: r, Group: group, size: size, count: count}
	if b.mem, err = anonymous(int(count) * size); err != nil {
		return nil, err
	}
	if b.raw, err = anonymous(int(count) * int(unsafe.Sizeof(bufferSlot{}))); err != nil {
		return nil, errors.Join(err, b.Unmap())
	}
	b.slots = unsafe.Slice((*bufferSlot)(unsafe.Pointer(&b.raw[0])), count)
	reg := bufferRegistration{addr: uint64(uintptr(unsafe.Pointer(&b.raw[0]))), entries: uint32(count), group: group}
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), registerBufferRing, uintptr(unsafe.Pointer(&reg)), 1, 0, 0); errno != 0 {
		return nil, errors.Join(os.NewSyscallError("io_uring_register buffers", errno), b.Unmap())
	}
	for id := range count {
		b.Give(id)
	}
	return b, nil
}

func anonymous(bytes int) ([]byte, error) {
	m, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	return m, os.NewSyscallError("mmap", err)
}

// Bytes is a buffer's memory.
func (b *Buffers) Bytes(id uint16) []byte {
	start := int(id) * b.size
	return b.mem[start : start+b.size : start+b.size]
}

// Give hands a buffer to the kernel.
func (b *Buffers) Give(id uint16) {
	s := &b.slots[b.tail&(b.count-1)]
	s.addr = uint64(uintptr(unsafe.Pointer(&b.mem[int(id)*b.size])))
	s.len = uint32(b.size)
	s.id = id
	b.tail++
	// The kernel reads the tail with acquire semantics; Go stores no 16 bits
	// atomically, so the id beside it goes along.
	first := (*uint32)(unsafe.Pointer(&b.slots[0].id))
	atomic.StoreUint32(first, pair(b.slots[0].id, b.tail))
}

// pair is two neighbouring 16-bit fields as one word of this machine.
func pair(low, high uint16) uint32 {
	p := [2]uint16{low, high}
	return *(*uint32)(unsafe.Pointer(&p))
}

// Close takes the group back. No read may be under way.
func (b *Buffers) Close() error {
	reg := bufferRegistration{group: b.Group}
	_, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(b.ring.fd), dropBufferRing, uintptr(unsafe.Pointer(&reg)), 1, 0, 0)
	var err error
	if errno != 0 {
		err = os.NewSyscallError("io_uring_unregister buffers", errno)
	}
	return errors.Join(err, b.Unmap())
}

// Unmap frees the memory once the ring is closed.
func (b *Buffers) Unmap() error {
	var errs []error
	for _, m := range [][]byte{b.mem, b.raw} {
		if m != nil {
			errs = append(errs, os.NewSyscallError("munmap", unix.Munmap(m)))
		}
	}
	b.mem, b.raw = nil, nil
	return errors.Join(errs...)
}
