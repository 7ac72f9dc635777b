package demo

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/govxlan/govxlan/internal/netlab"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// echoTimeout is how long a ping waits. The first one may have to wait for ARP
// to ask a second time.
const echoTimeout = 3 * time.Second

// Run plays the demo and calls show for each part of the report as it becomes
// complete; an error of show ends the demo. When Run returns, all that it made
// is gone again, unless it was told to keep it and all went well. When ctx ends,
// Run removes everything and returns the cause.
func Run(ctx context.Context, cfg Config, show func(Part, *Report) error) (_ *Report, err error) {
	cfg = cfg.withDefaults()
	kinds := [2]EndKind{cfg.Near, cfg.Far}
	if err := preflight(kinds); err != nil {
		return nil, err
	}
	lab, err := netlab.New(label)
	if err != nil {
		return nil, explained(err)
	}
	defer func() {
		if cerr := lab.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
	}()
	r := &Report{Version: cfg.Version, System: system(), VNI: cfg.VNI, MTU: overlayMTU}
	s, err := build(lab, kinds)
	if err != nil {
		return nil, explained(err)
	}
	if err := s.startEnds(ctx, cfg); err != nil {
		return nil, explained(err)
	}
	for i, side := range s.sides {
		r.Hosts[i] = side.Host
	}
	if err := show(PartStage, r); err != nil {
		return nil, err
	}
	for _, act := range []func(context.Context, *stage, Config, *Report, func(Part, *Report) error) error{
		playWalk, playFDB, playRTT, playTransfer,
	} {
		if err := act(ctx, s, cfg, r, show); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if cfg.Keep {
		r.Kept = lab.Name()
		if err := lab.Keep(); err != nil {
			return nil, err
		}
	} else if err := lab.Close(); err != nil {
		return nil, err
	}
	return r, show(PartRemoved, r)
}

// system names the kernel, on whose networking the figures depend.
func system() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOOS
	}
	return fmt.Sprintf("%s %s, %d CPUs", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
}

// playWalk sends two pings: one into an overlay that knows nothing yet, one
// after it.
func playWalk(ctx context.Context, s *stage, cfg Config, r *Report, show func(Part, *Report) error) error {
	a, b := s.sides[0], s.sides[1]
	if err := s.checksumOffload(false); err != nil {
		return err
	}
	stations := s.stations()
	c, err := startCapture(stations, s.namespace)
	if err != nil {
		return err
	}
	defer c.stop()
	p, err := newPinger(a.container, b.Overlay)
	if err != nil {
		return err
	}
	defer p.close()

	_, err = p.echo(ctx, 1, echoTimeout)
	if errors.Is(err, errNoAnswer) {
		return fmt.Errorf("%s does not answer %s: %s", b.Overlay, a.Overlay, lastSeen(c.snapshot(), stations, p, 1, cfg.VNI, a, b))
	}
	if err != nil {
		return err
	}
	r.FirstContact, err = complete(ctx, c, stations, cfg.VNI,
		key{kind: arpRequest, asker: a.Overlay, asked: b.Overlay}, key{kind: arpReply, asker: a.Overlay, asked: b.Overlay})
	if err != nil {
		return fmt.Errorf("ARP: %w", err)
	}
	if err := show(PartFirstContact, r); err != nil {
		return err
	}

	if _, err = p.echo(ctx, 2, echoTimeout); err != nil {
		return fmt.Errorf("second ping from %s to %s: %w", a.Overlay, b.Overlay, err)
	}
	request, reply := p.keys(2)
	if r.Walk, err = complete(ctx, c, stations, cfg.VNI, request, reply); err != nil {
		return fmt.Errorf("ping: %w", err)
	}
	if _, err := c.stop(); err != nil {
		return err
	}
	if err := s.checksumOffload(true); err != nil {
		return err
	}
	if err := show(PartWalk, r); err != nil {
		return err
	}
	i := slices.IndexFunc(r.Walk.Request, func(s Step) bool { return s.Underlay() })
	r.Packet = takeApart(r.Walk.Request[i])
	return show(PartPacket, r)
}

// complete waits for what was captured to arrive: the answer to a ping can be
// here before the captures of it have been read.
func complete(ctx context.Context, c *capture, stations []Station, vni vxlan.VNI, request, reply key) (Exchange, error) {
	deadline := time.Now().Add(time.Second)
	for {
		x := followExchange(c.snapshot(), stations, request, reply, vni)
		if len(x.Request) == len(stations) && len(x.Reply) == len(stations) {
			return x, nil
		}
		if time.Now().After(deadline) {
			return x, fmt.Errorf("the request was captured at %d and the reply at %d of %d devices", len(x.Request), len(x.Reply), len(stations))
		}
		if err := sleep(ctx, 5*time.Millisecond); err != nil {
			return x, err
		}
	}
}

// sleep waits, or returns the cause when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lastSeen says how far a ping without an answer came.
func lastSeen(events []event, stations []Station, p *pinger, seq uint16, vni vxlan.VNI, a, b *side) string {
	request, reply := p.keys(seq)
	for _, try := range []struct {
		key  key
		back bool
		name string
	}{
		{reply, true, "the reply"},
		{request, false, "the request"},
		{key{kind: arpReply, asker: a.Overlay, asked: b.Overlay}, true, "the ARP reply"},
		{key{kind: arpRequest, asker: a.Overlay, asked: b.Overlay}, false, "the ARP request"},
	} {
		if steps := follow(events, stations, try.key, vni, try.back); len(steps) > 0 {
			last := steps[len(steps)-1]
			return fmt.Sprintf("%s was last seen on %s of %s %s", try.name, last.Device, last.Place, last.Host)
		}
	}
	return "nothing left its container"
}

func playFDB(ctx context.Context, s *stage, _ Config, r *Report, show func(Part, *Report) error) error {
	for i, side := range s.sides {
		f := FDB{Host: side.Letter}
		entries, err := side.sandbox.FDB(bridgeDev)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Permanent {
				continue // the bridge's own addresses
			}
			mac, err := vxlan.ParseMAC(e.MAC)
			if err != nil {
				return err
			}
			f.Bridge = append(f.Bridge, BridgeEntry{MAC: mac, Port: e.Port})
		}
		if f.VTEP, err = side.end.table(ctx); err != nil {
			return fmt.Errorf("FDB of host %s: %w", side.Letter, err)
		}
		r.FDB[i] = f
	}
	return show(PartFDB, r)
}

func playRTT(ctx context.Context, s *stage, cfg Config, r *Report, show func(Part, *Report) error) error {
	p, err := newPinger(s.sides[0].container, s.sides[1].Overlay)
	if err != nil {
		return err
	}
	defer p.close()
	var rtts []time.Duration
	for seq := range cfg.Pings {
		rtt, err := p.echo(ctx, uint16(100+seq), time.Second)
		switch {
		case err == nil:
			rtts = append(rtts, rtt)
		case !errors.Is(err, errNoAnswer):
			return err
		}
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	r.RTT = statistics(cfg.Pings, rtts)
	if r.RTT.Received == 0 {
		return fmt.Errorf("none of %d pings was answered", cfg.Pings)
	}
	return show(PartRTT, r)
}

func playTransfer(ctx context.Context, s *stage, cfg Config, r *Report, show func(Part, *Report) error) error {
	a, b := s.sides[0], s.sides[1]
	var err error
	r.Transfer, err = transfer(ctx, a.container, b.container, b.Overlay, cfg.Transfer)
	if err != nil {
		return fmt.Errorf("TCP from %s to %s: %w", a.Overlay, b.Overlay, err)
	}
	return show(PartTransfer, r)
}

// Clean removes demos that were left standing and returns the names that their
// namespaces began with. Demos that are running stay.
func Clean() ([]string, error) {
	removed, err := netlab.Clean(label)
	slices.Sort(removed)
	return removed, err
}
