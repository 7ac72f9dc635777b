package dockerplugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/daemon"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
)

// localVTEP is the endpoint that owns one UDP port: it is there while a network needs
// it, and answers govxlan's other commands as one of `govxlan up` does.
type localVTEP struct {
	daemon *daemon.Daemon
	port   uint16
	end    context.CancelFunc
	ended  chan struct{} // closed once it has closed everything
}

// startVTEP makes the endpoint of a port. local is where it listens, empty: by the
// route to the first of peers, or by the default route.
func startVTEP(ctx context.Context, log *zap.Logger, local string, port uint16, peers []string, version string) (*localVTEP, error) {
	if local == "" {
		local = sourceTo(ctx, peers, port)
	}
	typed := config.Values{
		"port":       {Texts: []string{strconv.Itoa(int(port))}},
		"privileges": {Texts: []string{"all"}},
	}
	if local != "" {
		typed["local"] = config.Value{Texts: []string{local}}
	}
	// A file without VNIs: those come one by one.
	c, err := config.New(typed, &config.File{})
	if err != nil {
		return nil, err
	}
	d, err := daemon.Start(ctx, daemon.Options{Config: c, Log: log, Version: version})
	switch {
	case errors.Is(err, transport.ErrPortInUse):
		return nil, fmt.Errorf("UDP port %d is in use (%w): Docker's own overlay networks have 4789; give these networks another with -o port=, on all nodes", port, err)
	case err != nil:
		return nil, err
	case d == nil:
		return nil, context.Cause(ctx)
	}
	running, end := context.WithCancel(context.Background())
	v := &localVTEP{daemon: d, port: port, end: end, ended: make(chan struct{})}
	go func() {
		defer close(v.ended)
		if err := d.Run(running); err != nil {
			log.Error("the endpoint has ended", zap.Uint16("port", port), zap.Error(err))
		}
	}()
	return v, nil
}

// sourceTo is the address that this host sends to the first peer from; empty when
// that cannot be said.
func sourceTo(ctx context.Context, peers []string, port uint16) string {
	for _, text := range peers {
		p, err := config.ParsePeer(text, port)
		if err != nil {
			continue
		}
		all, err := config.ResolvePeers(ctx, []config.PeerName{p})
		if err != nil {
			continue
		}
		for _, a := range all {
			routes, err := netlink.RouteGet(net.IP(a.Addr().AsSlice()))
			if err == nil && len(routes) > 0 && routes[0].Src != nil {
				return routes[0].Src.String()
			}
		}
	}
	return ""
}

// stop ends the endpoint, its VNIs with it.
func (v *localVTEP) stop() {
	v.end()
	<-v.ended
}

// locals are the addresses that it listens on.
func (v *localVTEP) locals() (locals []netip.Addr) {
	for _, text := range strings.Split(v.daemon.Endpoint().Status().Local, ",") {
		if a, err := netip.ParseAddr(text); err == nil {
			locals = append(locals, a)
		}
	}
	return locals
}

// alive says whether it still serves.
func (v *localVTEP) alive() bool {
	select {
	case <-v.ended:
		return false
	default:
		return true
	}
}

// addVNI serves a VNI. open makes its device; nil: a TAP by the options.
func (v *localVTEP) addVNI(ctx context.Context, words map[string][]string, open daemon.Opener) error {
	for deadline := time.Now().Add(afterlife); ; {
		_, err := v.daemon.AddVNIOn(ctx, control.VNIWish{Verb: "add", Options: words}, open)
		if !errors.Is(err, tap.ErrExists) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause) // it is that of a process that was killed
	}
}

// device is that of a VNI.
func (v *localVTEP) device(vni vxlan.VNI) (control.VNI, bool) {
	for _, d := range v.daemon.VNIs() {
		if d.VNI == vni {
			return d, true
		}
	}
	return control.VNI{}, false
}

// strangers leaves out of a list of peers the addresses of this host: so the list
// may be the same on every node.
func strangers(peers []string, port uint16) ([]string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this host: %w", err)
	}
	own := make(map[netip.Addr]bool)
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap()] = true
		}
	}
	var others []string
	for _, text := range peers {
		if a, err := netip.ParseAddr(text); err == nil && own[a.Unmap()] {
			continue
		}
		if a, err := netip.ParseAddrPort(text); err == nil && own[a.Addr().Unmap()] && a.Port() == port {
			continue
		}
		others = append(others, text)
	}
	return others, nil
}

// patience is how long a request may take: Docker, and all who wait for it, stand
// still meanwhile.
const patience = 4 * time.Second
