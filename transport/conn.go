package transport

import (
	"errors"
	"net/netip"
)

// ErrWouldBlock is what TrySend returns when the system has no room for more at
// the moment.
var ErrWouldBlock = errors.New("no room to send at the moment")

// Sender sends trains. One goroutine may use it at a time; make one for each
// with Conn.NewSender.
type Sender interface {
	// Send sends trains in their order and waits where the system asks it to.
	// It returns how many trains were sent; when that is fewer than all, err
	// says why the next one was not (wholly) sent, and the caller decides
	// whether to go on behind it. Send keeps nothing of the trains. After
	// Close of the Conn it returns net.ErrClosed.
	Send(trains []Train) (int, error)
	// TrySend is Send, but returns ErrWouldBlock where Send would wait. The
	// next call must then begin with the train that was not sent: part of it
	// may be on its way.
	TrySend(trains []Train) (int, error)
}

// Receiver receives trains. One goroutine may use it at a time.
type Receiver interface {
	// Recv waits for at least one train, then takes more as long as they are
	// there and trains has room. It fills the trains' fields; the bytes that
	// Buf points to belong to the receiver, are valid until the next Recv, and
	// may be written to by the caller. After Close it returns net.ErrClosed,
	// and Close interrupts it.
	Recv(trains []Train) (int, error)
}

// Pollable is a Receiver that an event loop can wait for, instead of a goroutine
// in Recv. Those of ListenUDP are.
type Pollable interface {
	Receiver
	// Descriptor is readable, in the sense of poll(2), when TryRecv has
	// something to return. It is valid until the Conn is closed.
	Descriptor() int
	// TryRecv is Recv without waiting: 0 and no error say that nothing is
	// there. What it returns lies in slab, and is valid until that is used
	// again, here or with another receiver.
	TryRecv(trains []Train, slab *Slab) (int, error)
}

// Limits are what a Conn sends most cheaply.
type Limits struct {
	// Segments is how many datagrams of one train leave with one system call
	// as one superframe. 1: the kernel cannot do it, or was told not to.
	// Longer trains are still sent.
	Segments int
	// Flows is how many source ports stand for inner flows: trains of one
	// destination with the same Hash*Flows>>32 leave from the same port, and
	// so stay in order.
	Flows int
}

// Conn is a VTEP's attachment to the underlay. Datagrams are UDP payloads: the
// VXLAN header first.
type Conn interface {
	// Locals are the addresses that peers send to, at most one of IPv4 and one
	// of IPv6.
	Locals() []netip.AddrPort
	// Limits may sink while running, when the kernel refuses an offload.
	Limits() Limits
	// Receivers must each be served by a goroutine, or datagrams are lost.
	Receivers() []Receiver
	// NewSender returns a sender for one goroutine.
	NewSender() Sender
	// Close ends every Recv and Send. A second Close does nothing.
	Close() error
}
