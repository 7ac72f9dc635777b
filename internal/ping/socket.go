package ping

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/govxlan/govxlan/internal/probe"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// socketLine is a Line without an endpoint.
type socketLine struct {
	conn    transport.Conn
	to      netip.AddrPort
	vni     vxlan.VNI
	id      uint64
	answers chan vtep.ProbeAnswer
	tasks   sync.WaitGroup

	mu     sync.Mutex
	sender transport.Sender
}

// Listen opens a Line from a socket of its own, for where no endpoint runs. It
// receives on the VTEP's port, since that is where a VTEP sends to, whatever port
// it was asked from: transport.ErrPortInUse when somebody has that. The peer
// answers if it knows local as a VTEP of the VNI.
func Listen(local netip.Addr, to netip.AddrPort, vni vxlan.VNI) (Line, error) {
	conn, err := transport.ListenUDP(transport.UDPConfig{Local: []netip.Addr{local}, Port: to.Port(), DontFragment: true})
	if err != nil {
		return nil, err
	}
	l := &socketLine{conn: conn, to: to, vni: vni, id: rand.Uint64(), answers: make(chan vtep.ProbeAnswer, 1024), sender: conn.NewSender()}
	for _, r := range conn.Receivers() {
		l.tasks.Go(func() { l.receive(r) })
	}
	go func() {
		l.tasks.Wait()
		close(l.answers)
	}()
	return l, nil
}

func (l *socketLine) receive(r transport.Receiver) {
	var trains [16]transport.Train
	for {
		n, err := r.Recv(trains[:])
		if err != nil {
			return
		}
		at := time.Now()
		for i := range n {
			t := &trains[i]
			if t.Addr.Addr().WithZone("") != l.to.Addr().WithZone("") {
				continue
			}
			for k := range t.Len() {
				h, frame, err := vxlan.Parse(t.Datagram(k))
				if err != nil || h.VNI != l.vni {
					continue
				}
				f, err := probe.Parse(frame)
				if err != nil || f.Kind != probe.Answer || f.ID != l.id {
					continue
				}
				select {
				case l.answers <- vtep.ProbeAnswer{Seq: f.Seq, Came: f.Came, Size: len(frame), At: at}:
				default:
				}
			}
		}
	}
}

func (l *socketLine) Send(all ...vtep.Probe) (time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(all) == 0 {
		return time.Now(), nil
	}
	size := all[0].Size
	if size < vtep.MinProbe || size > vtep.MaxProbe {
		return time.Time{}, fmt.Errorf("a probe has %d to %d bytes, not %d", vtep.MinProbe, vtep.MaxProbe, size)
	}
	var b []byte
	for _, r := range all {
		if r.Size != size {
			return time.Time{}, errors.New("probes of one call have one size")
		}
		b = append(b, datagram(l.vni, probe.Frame{Kind: probe.Request, ID: l.id, Seq: r.Seq, Want: r.AnswerSize}, size)...)
	}
	at := time.Now()
	_, err := l.sender.Send([]transport.Train{{Buf: b, Stride: vxlan.HeaderLen + size, Addr: l.to, Hash: all[0].Flow * 2654435761}})
	return at, err
}

// datagram is a probe with its VXLAN header.
func datagram(vni vxlan.VNI, f probe.Frame, size int) []byte {
	b := make([]byte, vxlan.HeaderLen+size)
	vxlan.Header{VNI: vni}.Put(b)
	f.Put(b[vxlan.HeaderLen:])
	return b
}

func (l *socketLine) Answers() <-chan vtep.ProbeAnswer { return l.answers }

func (l *socketLine) Close() {
	_ = l.conn.Close()
	l.tasks.Wait()
}
