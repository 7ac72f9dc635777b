package dockeroverlay

import "net/netip"

// DefaultSandboxes is where Docker keeps network namespaces.
const DefaultSandboxes = "/run/docker/netns"

// Options say where to look.
type Options struct {
	// Sandboxes is the directory of network namespaces.
	Sandboxes string
	// Docker is the daemon's socket, unix://PATH. It need not answer.
	Docker string
	// Local is the VTEP of this node; the zero Addr: as Docker says.
	Local netip.Addr
}
