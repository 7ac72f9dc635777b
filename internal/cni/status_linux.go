package cni

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/types"
)

// status says whether an ADD would find what it needs: the endpoint, and the VNI
// or the right to add it.
func status(ctx context.Context, r *request) error {
	err := r.ready(ctx)
	if err != nil {
		// Without the endpoint nothing leaves the host.
		code := types.ErrPluginNotAvailable
		if ports, listErr := attachments(r.Name); listErr == nil && len(ports) > 0 {
			code = types.ErrLimitedConnectivity
		}
		var e *types.Error
		if errors.As(err, &e) {
			return types.NewError(code, e.Msg, e.Details)
		}
		return fail(code, "%v", err)
	}
	addresses, err := r.newIPAM(ctx)
	switch {
	case err != nil:
		return fail(types.ErrPluginNotAvailable, "%v", err)
	case addresses == nil:
		return nil
	}
	return addresses.do(ctx, "STATUS")
}
