package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// mostClients have a connection at once. For one more, the one goes that has
	// asked nothing for longest.
	mostClients = 128
	// mostStreams of them get answers without end, so that there is always room
	// for those who ask something.
	mostStreams = 64
	// streamPatience is what they have, when the server ends, to write what they
	// hold: a client that does not read keeps nobody from ending.
	streamPatience = time.Second
)

// errBusy is for one more client where all others are being served.
var errBusy = errors.New("too many clients ask at this moment: try again")

// door is the listener of a control socket. It knows who comes in, and shows
// those out who only take up room.
type door struct {
	net.Listener

	mu     sync.Mutex
	guests []*guest // in the order in which they came
	served int      // of guests
}

func newDoor(l net.Listener) *door { return &door{Listener: l} }

func (d *door) Accept() (net.Conn, error) {
	conn, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	g := &guest{Conn: conn, door: d, refused: admit(conn)}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.served >= mostClients && g.refused == nil {
		g.refused = errBusy
	}
	if len(d.guests) >= mostClients {
		if i := slices.IndexFunc(d.guests, func(g *guest) bool { return !g.served }); i >= 0 {
			d.guests[i].Conn.Close()
			d.guests = slices.Delete(d.guests, i, i+1)
		}
	}
	d.guests = append(d.guests, g)
	return g, nil
}

// guest is one client's connection.
type guest struct {
	net.Conn
	door    *door
	refused error // why it gets no answer; nil: it may ask
	served  bool  // a whole request of it is being answered; under door.mu
}

func (g *guest) Close() error {
	g.door.mu.Lock()
	if i := slices.Index(g.door.guests, g); i >= 0 {
		g.door.guests = slices.Delete(g.door.guests, i, i+1)
	}
	g.door.mu.Unlock()
	return g.Conn.Close()
}

// serve notes that a whole request is being answered, until done. It may be
// called for no guest.
func (g *guest) serve() (done func()) {
	if g == nil {
		return func() {}
	}
	set := func(served bool, by int) {
		g.door.mu.Lock()
		g.served = served
		g.door.served += by
		g.door.mu.Unlock()
	}
	set(true, 1)
	return func() { set(false, -1) }
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

// asker is whose request it is; nil when it did not come through a door.
func asker(r *http.Request) *guest {
	g, _ := r.Context().Value(guestKey{}).(*guest)
	return g
}

// stream makes an answer one without end, if there is room for such: its context
// is done when the client or the server ends it. The caller calls done after it.
// Where ok is false the request is answered.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) (ctx context.Context, done func(), ok bool) {
	select {
	case s.streams <- struct{}{}:
	default:
		http.Error(w, "too many watch already, or ping: end one of them", http.StatusServiceUnavailable)
		return nil, nil, false
	}
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.ending, cancel)
	return ctx, func() { stop(); cancel(); <-s.streams }, true
}

// endStreams ends the answers without end, and gives each the time to write what
// it holds already.
func (s *Server) endStreams() {
	s.end()
	patience := time.After(streamPatience)
	for range cap(s.streams) {
		select {
		case s.streams <- struct{}{}: // and no more begin
		case <-patience:
			return
		}
	}
}
