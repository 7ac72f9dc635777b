package dockerplugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	api "github.com/docker/go-plugins-helpers/network"
	"github.com/govxlan/govxlan/internal/membership"
	"github.com/govxlan/govxlan/vxlan"
	"go.uber.org/zap"
)

// Config describes a driver.
type Config struct {
	// StateDir keeps what Docker said, over a restart.
	StateDir string
	// SandboxDir is where the namespaces of the layout bridge are found.
	SandboxDir string
	// Local is the address of the underlay, as --local of `govxlan up`. Optional.
	Local string
	// Port of networks that name none.
	Port uint16
	// Global says that the networks are those of a swarm: Docker takes that of a
	// managed plugin alone.
	Global  bool
	Log     *zap.Logger
	Version string
}

// Driver answers Docker's requests. Those that change something come one by one.
type Driver struct {
	cfg   Config
	log   *zap.Logger
	store *store
	turn  chan struct{} // holds one value while a request is served

	networks  map[string]*network
	allocated map[string]*allocation // by network
	self      node
	vteps     map[uint16]*localVTEP
	closed    bool
	done      chan struct{} // closed by Close
	tasks     sync.WaitGroup
}

// New makes a driver, and what the files of its state say.
func New(cfg Config) (*Driver, error) {
	s, err := openStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		cfg: cfg, log: cfg.Log, store: s, turn: make(chan struct{}, 1), done: make(chan struct{}),
		networks: make(map[string]*network), allocated: make(map[string]*allocation), vteps: make(map[uint16]*localVTEP),
	}
	if err := d.restore(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// errBusy is the answer to a request whose turn did not come.
var errBusy = errors.New("the driver is busy with another request: try again")

// begin waits for the turn of a request, which has ctx from then on.
func (d *Driver) begin() (ctx context.Context, end func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	select {
	case d.turn <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return nil, nil, errBusy
	}
	end = func() {
		<-d.turn
		cancel()
	}
	if d.closed {
		end()
		return nil, nil, errors.New("the driver ends")
	}
	return ctx, end, nil
}

// Close ends the endpoints. Sandboxes and links of containers stay, for the driver
// that goes on with them.
func (d *Driver) Close() error {
	d.turn <- struct{}{}
	defer func() { <-d.turn }()
	if d.closed {
		return nil
	}
	d.closed = true
	close(d.done)
	d.tasks.Wait()
	for _, n := range d.networks {
		_ = n.resign()
	}
	for _, v := range d.vteps {
		v.stop()
	}
	clear(d.vteps)
	return nil
}

// createNetwork begins to serve a network. One that is there stays as it is.
func (d *Driver) createNetwork(id string, all map[string]any) error {
	ctx, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := checkID(id); err != nil {
		return err
	}
	if n := d.networks[id]; n != nil {
		return d.serve(ctx, n) // Docker was restarted, and says so again
	}
	o, err := parseOptions(all, d.cfg.Port)
	if err != nil {
		return err
	}
	n := &network{ID: id, Options: o, Endpoints: make(map[string]*endpoint)}
	if o.Layout == LayoutBridge {
		n.Sandbox = filepath.Join(d.cfg.SandboxDir, "gvx-"+short(id))
	}
	if n.VNI, err = d.chooseVNI(id, o); err != nil {
		return err
	}
	if err := d.serve(ctx, n); err != nil {
		return errors.Join(err, d.dismantle(n))
	}
	if err := d.save(n); err != nil {
		return errors.Join(err, d.dismantle(n))
	}
	d.networks[id] = n
	d.log.Info("network is up", zap.String("network", short(id)), zap.Stringer("vni", n.VNI),
		zap.String("layout", o.Layout), zap.Strings("peers", o.Peers))
	return nil
}

// chooseVNI is the VNI that the options of a network name, or the first that is
// free.
func (d *Driver) chooseVNI(of string, o options) (vxlan.VNI, error) {
	taken := make(map[vxlan.VNI]string)
	for _, n := range d.networks {
		if n.Options.Port == o.Port {
			taken[n.VNI] = n.ID
		}
	}
	for id, a := range d.allocated {
		if id != of {
			taken[a.VNI] = id
		}
	}
	if o.VNI != nil {
		if id, ok := taken[*o.VNI]; ok {
			return 0, fmt.Errorf("VNI %v is that of network %s already: give another with -o vni=, or another UDP port with -o port=", *o.VNI, short(id))
		}
		return *o.VNI, nil
	}
	v := FirstVNI
	for taken[v] != "" {
		v++
	}
	if !v.Valid() {
		return 0, fmt.Errorf("no VNI from %v up is free: give one with -o vni=", FirstVNI)
	}
	return v, nil
}

// serve makes what a network needs and lacks. Its turn has come.
func (d *Driver) serve(ctx context.Context, n *network) error {
	v := d.vteps[n.Options.Port]
	if v != nil && !v.alive() {
		delete(d.vteps, v.port)
		for _, other := range d.networks {
			if other.Options.Port == v.port {
				other.down()
			}
		}
		v = nil
	}
	if v != nil && n.up {
		if _, ok := v.device(n.VNI); ok {
			return nil
		}
		n.down() // somebody deleted the device
	}
	if n.Sandbox != "" {
		if err := makeSandbox(n.Sandbox); err != nil {
			return err
		}
	}
	peers, err := strangers(n.Options.Peers, n.Options.Port)
	if err != nil {
		return err
	}
	if v == nil {
		if v, err = startVTEP(ctx, d.log, d.local(), n.Options.Port, slices.Concat(peers, n.hosts()), d.cfg.Version); err != nil {
			return err
		}
		d.vteps[v.port] = v
	}
	words := maps.Clone(n.Options.Passed)
	if words == nil {
		words = make(map[string][]string)
	}
	words["vni"] = []string{n.VNI.String()}
	words["name"] = []string{n.device()}
	if n.Options.MTU != 0 {
		words["mtu"] = []string{strconv.Itoa(n.Options.MTU)}
	}
	if len(peers) > 0 {
		words["peer"] = peers
	}
	if len(n.Options.Join) > 0 && words["arp"] == nil {
		words["arp"] = []string{"suppress"} // members tell who has which address
	}
	if n.Options.Layout == LayoutDirect {
		err = v.addVNI(ctx, words, n.open)
	} else {
		words["netns"], words["bridge"] = []string{n.Sandbox}, []string{bridgeName}
		err = v.addVNI(ctx, words, nil)
	}
	if err != nil {
		return err
	}
	n.up = true
	d.rejoin(n)
	if len(n.Options.Join) == 0 {
		return nil
	}
	local, err := localOf(v.locals(), n.Options.Join[0])
	if err == nil {
		n.roster, err = n.enrol(d.log, v.daemon.Endpoint(), local)
	}
	if err != nil {
		n.up = false
		return errors.Join(err, v.daemon.DelVNI(n.VNI))
	}
	return nil
}

// down notes that the VNI of a network is not served any more.
func (n *network) down() {
	n.up = false
	_ = n.resign()
}

// hosts are those to join, without their ports.
func (n *network) hosts() (hosts []string) {
	for _, j := range n.Options.Join {
		if host, _, err := membership.SplitJoin(j); err == nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// device is the name of the network's TAP.
func (n *network) device() string { return "vx" + n.VNI.String() }

// dismantle removes everything of a network but its file.
func (d *Driver) dismantle(n *network) error {
	var errs []error
	for _, e := range n.Endpoints {
		errs = append(errs, d.unlink(n, e))
	}
	errs = append(errs, n.resign())
	if v := d.vteps[n.Options.Port]; v != nil {
		if n.up && v.alive() {
			if _, ok := v.device(n.VNI); ok {
				errs = append(errs, v.daemon.DelVNI(n.VNI))
			}
		}
		n.down()
		if !v.alive() || len(v.daemon.VNIs()) == 0 {
			v.stop()
			delete(d.vteps, v.port)
		}
	}
	if n.Sandbox != "" {
		errs = append(errs, removeSandbox(n.Sandbox))
	}
	return errors.Join(errs...)
}

// save writes the file of a network.
func (d *Driver) save(n *network) error { return d.store.put(networkFile+n.ID, n) }

// networkFile is what the names of networks' files begin with.
const networkFile = "network-"

// deleteNetwork removes a network with everything that it had. One that is not
// there is no error.
func (d *Driver) deleteNetwork(id string) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	if err := checkID(id); err != nil {
		return err
	}
	n := d.networks[id]
	if n == nil {
		return nil
	}
	if err := d.dismantle(n); err != nil {
		return err // and Docker asks again
	}
	if err := d.store.remove(networkFile + id); err != nil {
		return err
	}
	delete(d.networks, id)
	d.log.Info("network is removed", zap.String("network", short(id)), zap.Stringer("vni", n.VNI))
	return nil
}

// network finds a network, for a request that needs it.
func (d *Driver) network(id string) (*network, error) {
	if n := d.networks[id]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("the driver does not know network %s: its state is lost, so remove the network and create it again, or restart Docker", short(id))
}

// createEndpoint notes a container's link, and returns the MAC that it is given if
// it has none.
func (d *Driver) createEndpoint(r *api.CreateEndpointRequest) (mac string, err error) {
	_, end, err := d.begin()
	if err != nil {
		return "", err
	}
	defer end()
	if err := checkID(r.NetworkID, r.EndpointID); err != nil {
		return "", err
	}
	n, err := d.network(r.NetworkID)
	if err != nil {
		return "", err
	}
	asked := cmp.Or(r.Interface, &api.EndpointInterface{})
	e := &endpoint{ID: r.EndpointID, IPv4: asked.Address, IPv6: asked.AddressIPv6}
	if asked.MacAddress != "" {
		if e.MAC, err = vxlan.ParseMAC(asked.MacAddress); err != nil {
			return "", fmt.Errorf("MAC address %q: %w", asked.MacAddress, err)
		}
	} else if e.MAC, err = endpointMAC(e); err != nil {
		return "", err
	} else {
		mac = e.MAC.String()
	}
	if had := n.Endpoints[e.ID]; had != nil && had.MAC == e.MAC && had.IPv4 == e.IPv4 && had.IPv6 == e.IPv6 {
		return mac, nil
	}
	for _, other := range n.Endpoints {
		if other.MAC == e.MAC && other.ID != e.ID {
			return "", fmt.Errorf("MAC address %v is that of endpoint %s in network %s already", e.MAC, short(other.ID), short(n.ID))
		}
	}
	n.Endpoints[e.ID] = e
	if err := d.save(n); err != nil {
		delete(n.Endpoints, e.ID)
		return "", err
	}
	return mac, nil
}

// endpointMAC makes the MAC of an endpoint of its address.
func endpointMAC(e *endpoint) (vxlan.MAC, error) {
	for _, text := range []string{e.IPv4, e.IPv6} {
		if text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return vxlan.MAC{}, fmt.Errorf("address of the endpoint: %w", err)
		}
		return macOf(p.Addr()), nil
	}
	return vxlan.MAC{}, errors.New("the endpoint has neither an address nor a MAC: the network needs an IPAM driver that gives addresses, as Docker's own does")
}

// deleteEndpoint removes a container's link.
func (d *Driver) deleteEndpoint(networkID, id string) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	n := d.networks[networkID]
	if n == nil || n.Endpoints[id] == nil {
		return nil
	}
	e := n.Endpoints[id]
	if err := d.unlink(n, e); err != nil {
		return err
	}
	delete(n.Endpoints, id)
	if err = n.announce(); err == nil {
		err = d.save(n)
	}
	if err != nil {
		n.Endpoints[id] = e
	}
	return err
}

// unlink removes the link of an endpoint, wherever it is.
func (d *Driver) unlink(n *network, e *endpoint) error {
	if n.Options.Layout == LayoutBridge {
		return removeVeth(n.Sandbox, e)
	}
	var err error
	if n.ports != nil {
		err = n.ports.unlink(e)
	}
	return errors.Join(err, removeLink(e.link()))
}

// join makes the link that a container gets, and returns its name.
func (d *Driver) join(r *api.JoinRequest) (*api.JoinResponse, error) {
	ctx, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	n, err := d.network(r.NetworkID)
	if err != nil {
		return nil, err
	}
	e := n.Endpoints[r.EndpointID]
	if e == nil {
		return nil, fmt.Errorf("the driver does not know endpoint %s of network %s: start the container again", short(r.EndpointID), short(n.ID))
	}
	if err := d.serve(ctx, n); err != nil {
		return nil, err
	}
	if err := d.link(n, e); err != nil {
		return nil, err
	}
	e.Container = r.SandboxKey
	if err = d.save(n); err == nil {
		err = n.announce()
	}
	if err != nil {
		return nil, errors.Join(err, d.unlink(n, e))
	}
	return &api.JoinResponse{
		InterfaceName:         api.InterfaceName{SrcName: e.link(), DstPrefix: "eth"},
		DisableGatewayService: n.Options.Isolated,
	}, nil
}

// link makes the link of an endpoint, in this namespace.
func (d *Driver) link(n *network, e *endpoint) error {
	dev, ok := d.vteps[n.Options.Port].device(n.VNI)
	if !ok {
		return fmt.Errorf("%v has lost its device: try again", n)
	}
	if n.Options.Layout == LayoutDirect {
		if err := n.ports.link(e); err != nil {
			return err
		}
		// While it is here yet.
		if err := announce("", e.link(), e); err != nil {
			d.log.Debug("a container is not announced", zap.Error(err))
		}
		return nil
	}
	if err := makeVeth(n.Sandbox, e, dev.MTU); err != nil {
		return err
	}
	// The second is for those who were deaf for the first, in a start of their
	// own.
	for _, after := range []time.Duration{0, time.Second / 2} {
		d.announceLater(n.Sandbox, dev.Device, e, after)
	}
	return nil
}

// announceLater tells the other nodes where a container is now.
func (d *Driver) announceLater(netns, device string, e *endpoint, after time.Duration) {
	said := *e
	d.tasks.Go(func() {
		select {
		case <-time.After(after):
		case <-d.done:
			return
		}
		if err := announce(netns, device, &said); err != nil {
			d.log.Debug("a container is not announced", zap.Error(err))
		}
	})
}

// leave notes that a container has left. Docker brings the link back after that,
// and deletes the endpoint: then it is removed.
func (d *Driver) leave(networkID, id string) error {
	_, end, err := d.begin()
	if err != nil {
		return err
	}
	defer end()
	n := d.networks[networkID]
	if n == nil || n.Endpoints[id] == nil {
		return nil
	}
	n.Endpoints[id].Container = ""
	return d.save(n)
}

// info is what `docker network inspect` may show of an endpoint.
func (d *Driver) info(networkID, id string) (map[string]string, error) {
	_, end, err := d.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	n := d.networks[networkID]
	if n == nil || n.Endpoints[id] == nil {
		return map[string]string{}, nil
	}
	e := n.Endpoints[id]
	return map[string]string{
		"vni": n.VNI.String(), "layout": n.Options.Layout, "com.docker.network.endpoint.macaddress": e.MAC.String(),
	}, nil
}
