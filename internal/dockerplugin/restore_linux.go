package dockerplugin

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"go.uber.org/zap"
)

// restorePatience is how long a start may take before Docker is answered.
const restorePatience = 30 * time.Second

// restore makes what the files say, of what is there. What cannot be made now is
// tried again when Docker asks for it: a driver that does not start would take
// the other networks with it.
func (d *Driver) restore() error {
	ctx, cancel := context.WithTimeout(context.Background(), restorePatience)
	defer cancel()
	ids, err := d.store.names(networkFile)
	if err != nil {
		return err
	}
	for _, id := range ids {
		n := new(network)
		err := d.store.get(networkFile+id, n)
		if err != nil || n.ID != id || checkID(id) != nil {
			d.log.Error("the file of a network cannot be read and is set aside: remove the network and create it again, or restart Docker",
				zap.String("network", short(id)), zap.Error(err))
			if err := d.store.setAside(networkFile + id); err != nil {
				return err
			}
			continue
		}
		if n.Endpoints == nil {
			n.Endpoints = make(map[string]*endpoint)
		}
		d.networks[id] = n
	}
	if err := d.restoreAllocations(); err != nil {
		return err
	}
	for _, n := range d.networks {
		if err := d.serve(ctx, n); err != nil {
			d.log.Error("a network cannot be served yet", zap.String("network", short(n.ID)), zap.Stringer("vni", n.VNI), zap.Error(err))
			continue
		}
		d.log.Info("network is up again", zap.String("network", short(n.ID)), zap.Stringer("vni", n.VNI), zap.Int("endpoints", len(n.Endpoints)))
	}
	return nil
}

// restoreAllocations reads what a manager has chosen, and what Docker said of this
// node.
func (d *Driver) restoreAllocations() error {
	if err := d.store.get(nodeFile, &d.self); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Error("what Docker said of this node is lost until it is restarted", zap.Error(err))
	}
	ids, err := d.store.names(allocationFile)
	if err != nil {
		return err
	}
	for _, id := range ids {
		a := new(allocation)
		if err := d.store.get(allocationFile+id, a); err != nil {
			d.log.Error("what was chosen for a network of the swarm is lost: create it again", zap.String("network", short(id)), zap.Error(err))
			if err := d.store.setAside(allocationFile + id); err != nil {
				return err
			}
			continue
		}
		d.allocated[id] = a
	}
	return nil
}

// rejoin goes on with the links of a network's containers, once its VNI is served.
func (d *Driver) rejoin(n *network) {
	for _, e := range n.Endpoints {
		switch {
		case n.Options.Layout == LayoutDirect:
			if err := n.ports.relink(e); err != nil {
				d.log.Error("a container has lost its link: start it again", zap.String("network", short(n.ID)),
					zap.String("endpoint", short(e.ID)), zap.Error(err))
			}
		case e.Container != "":
			// The pair, and the bridge, are as they were: but the others may
			// have heard nothing for a while.
			d.announceLater(n.Sandbox, n.device(), e, 0)
		}
	}
}
