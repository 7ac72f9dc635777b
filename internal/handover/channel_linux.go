package handover

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// mostMessage bounds a message: the tables of thousands of VNIs.
	mostMessage = 1 << 30
	// mostRights is how many descriptors one byte carries; the kernel takes 253.
	mostRights = 200
	// mostDescriptors bounds those of one message.
	mostDescriptors = 1 << 20
)

// Channel carries messages, and descriptors with them, between two processes of
// one user. A message is 4 bytes of length and 4 of how many descriptors come
// with it, big endian, then its JSON, then a byte for each mostRights of the
// descriptors, which travel with it.
type Channel struct{ conn *net.UnixConn }

// NewChannel takes over a stream socket, if its other end belongs to root or to
// the user of this process. Where not it is closed.
func NewChannel(conn net.Conn) (*Channel, error) {
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("handover: %T is no Unix socket", conn)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		c.Close()
		return nil, err
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, os.NewSyscallError("getsockopt SO_PEERCRED", failed)); err == nil && peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		err = fmt.Errorf("handover: process %d of user %d is neither root's nor of this user", peer.Pid, peer.Uid)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &Channel{c}, nil
}

// Send sends a message within a time. The descriptors stay the caller's.
func (c *Channel) Send(message any, fds []int, within time.Duration) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	head = binary.BigEndian.AppendUint32(head, uint32(len(fds)))
	if _, err := c.conn.Write(append(head, body...)); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), mostRights)
		if _, _, err := c.conn.WriteMsgUnix([]byte{'d'}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return fmt.Errorf("send descriptors: %w", err)
		}
		fds = fds[n:]
	}
	return nil
}

// Receive reads a message within a time. The descriptors are the caller's, and
// closed when another program is executed.
func (c *Channel) Receive(into any, within time.Duration) (fds []int, err error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(c.conn, head[:]); err != nil {
		return nil, err
	}
	size, count := binary.BigEndian.Uint32(head[:]), int(binary.BigEndian.Uint32(head[4:]))
	if size > mostMessage || count > mostDescriptors {
		return nil, fmt.Errorf("a message of %d bytes and %d descriptors is too long", size, count)
	}
	defer func() {
		if err != nil {
			CloseAll(fds)
			fds = nil
		}
	}()
	body, err := io.ReadAll(io.LimitReader(c.conn, int64(size)))
	if err != nil {
		return nil, err
	}
	if len(body) < int(size) {
		return nil, io.ErrUnexpectedEOF
	}
	for len(fds) < count {
		more, err := c.rights()
		fds = append(fds, more...)
		if err != nil {
			return fds, fmt.Errorf("receive descriptors: %w", err)
		}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fds, err
	}
	return fds, nil
}

// rights reads the descriptors of one byte.
func (c *Channel) rights() ([]int, error) {
	var b [1]byte
	oob := make([]byte, unix.CmsgSpace(4*mostRights))
	n, m, flags, _, err := c.conn.ReadMsgUnix(b[:], oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return nil, err
	}
	var fds []int
	for i := range messages {
		// ReadMsgUnix asks for close-on-exec.
		more, err := unix.ParseUnixRights(&messages[i])
		if err == nil {
			fds = append(fds, more...)
		}
	}
	switch {
	case flags&unix.MSG_CTRUNC != 0:
		return fds, errors.New("some are missing: are there too many open files? (see 'ulimit -n')")
	case n == 0:
		return fds, io.ErrUnexpectedEOF
	case len(fds) == 0:
		return nil, errors.New("none came")
	}
	return fds, nil
}

// Close ends the channel.
func (c *Channel) Close() error { return c.conn.Close() }

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}
