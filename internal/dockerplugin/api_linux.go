package dockerplugin

import (
	api "github.com/docker/go-plugins-helpers/network"
)

// remote is the driver as Docker sees it.
type remote struct{ d *Driver }

var _ api.Driver = remote{}

func (r remote) GetCapabilities() (*api.CapabilitiesResponse, error) {
	scope := api.LocalScope
	if r.d.cfg.Global {
		scope = api.GlobalScope
	}
	return &api.CapabilitiesResponse{Scope: scope, ConnectivityScope: api.GlobalScope}, nil
}

func (r remote) CreateNetwork(q *api.CreateNetworkRequest) error {
	return r.d.createNetwork(q.NetworkID, q.Options)
}
func (r remote) DeleteNetwork(q *api.DeleteNetworkRequest) error {
	return r.d.deleteNetwork(q.NetworkID)
}

func (r remote) CreateEndpoint(q *api.CreateEndpointRequest) (*api.CreateEndpointResponse, error) {
	mac, err := r.d.createEndpoint(q)
	if err != nil {
		return nil, err
	}
	// Docker refuses an answer that repeats what it said itself.
	return &api.CreateEndpointResponse{Interface: &api.EndpointInterface{MacAddress: mac}}, nil
}
func (r remote) DeleteEndpoint(q *api.DeleteEndpointRequest) error {
	return r.d.deleteEndpoint(q.NetworkID, q.EndpointID)
}

func (r remote) EndpointInfo(q *api.InfoRequest) (*api.InfoResponse, error) {
	value, err := r.d.info(q.NetworkID, q.EndpointID)
	if err != nil {
		return nil, err
	}
	return &api.InfoResponse{Value: value}, nil
}

func (r remote) Join(q *api.JoinRequest) (*api.JoinResponse, error) { return r.d.join(q) }
func (r remote) Leave(q *api.LeaveRequest) error                    { return r.d.leave(q.NetworkID, q.EndpointID) }

// AllocateNetwork is asked of drivers of global scope alone, on a manager.
func (r remote) AllocateNetwork(q *api.AllocateNetworkRequest) (*api.AllocateNetworkResponse, error) {
	options, err := r.d.allocate(q.NetworkID, q.Options)
	if err != nil {
		return nil, err
	}
	return &api.AllocateNetworkResponse{Options: options}, nil
}
func (r remote) FreeNetwork(q *api.FreeNetworkRequest) error { return r.d.free(q.NetworkID) }

// nodeDiscovery is the kind of discovery that tells of nodes.
const nodeDiscovery = 1

// DiscoverNew tells of nodes; this one is of interest. What else Docker tells is of
// no use here.
func (r remote) DiscoverNew(q *api.DiscoveryNotification) error {
	if q.DiscoveryType != nodeDiscovery {
		return nil
	}
	return r.d.discovered(q.DiscoveryData)
}
func (r remote) DiscoverDelete(*api.DiscoveryNotification) error { return nil }
func (r remote) ProgramExternalConnectivity(*api.ProgramExternalConnectivityRequest) error {
	return nil
}
func (r remote) RevokeExternalConnectivity(*api.RevokeExternalConnectivityRequest) error { return nil }
