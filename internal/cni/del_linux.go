package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
)

// del takes a container's interface away, and does as much of it as it can. What
// is gone already is no error: neither the namespace of the container, nor the
// endpoint, nor a DEL before this one.
func del(ctx context.Context, r *request) error {
	addresses, err := r.newIPAM(ctx)
	if addresses != nil {
		err = addresses.do(ctx, "DEL")
	}
	return joined(err, r.detach(ctx, nil))
}

// detach removes the pair of devices, and what stands for it elsewhere; of the
// VNI and the bridge what nobody needs any more. made is of an ADD that failed.
func (r *request) detach(ctx context.Context, made *segment) error {
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	name := r.port().name()
	err = joined(removeLink(name), unmasquerade(func(port string) bool { return port == name }))
	r.forsake(ctx, made)
	return joined(err, r.release(ctx))
}

// removeLink removes a device; both ends go, of a pair.
func removeLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	var none netlink.LinkNotFoundError
	if err == nil || errors.As(err, &none) {
		return nil
	}
	return fail(types.ErrIOFailure, "remove device %s: %v", name, err)
}

// joined is the errors together, with the code of the first.
func joined(errs ...error) error {
	var all *types.Error
	for _, err := range errs {
		if err == nil {
			continue
		}
		e := new(types.Error)
		if !errors.As(err, &e) {
			e = fail(types.ErrInternal, "%v", err)
		}
		if all == nil {
			all = types.NewError(e.Code, e.Error(), "")
		} else {
			all.Msg += "; " + e.Error()
		}
	}
	if all == nil {
		return nil
	}
	return all
}
