package main

import (
	"context"
	"fmt"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/internal/namespace"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// forgetWhenDown removes learned and dynamic entries of VNIs each time that
// their device goes down, as the kernel's vxlan does, until ctx is done. Not to
// hear of that is no reason to end: then they age.
func forgetWhenDown(ctx context.Context, e *vtep.Endpoint, vnis []vxlan.VNI, device tap.Config, log *zap.Logger) error {
	log = log.With(zap.String("device", device.Name))
	for ctx.Err() == nil {
		if err := watchLink(ctx, device, func() {
			for _, v := range vnis {
				// An error is of a VNI that has just been deleted.
				if n, err := e.Flush(v, fdb.Filter{Kinds: []fdb.Kind{fdb.KindLearned, fdb.KindDynamic}}); err == nil {
					log.Info("the device is down, what was learned is forgotten", zap.Stringer("vni", v), zap.Int("entries", n))
				}
			}
		}); err != nil {
			log.Warn("cannot hear when the device goes down", zap.Error(err))
			return nil
		}
		// The kernel had more to tell than its buffer holds: once more.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	return nil
}

// watchLink calls down when a device that was up is down, until ctx is done or
// the kernel has lost notifications.
func watchLink(ctx context.Context, device tap.Config, down func()) error {
	updates, done := make(chan netlink.LinkUpdate, 16), make(chan struct{})
	defer close(done)
	var index int
	up := false
	err := namespace.Do(device.Netns, func() error {
		err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ErrorCallback: func(error) {}})
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName(device.Name)
		if err != nil {
			return err
		}
		index, up = link.Attrs().Index, link.Attrs().RawFlags&unix.IFF_UP != 0
		return nil
	})
	if err != nil {
		return fmt.Errorf("watch the device: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return nil
			}
			if int(u.Index) != index {
				continue
			}
			was := up
			if up = u.IfInfomsg.Flags&unix.IFF_UP != 0; was && !up && ctx.Err() == nil {
				down()
			}
		}
	}
}
