package netlab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
)

// wireFeatures are the kernel's names of the features that let packets on a
// virtual wire be what no real wire carries: larger than the MTU, or with a
// checksum still to be filled in. Scatter-gather carries the segmentation
// offloads: without it the kernel turns them off.
var wireFeatures = []string{
	"tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6", "tx-checksum-sctp",
	"tx-scatter-gather", "tx-scatter-gather-fraglist",
	"tx-generic-segmentation", "tx-gso-list", "tx-gso-partial", "tx-gso-robust",
	"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation", "tx-tcp-mangleid-segmentation",
	"tx-tcp-accecn-segmentation",
	"tx-udp-segmentation", "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation",
	"tx-gre-segmentation", "tx-gre-csum-segmentation", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation",
	"tx-sctp-segmentation",
	"rx-gro", "rx-gro-list", "rx-udp-gro-forwarding", "rx-gro-hw", "rx-lro",
}

// receiveLists are features of the receiving side that change what a socket or
// tunnel is handed and are off unless asked for by name.
var receiveLists = []string{"rx-gro-list", "rx-udp-gro-forwarding", "rx-gro-hw", "rx-lro"}

// SetOffloads turns checksum and segmentation offload, in both directions, off
// for one device, so that every packet on it is one that a wire could carry; or
// turns on again all that the device can do of it. (Of the receive features
// that are off by nature, rx-gro-list and its like, on turns on none.) A veth
// pair needs it on both ends.
func (ns *Namespace) SetOffloads(dev string, on bool) error {
	features := make(map[string]bool)
	for _, name := range wireFeatures {
		if on && slices.Contains(receiveLists, name) {
			continue
		}
		features[name] = on
	}
	return ns.ethtool(dev, func(e *ethtool.Ethtool) error {
		state, err := e.FeaturesWithState(dev)
		if err != nil {
			return err
		}
		for name := range features {
			s, ok := state[name]
			if !ok || !s.Available || s.NeverChanged || s.Active == on {
				delete(features, name)
			}
		}
		if len(features) == 0 {
			return nil
		}
		return e.Change(dev, features)
	})
}

// SetFeatures turns features on and off by the kernel's names (those of
// "ethtool -k", as a rule: tx-udp-segmentation, rx-gro). One that the device
// does not know, or that does not take the wanted state, is an error.
func (ns *Namespace) SetFeatures(dev string, features map[string]bool) error {
	return ns.ethtool(dev, func(e *ethtool.Ethtool) error {
		state, err := e.Features(dev)
		if err != nil {
			return err
		}
		var unknown []string
		for name := range features {
			if _, ok := state[name]; !ok {
				unknown = append(unknown, name)
			}
		}
		if unknown != nil {
			slices.Sort(unknown)
			return fmt.Errorf("the device knows no feature %s", strings.Join(unknown, ", "))
		}
		if err := e.Change(dev, features); err != nil {
			return err
		}
		if state, err = e.Features(dev); err != nil {
			return err
		}
		for name, on := range features {
			if state[name] != on {
				return fmt.Errorf("feature %s stays %s", name, onOff(state[name]))
			}
		}
		return nil
	})
}

// Features returns the state of every feature that the device knows.
func (ns *Namespace) Features(dev string) (features map[string]bool, err error) {
	err = ns.ethtool(dev, func(e *ethtool.Ethtool) error {
		features, err = e.Features(dev)
		return err
	})
	return features, err
}

func (ns *Namespace) ethtool(dev string, f func(*ethtool.Ethtool) error) error {
	return ns.Do(func() error {
		e, err := ethtool.NewEthtool()
		if err == nil {
			defer e.Close()
			err = f(e)
		}
		if err != nil {
			return fmt.Errorf("netlab: features of %s in %s: %w", dev, ns.name, err)
		}
		return nil
	})
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
