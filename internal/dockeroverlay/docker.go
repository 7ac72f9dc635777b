package dockeroverlay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// DefaultDocker is where Docker answers.
const DefaultDocker = "unix:///run/docker.sock"

// dockerNetwork is what Docker says of a network.
type dockerNetwork struct {
	Name       string
	ID         string `json:"Id"`
	Containers map[string]struct {
		Name        string
		MacAddress  string
		IPv4Address string
	}
}

// docker asks a daemon.
type docker struct{ client http.Client }

// newDocker takes unix://PATH, or a path.
func newDocker(host string) (*docker, error) {
	path, ok := strings.CutPrefix(host, "unix://")
	if !ok && !strings.HasPrefix(host, "/") {
		return nil, fmt.Errorf("%q: give the socket of Docker, such as %s", host, DefaultDocker)
	}
	var d net.Dialer
	return &docker{http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}, nil
}

// mostAnswer bounds what is read of an answer.
const mostAnswer = 16 << 20

func (d *docker) get(ctx context.Context, path string, to any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Do(r)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon answers %s to %s", resp.Status, path)
	}
	return json.NewDecoder(io.LimitReader(resp.Body, mostAnswer)).Decode(to)
}

// local is the address of the node in its swarm.
func (d *docker) local(ctx context.Context) (netip.Addr, error) {
	var info struct{ Swarm struct{ NodeAddr string } }
	if err := d.get(ctx, "/info", &info); err != nil {
		return netip.Addr{}, err
	}
	a, err := netip.ParseAddr(info.Swarm.NodeAddr)
	if err != nil {
		return netip.Addr{}, nil // it is in no swarm
	}
	return a, nil
}

// networks are the overlay networks, with the containers that are here.
func (d *docker) networks(ctx context.Context) (all []dockerNetwork, err error) {
	var list []dockerNetwork
	if err := d.get(ctx, "/networks?filters="+url.QueryEscape(`{"driver":["overlay"]}`), &list); err != nil {
		return nil, err
	}
	for _, n := range list {
		var whole dockerNetwork
		if err := d.get(ctx, "/networks/"+url.PathEscape(n.ID), &whole); err != nil {
			return nil, err
		}
		all = append(all, whole)
	}
	return all, nil
}

// name gives a network and its stations the names that Docker has for them, and adds
// the containers that have not spoken yet.
func (n *Network) name(of *dockerNetwork) {
	n.Name, n.ID = of.Name, of.ID
	for _, c := range of.Containers {
		mac, err := vxlan.ParseMAC(c.MacAddress)
		if err != nil {
			continue
		}
		ip, _ := netip.ParsePrefix(c.IPv4Address)
		if n.hasOutside(ip.Addr()) {
			continue // it is in another subnet, which has a device of its own
		}
		found := false
		for i := range n.Stations {
			if s := &n.Stations[i]; s.MAC == mac && s.Here {
				s.Name, s.IP, found = c.Name, ip.Addr(), true
			}
		}
		if !found {
			n.Stations = append(n.Stations, Station{MAC: mac, IP: ip.Addr(), Here: true, Name: c.Name})
		}
	}
}

// hasOutside says that an address is in none of the network's subnets, if those are
// known.
func (n *Network) hasOutside(a netip.Addr) bool {
	for _, s := range n.Subnets {
		if s.Contains(a) {
			return false
		}
	}
	return a.IsValid() && len(n.Subnets) > 0
}
