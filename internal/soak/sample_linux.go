package soak

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
)

const sampleEvery = 500 * time.Millisecond

// sampler looks at processes and counters.
type sampler struct {
	site    *site
	traffic *traffic
	of      [hostsAll][]Sample
	drops   []drops
	reasons map[string]uint64 // what has been counted, by where and why
	was     map[string]uint64
}

func newSampler(s *site, t *traffic) *sampler {
	return &sampler{site: s, traffic: t, reasons: make(map[string]uint64), was: make(map[string]uint64)}
}

// run takes samples until ctx is done, and one more.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s.take()
		select {
		case <-ctx.Done():
			s.take()
			return
		case <-tick.C:
		}
	}
}

// take takes one sample of everything. An endpoint that is stopped, or just replaced,
// has none at this time.
func (s *sampler) take() {
	now := s.traffic.now()
	var counted [hostsAll]uint64
	at := 0 // the host that is looked at
	count := func(where, what string, value uint64) {
		key := where + what
		if was, ok := s.was[key]; ok && value > was {
			s.reasons[where+": "+what] += value - was
			if !provoked[what] {
				counted[at] += value - was
			}
		} else if !ok && value > 0 && len(s.drops) > 0 { // a new process, which counts from zero
			s.reasons[where+": "+what] += value
			if !provoked[what] {
				counted[at] += value
			}
		}
		s.was[key] = value
	}
	for _, h := range s.site.hosts {
		at = h.number
		where := "host " + h.name()
		for what, value := range h.kernelDrops() {
			count(where, what, value)
		}
		e := h.endpoint()
		if e == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), sampleEvery/2)
		st, err := h.client.Status(ctx)
		cancel()
		if err != nil {
			continue
		}
		pid := st.Process.PID
		if fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
			s.of[h.number] = append(s.of[h.number], Sample{
				At: now.Seconds(), PID: pid, Memory: st.Process.Memory, Descriptors: len(fds), Goroutines: st.Process.Goroutines,
			})
		}
		for _, v := range st.VNIs {
			if v.VNI != vni {
				continue
			}
			for what, value := range v.Counters.Drops() {
				count(fmt.Sprintf("%s, process %d", where, pid), what, value)
			}
		}
	}
	for host, n := range counted {
		s.drops = append(s.drops, drops{now, host, n})
	}
}

// provoked are drops of what the soak itself sends to be dropped, or to peers that are
// not there: they explain nothing. A way that does not exist is a fault's doing, which
// explains what it loses.
var provoked = map[string]bool{
	"rx_drop_unknown_vtep": true, "rx_drop_invalid_source": true, "rx_drop_own_mac": true, "rx_drop_own_address": true,
	"rx_drop_ecn": true, "rx_drop_oversize": true, "rx_drop_vlan": true,
	"tx_drop_unreachable": true, "tx_drop_no_destination": true,
}

// kernelDrops are those of the host's own: of sockets that were full, and of devices.
func (h *host) kernelDrops() map[string]uint64 {
	all := make(map[string]uint64)
	// A namespace that is going away has nothing to say.
	_ = h.Do(func() error {
		for _, file := range []string{"snmp", "snmp6"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + file)
			if err != nil {
				return err
			}
			if file == "snmp6" {
				for line := range bytes.Lines(b) {
					if f := strings.Fields(string(line)); len(f) == 2 && f[0] == "Udp6RcvbufErrors" {
						all["sockets were full (IPv6)"], _ = strconv.ParseUint(f[1], 10, 64)
					}
				}
				continue
			}
			var names []string
			for line := range bytes.Lines(b) {
				f := strings.Fields(string(line))
				if len(f) == 0 || f[0] != "Udp:" {
					continue
				}
				if names == nil {
					names = f
					continue
				}
				for i, name := range names {
					if name == "RcvbufErrors" && i < len(f) {
						all["sockets were full"], _ = strconv.ParseUint(f[i], 10, 64)
					}
				}
			}
		}
		for _, name := range []string{underlay, h.device} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				continue // a fault has it
			}
			if st := link.Attrs().Statistics; st != nil {
				all[name+" dropped on sending"] = st.TxDropped
				// On the overlay that counts frames of no protocol too, which new stations send.
				if name == underlay {
					all[name+" dropped on receipt"] = st.RxDropped
				}
			}
		}
		return nil
	})
	return all
}
