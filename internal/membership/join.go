package membership

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

// JoinStatus says what became of an address of Config.Join.
type JoinStatus struct {
	Join string
	// Joined: a member is there, or it is this node itself.
	Joined bool
	// Err is why not, the last time it was tried; "" if it has not been yet.
	Err string
}

// join is one of these addresses.
type join struct {
	text   string
	host   string
	port   uint16
	joined bool
	err    string
}

// SetJoin replaces Config.Join. Who is a member stays one.
func (m *Membership) SetJoin(list []string) error {
	for _, j := range list {
		if _, _, err := SplitJoin(j); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setJoin(list)
	return nil
}

func (m *Membership) setJoin(list []string) {
	var joins []*join
	for _, text := range list {
		if i := slices.IndexFunc(m.joins, func(j *join) bool { return j.text == text }); i >= 0 {
			joins = append(joins, m.joins[i])
			continue
		}
		host, port, _ := SplitJoin(text)
		joins = append(joins, &join{text: text, host: host, port: port})
	}
	m.joins = joins
}

// Joins says how each address of Config.Join is.
func (m *Membership) Joins() []JoinStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []JoinStatus{}
	for _, j := range m.joins {
		list = append(list, JoinStatus{Join: j.text, Joined: j.joined, Err: j.err})
	}
	return list
}

// keepJoining tries all addresses at which no member is, for ever.
func (m *Membership) keepJoining() {
	// Hosts that start at once find each other at once.
	pause := m.tempo.rejoin / 16
	for {
		var tries sync.WaitGroup
		m.mu.Lock()
		joins := slices.Clone(m.joins)
		m.mu.Unlock()
		for _, j := range joins {
			tries.Go(func() { m.try(j) })
		}
		for _, a := range m.lost() {
			tries.Go(func() { m.contact(a) })
		}
		tries.Wait()
		select {
		case <-m.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, m.tempo.rejoin)
	}
}

// try joins at one address, unless a member is there.
func (m *Membership) try(j *join) {
	addrs, err := m.resolve(j)
	joined := slices.ContainsFunc(addrs, m.isThere)
	for _, a := range addrs {
		if joined {
			break
		}
		if err = m.contact(a); err == nil {
			joined = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if joined && !j.joined {
		m.log.Info("joined", zap.String("join", j.text))
	}
	text := ""
	if err != nil && !joined {
		text = err.Error()
		if text != j.err && m.ctx.Err() == nil {
			m.log.Warn("cannot join yet, trying again", zap.String("join", j.text), zap.Error(err))
		}
	}
	j.joined, j.err = joined, text
}

func (m *Membership) resolve(j *join) ([]netip.AddrPort, error) {
	if a, err := netip.ParseAddr(j.host); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(a.Unmap(), j.port)}, nil
	}
	ctx, cancel := context.WithTimeout(m.ctx, 5*time.Second)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", j.host)
	if err != nil {
		return nil, fmt.Errorf("the name does not resolve: %w", err)
	}
	var addrs []netip.AddrPort
	for _, a := range found {
		addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), j.port))
	}
	return addrs, nil
}

// isThere says whether a member is at an address.
func (m *Membership) isThere(a netip.AddrPort) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a == m.self.addr {
		return true
	}
	for _, n := range m.nodes {
		if n.there && n.addr == a {
			return true
		}
	}
	return false
}

// contact exchanges all that is known with whoever is at an address.
func (m *Membership) contact(a netip.AddrPort) error {
	if m.ctx.Err() != nil {
		return m.ctx.Err()
	}
	_, err := m.list.Join([]string{a.String()})
	if err == nil {
		return nil
	}
	text := err.Error()
	switch {
	case strings.Contains(text, "no installed keys"), strings.Contains(text, "encryption is not configured"),
		strings.Contains(text, "encryption is configured"), strings.Contains(text, "emote state is"):
		return fmt.Errorf("%v has another key", a)
	case strings.Contains(text, "EOF"), strings.Contains(text, "reset by peer"):
		return fmt.Errorf("%v does not talk to this node: it has another key, or is no govxlan", a)
	case strings.Contains(text, "refused"):
		return fmt.Errorf("nobody listens at %v yet", a)
	case strings.Contains(text, "timeout"):
		return fmt.Errorf("%v does not answer: it is not there yet, or a firewall is in between (TCP and UDP)", a)
	}
	if i := strings.LastIndex(text, "* "); i >= 0 {
		text = strings.TrimSpace(text[i+2:])
	}
	return fmt.Errorf("%s", text)
}

// mostRetried lost members are tried at once.
const mostRetried = 4

// lost picks some of the addresses of members that failed, and that nobody has taken.
func (m *Membership) lost() []netip.AddrPort {
	m.mu.Lock()
	defer m.mu.Unlock()
	var addrs []netip.AddrPort
	for _, n := range m.nodes {
		if !n.there && !n.left && n.addr.IsValid() && !n.superseded && !slices.Contains(addrs, n.addr) {
			addrs = append(addrs, n.addr)
		}
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	return addrs[:min(len(addrs), mostRetried)]
}
