package datapath

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// regroup is the pair of veth devices through which TCP segments go to be put
// together (see datapath.c). Its far end is in a network namespace that nobody
// else has: when the process ends, however, that ends, and the pair with it.
type regroup struct {
	index  uint32 // of our end
	netns  string // of our end
	far    netns.NsHandle
	device netlink.Link
	links  []link.Link
}

// regroupMTU lets every inner packet pass.
const regroupMTU = 65535

// newRegroup makes the pair; name is that of our end.
func newRegroup(where, name string, programs *programObjects) (_ *regroup, err error) {
	r := &regroup{netns: where, far: -1}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.far, err = newNamespace(); err != nil {
		return nil, fmt.Errorf("a network namespace of its own: %w", err)
	}
	queues := runtime.NumCPU()
	err = namespace.Do(where, func() error {
		pair := &netlink.Veth{
			LinkAttrs: netlink.NewLinkAttrs(), PeerName: farName, PeerNamespace: netlink.NsFd(r.far), PeerMTU: regroupMTU,
			PeerTxQLen: -1, PeerNumTxQueues: uint32(queues), PeerNumRxQueues: uint32(queues),
		}
		pair.Name, pair.MTU, pair.NumTxQueues, pair.NumRxQueues = name, regroupMTU, queues, queues
		err := netlink.LinkAdd(pair)
		if errors.Is(err, unix.EEXIST) {
			// Of the process that this one takes over from, or that was killed a
			// moment ago.
			name += "b"
			pair.Name = name
			err = netlink.LinkAdd(pair)
		}
		if err != nil {
			return err
		}
		r.device = pair
		index, err := setUp(name, map[string]bool{
			// A sender with TSO would have its packets pass by GRO.
			"tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-tcp-ecn-segmentation": false,
			"tx-tcp-mangleid-segmentation": false, "tx-tcp-accecn-segmentation": false,
		})
		if err != nil {
			return err
		}
		r.index = uint32(index)
		return r.attach(index, programs.Deliver)
	})
	if err != nil {
		return nil, fmt.Errorf("veth pair %s: %w", name, err)
	}
	err = namespace.Do(fmt.Sprintf("/proc/self/fd/%d", r.far), func() error {
		index, err := setUp(farName, map[string]bool{"rx-gro": true})
		if err != nil {
			return err
		}
		return r.attach(index, programs.Regrouped)
	})
	if err != nil {
		return nil, fmt.Errorf("far end of veth pair %s: %w", name, err)
	}
	return r, nil
}

const farName = "gro"

// newNamespace makes a network namespace without a name.
func newNamespace() (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	c := make(chan result)
	go func() {
		// The thread ends with the goroutine: it is somewhere else.
		runtime.LockOSThread()
		ns, err := netns.New()
		c <- result{ns, err}
	}()
	r := <-c
	return r.ns, r.err
}

// setUp makes a device ready that nobody is to talk on, and returns its index.
func setUp(name string, features map[string]bool) (int, error) {
	device, err := netlink.LinkByName(name)
	if err != nil {
		return 0, err
	}
	// It has nothing to announce.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
	if err := netlink.LinkSetARPOff(device); err != nil {
		return 0, err
	}
	e, err := ethtool.NewEthtool()
	if err != nil {
		return 0, err
	}
	defer e.Close()
	has, err := e.Features(name)
	if err != nil {
		return 0, err
	}
	for f := range features {
		if _, ok := has[f]; !ok {
			delete(features, f)
		}
	}
	if err := e.Change(name, features); err != nil {
		return 0, err
	}
	return device.Attrs().Index, netlink.LinkSetUp(device)
}

func (r *regroup) attach(index int, program *ebpf.Program) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		r.links = append(r.links, l)
	}
	return err
}

// leave has close leave the pair where it is.
func (r *regroup) leave() {
	if r != nil {
		r.device = nil
	}
}

func (r *regroup) close() error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	if r.device != nil {
		errs = append(errs, namespace.Do(r.netns, func() error { return netlink.LinkDel(r.device) }))
	}
	if r.far >= 0 {
		errs = append(errs, r.far.Close())
	}
	return errors.Join(errs...)
}
