package control

import (
	"context"
	"net"
	"net/http"
	"sync"
)

const (
	// mostClients are served at once. More wait to be accepted, until one that
	// does nothing runs into a timeout.
	mostClients = 128
	// mostStreams of them get answers without end, so that there is always room
	// for those who ask something.
	mostStreams = 64
)

// door is the listener of a control socket. It knows who comes in, and lets only
// so many in at once.
type door struct {
	net.Listener
	room chan struct{} // takes one for each client
	shut chan struct{} // closed by Close
	once sync.Once
}

func newDoor(l net.Listener) *door {
	return &door{Listener: l, room: make(chan struct{}, mostClients), shut: make(chan struct{})}
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case d.room <- struct{}{}:
	case <-d.shut:
		return nil, net.ErrClosed
	}
	conn, err := d.Listener.Accept()
	if err != nil {
		<-d.room
		return nil, err
	}
	g := &guest{Conn: conn, door: d}
	g.refused = admit(conn)
	return g, nil
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.shut) })
	return d.Listener.Close()
}

// guest is one client's connection.
type guest struct {
	net.Conn
	door    *door
	refused error // why it gets no answer; nil: it may ask
	once    sync.Once
}

func (g *guest) Close() error {
	err := g.Conn.Close()
	g.once.Do(func() { <-g.door.room })
	return err
}

// CloseWrite lets net/http close in two steps, so that a client which is still
// sending gets to read what was wrong with it.
func (g *guest) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

type guestKey struct{}

// introduce has requests know whose they are.
func introduce(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, guestKey{}, conn)
}

// refused says why a request may not be made; nil: it may.
func refused(r *http.Request) error {
	if g, ok := r.Context().Value(guestKey{}).(*guest); ok {
		return g.refused
	}
	return nil
}

// stream makes an answer one without end, if there is room for such. The caller
// calls done after it. Where ok is false the request is answered.
func (s *Server) stream(w http.ResponseWriter) (done func(), ok bool) {
	select {
	case s.streams <- struct{}{}:
		return func() { <-s.streams }, true
	default:
		http.Error(w, "too many watch already: end one of them", http.StatusServiceUnavailable)
		return nil, false
	}
}
