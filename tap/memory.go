package tap

import (
	"net"
	"sync"
)

// memoryQueue bounds the frames that wait in each direction of a Memory device;
// more are dropped, as a full transmit queue does.
const memoryQueue = 4096

// MemoryConfig describes a Memory device.
type MemoryConfig struct {
	Name string
	MTU  int              // 0 = 1450
	MAC  net.HardwareAddr // nil = 02:00:00:00:00:01
}

// Memory is a Device without a kernel: the test, or the program, plays the
// network stack through its Host methods. It builds on every system.
type Memory struct {
	name string
	mtu  int
	mac  net.HardwareAddr

	toReader chan []byte
	toHost   chan []byte
	closed   chan struct{}
	once     sync.Once
}

var _ Device = (*Memory)(nil)

// NewMemory returns an open device.
func NewMemory(cfg MemoryConfig) *Memory {
	m := &Memory{
		name: cfg.Name, mtu: cfg.MTU, mac: cfg.MAC,
		toReader: make(chan []byte, memoryQueue),
		toHost:   make(chan []byte, memoryQueue),
		closed:   make(chan struct{}),
	}
	if m.mtu == 0 {
		m.mtu = 1450
	}
	if m.mac == nil {
		m.mac = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	}
	return m
}

// HostSend puts a frame on the device as the host's network stack would. It
// copies the frame, and returns net.ErrClosed after Close.
func (m *Memory) HostSend(frame []byte) error {
	if m.isClosed() {
		return net.ErrClosed
	}
	select {
	case m.toReader <- append([]byte(nil), frame...):
	default: // queue full: lost, as on a real device
	}
	return nil
}

// HostReceive waits for the next frame that reached the host, superframes
// taken apart and checksums completed. After Close it returns what had reached
// the host before, then net.ErrClosed.
func (m *Memory) HostReceive() ([]byte, error) {
	select {
	case f := <-m.toHost:
		return f, nil
	case <-m.closed:
	}
	select {
	case f := <-m.toHost:
		return f, nil
	default:
		return nil, net.ErrClosed
	}
}

// isClosed is asked first where a select could as well choose the frame: after
// Close no more goes through.
func (m *Memory) isClosed() bool {
	select {
	case <-m.closed:
		return true
	default:
		return false
	}
}

func (m *Memory) Name() string          { return m.name }
func (m *Memory) MTU() int              { return m.mtu }
func (m *Memory) MAC() net.HardwareAddr { return m.mac }

// Features are none: what the host sees are plain frames.
func (m *Memory) Features() Features { return 0 }

func (m *Memory) Readers() []Reader    { return []Reader{(*memoryReader)(m)} }
func (m *Memory) NewWriter(int) Writer { return (*memoryWriter)(m) }

func (m *Memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

type memoryReader Memory

func (r *memoryReader) Read(b *Batch) error {
	b.reset()
	if (*Memory)(r).isClosed() {
		return net.ErrClosed
	}
	var f []byte
	select {
	case f = <-r.toReader:
	case <-r.closed:
		return net.ErrClosed
	}
	b.acquire()
	for {
		room := b.room(0)
		b.add(0, copy(room, f))
		if b.room(0) == nil {
			return nil
		}
		select {
		case f = <-r.toReader:
		default:
			return nil
		}
	}
}

type memoryWriter Memory

func (w *memoryWriter) Write(frames []Vector) (int, error) {
	if (*Memory)(w).isClosed() {
		return 0, net.ErrClosed
	}
	p := plains.Get().(*plain)
	defer plains.Put(p)
	for i := range frames {
		err := p.each(&frames[i], func(f []byte) error {
			select {
			case w.toHost <- append([]byte(nil), f...):
			default: // nobody receives: lost
			}
			return nil
		})
		if err != nil {
			return i, err
		}
	}
	return len(frames), nil
}
