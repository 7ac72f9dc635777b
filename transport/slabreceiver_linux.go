package transport

import (
	"net"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// slabReceiver receives from one socket into slabs, whatever its messages are:
// what udpReceiver and packetReceiver have in common.
type slabReceiver struct {
	sock *socket
	own  *Slab // for Recv

	// train fills t from the i-th message of slab, or says that it is none.
	train func(i int, t *Train) bool
	// passing says whether the socket goes on receiving after an error, which
	// reading it cleared.
	passing func(errno unix.Errno) bool

	call  func(fd uintptr) bool
	try   func(fd uintptr)
	slab  *Slab
	next  int // how many messages the next Recv asks for
	want  int
	got   int
	errno unix.Errno
}

// init makes r ready; train and passing are set.
func (r *slabReceiver) init(sock *socket) {
	r.sock, r.next = sock, recvMessages
	r.call = r.recvmmsg
	r.try = func(fd uintptr) { r.recvmmsg(fd) }
}

func (r *slabReceiver) Recv(trains []Train) (int, error) {
	if len(trains) == 0 {
		return 0, nil // recvmmsg would say so for ever
	}
	if r.own == nil {
		r.own = NewSlab()
	}
	for {
		r.begin(trains, r.own)
		if err := r.sock.fd.Read(r.call); err != nil {
			return 0, net.ErrClosed
		}
		if n, err := r.end(trains); n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *slabReceiver) TryRecv(trains []Train, slab *Slab) (int, error) {
	if len(trains) == 0 {
		return 0, nil
	}
	r.begin(trains, slab)
	if err := r.sock.fd.Do(r.try); err != nil {
		return 0, err
	}
	return r.end(trains)
}

func (r *slabReceiver) Descriptor() int { return r.sock.fd.Number() }

// begin prepares a system call.
func (r *slabReceiver) begin(trains []Train, slab *Slab) {
	r.slab, r.want, r.got, r.errno = slab, min(len(trains), r.next), 0, 0
}

// end turns what the system call brought into trains.
func (r *slabReceiver) end(trains []Train) (int, error) {
	if r.errno != 0 {
		return 0, os.NewSyscallError("recvmmsg", r.errno)
	}
	n, bytes := 0, 0
	for i := range r.got {
		m := &r.slab.msgs[i]
		bytes += int(m.n)
		// Cut: cannot be, the room is enough.
		if m.hdr.Flags&unix.MSG_TRUNC == 0 && r.train(i, &trains[n]) {
			n++
		}
	}
	r.slab.rearm(r.got)
	r.next = recvMessages
	if average := bytes / max(r.got, 1); average > recvBudget/recvMessages {
		r.next = max(recvBudget/average, 1)
	}
	return n, nil
}

// recvmmsg is called by the poller with the descriptor; false waits.
func (r *slabReceiver) recvmmsg(fd uintptr) bool {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.slab.msgs[0])),
			uintptr(r.want), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			r.got = int(n)
			return true
		case errno == unix.EAGAIN:
			return false
		case errno == unix.EINTR, r.passing(errno):
		default:
			r.errno = errno
			return true
		}
	}
}
