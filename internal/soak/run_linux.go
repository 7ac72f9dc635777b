package soak

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// warm is how long traffic may take to begin to flow everywhere.
const warm = 20 * time.Second

// Run soaks for the time that was wished for, or until ctx is done, and tells what
// came of it. Everything it made is removed.
func Run(ctx context.Context, c Config) (r *Report, err error) {
	s, err := newSite(ctx, &c)
	if err != nil {
		return nil, err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, s.close())
		}
	}()
	t, err := newTraffic(s)
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(c.Seed, 1))
	ch := &churn{site: s, random: rand.New(rand.NewPCG(c.Seed, 2))}
	for range kernel {
		ch.busy = append(ch.busy, make(chan struct{}, 1))
	}
	ch.busy = append(ch.busy, make(chan struct{}, 1)) // the kernel has nobody to be asked
	m := &maker{site: s, traffic: t, churn: ch, random: random}
	look := newSampler(s, t)

	all, stop := context.WithTimeout(ctx, c.Time+warm)
	defer stop()
	sending, stopSending := context.WithCancel(all)
	defer stopSending()
	receiving, stopReceiving := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReceiving()
	var flowing, others errgroup.Group
	flowing.Go(func() error { return t.run(sending, receiving) })
	// Before something arrives everywhere, nothing is lost: stations are new, addresses
	// are looked for.
	begin, err := t.settled(all)
	if err == nil {
		changing, stopChanging := context.WithTimeout(all, c.Time)
		others.Go(func() error { ch.run(changing); return nil })
		others.Go(func() error {
			return m.run(changing, c.every(), func(f fault) {
				if c.Log != nil {
					fmt.Fprintf(c.Log, "%7.1f s  %s, for %.3f s\n", f.begin.Seconds(), f.name, (f.end - f.begin).Seconds())
				}
			})
		})
		others.Go(func() error { look.run(changing); return nil })
		err = others.Wait()
		stopChanging()
		// The last fault has ended, and what it left has time to come to rest.
		pause(all, 500*time.Millisecond)
	}
	end := t.now()
	stopSending()
	pause(context.WithoutCancel(ctx), 500*time.Millisecond) // for what is under way
	look.take()
	stopReceiving()
	err = errors.Join(err, flowing.Wait())
	closed = true
	err = errors.Join(err, s.close())
	return newReport(&c, t, m, ch, look, begin, end, err), nil
}

// settled waits until each stream has arrived once, and says when that was. What was
// sent before is forgotten.
func (t *traffic) settled(ctx context.Context) (time.Duration, error) {
	deadline := time.After(warm)
	for {
		waiting := ""
		for _, f := range t.flows {
			f.stream.mu.Lock()
			if f.stream.account.Arrived == 0 {
				waiting = f.stream.name
			}
			f.stream.mu.Unlock()
		}
		if waiting == "" {
			return t.now(), nil
		}
		select {
		case <-ctx.Done():
			return t.now(), ctx.Err()
		case <-deadline:
			return t.now(), fmt.Errorf("nothing arrives from %s", waiting)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
