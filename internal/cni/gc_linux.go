package cni

import (
	"context"
	"slices"

	"github.com/vishvananda/netlink"
)

// gc removes what is left of containers that the runtime knows no longer.
func gc(ctx context.Context, r *request) error {
	addresses, err := r.newIPAM(ctx)
	if addresses != nil {
		err = addresses.do(ctx, "GC")
	}
	unlock, lockErr := lock(ctx)
	if lockErr != nil {
		return joined(err, lockErr)
	}
	defer unlock()
	ports, listErr := attachments(r.Name)
	errs := []error{err, listErr}
	for attachment, port := range ports {
		if !slices.Contains(r.ValidAttachments, attachment) {
			errs = append(errs, removeLink(port.Attrs().Name))
		}
	}
	// Rules of ports that are gone, by now or long since.
	errs = append(errs, unmasquerade(func(port string) bool {
		_, err := netlink.LinkByName(port)
		return err != nil
	}))
	return joined(append(errs, r.release(ctx))...)
}
