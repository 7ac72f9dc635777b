package daemon

import (
	"context"
	"fmt"
	"slices"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Origins of a network: what a reload does with it depends on that.
const (
	fromStart   = "start"   // of flags or the file
	fromRequest = "request" // `govxlan vni add`
)

// AddVNI makes one more VNI, with what the top of the file says for all, and
// returns the line that says that its frames can flow.
func (d *Daemon) AddVNI(ctx context.Context, wish control.VNIWish) (line string, err error) {
	return d.AddVNIOn(ctx, wish, nil)
}

// AddVNIOn is AddVNI with a device that open makes; nil: with a TAP.
func (d *Daemon) AddVNIOn(ctx context.Context, wish control.VNIWish, open Opener) (line string, err error) {
	typed, err := config.FromWords(wish.Options)
	if err != nil {
		return "", err
	}
	if err := checkNamespace(typed, wish.Namespace); err != nil {
		return "", err
	}
	d.mu.Lock()
	s, err := d.config.NewSpec(typed, d.file)
	d.mu.Unlock()
	if err != nil {
		return "", err
	}
	peers, err := config.ResolvePeers(ctx, s.Peers) // may take its time
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reap()
	for _, m := range s.VNIs() {
		if n := d.networkOf(m.VNI); n != nil {
			return "", fmt.Errorf("VNI %v exists already, on device %s: see 'govxlan vni list', or remove it with 'govxlan vni del %v'", m.VNI, n.device.Name(), n.spec.VNI)
		}
	}
	if err := config.Fit(append(d.specs(), s)); err != nil {
		return "", err
	}
	under, err := d.way().find(s, peers, d.locals)
	if err != nil {
		return "", err
	}
	if err := d.check(s, peers); err != nil {
		return "", err
	}
	n, err := d.makeOn(open, s, peers, under)
	if err != nil {
		return "", err
	}
	n.origin = fromRequest
	d.announce(n)
	return d.line(n), nil
}

// Endpoint is what carries the frames: for changes of tables. Its VNIs come and
// go by AddVNI and DelVNI of the Daemon.
func (d *Daemon) Endpoint() *vtep.Endpoint { return d.endpoint }

// DelVNI removes a VNI with its device.
func (d *Daemon) DelVNI(v vxlan.VNI) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reap()
	n := d.networkOf(v)
	if n == nil {
		return fmt.Errorf("VNI %v: %w", v, vtep.ErrNoVNI)
	}
	if n.spec.VNI != v {
		return fmt.Errorf("VNI %v shares the device %s with others: remove all of them with 'govxlan vni del %v'", v, n.device.Name(), n.spec.VNI)
	}
	err := d.remove(n)
	d.log.Info("VNI is removed", zap.Stringer("vni", v), zap.String("device", n.device.Name()))
	return err
}

// VNIs lists what there is, by number.
func (d *Daemon) VNIs() []control.VNI {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reap()
	list := []control.VNI{}
	for _, n := range d.networks {
		for _, m := range n.spec.VNIs() {
			v := control.VNI{
				VNI: m.VNI, Device: n.device.Name(), VLAN: m.VID, Netns: n.spec.Text("netns"), MTU: n.device.MTU(),
				Bridge: n.spec.Device.Bridge, Origin: n.origin, Peers: []string{}, Groups: []string{},
			}
			copy(v.MAC[:], n.device.MAC())
			flood, err := d.endpoint.Flood(m.VNI)
			if err != nil {
				continue // gone this moment
			}
			for _, r := range flood {
				a := short(r.Addr, d.config.Endpoint.Port)
				if r.Addr.Addr().IsMulticast() {
					v.Groups = append(v.Groups, a)
				} else {
					v.Peers = append(v.Peers, a)
				}
			}
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b control.VNI) int { return int(a.VNI) - int(b.VNI) })
	return list
}

// specs are those of all networks.
func (d *Daemon) specs() []*config.Spec {
	specs := make([]*config.Spec, 0, len(d.networks)+1)
	for _, n := range d.networks {
		specs = append(specs, n.spec)
	}
	return specs
}

// networkOf finds the network that a VNI is on.
func (d *Daemon) networkOf(v vxlan.VNI) *network {
	for _, n := range d.networks {
		for _, m := range n.spec.VNIs() {
			if m.VNI == v {
				return n
			}
		}
	}
	return nil
}

// reap forgets the networks that the endpoint has given up, because somebody
// deleted their device.
func (d *Daemon) reap() {
	there := make(map[vxlan.VNI]bool)
	for _, v := range d.endpoint.Status().VNIs {
		there[v.VNI] = true
	}
	d.networks = slices.DeleteFunc(d.networks, func(n *network) bool {
		if there[n.spec.VNI] {
			return false
		}
		d.strike(n)
		n.forget()
		return true
	})
}

// checkNamespace makes sure that the namespace that a request names is here what
// it is for whoever asked.
func checkNamespace(typed config.Values, id *control.NamespaceID) error {
	name := config.View{typed}.Text("netns")
	if name == "" || id == nil {
		return nil
	}
	here, err := identify(name)
	if err != nil {
		return fmt.Errorf("%w; the endpoint looks for it where it runs itself", err)
	}
	if here != *id {
		return fmt.Errorf("network namespace %s is another one where the endpoint runs: give a path that leads to the same from there", name)
	}
	return nil
}
