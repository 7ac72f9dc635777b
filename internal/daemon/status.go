package daemon

import (
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// Status is that of the endpoint, for metrics.
func (d *Daemon) Status(only ...vxlan.VNI) vtep.Status { return d.endpoint.Status(only...) }
