package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const fastdPort = 10000

// startFastd runs fastd without encryption, Ethernet over UDP.
func startFastd(ctx context.Context, _ *runner, p *pair) error {
	tool, err := findTool("fastd")
	if err != nil {
		return err
	}
	p.version = toolVersion(ctx, tool, "--version")
	p.command = "fastd --config fastd.conf (mode tap; method \"null\"; mtu 1450)"
	var secret, public [2]string
	for _, h := range p.hosts {
		text, err := output(ctx, h, tool, "--generate-key")
		if err != nil {
			return err
		}
		secret[h.index], public[h.index] = field(text, "Secret", ":"), field(text, "Public", ":")
	}
	for _, h := range p.hosts {
		far := p.far(h)
		config := fmt.Sprintf(`log level info;
interface "%s";
mode tap;
method "null";
mtu %d;
bind %v:%d;
secret "%s";
peer "far" {
  key "%s";
  remote %v:%d;
}
`, overlayDev, overlayMTU, h.under, fastdPort, secret[h.index], public[far.index], far.under, fastdPort)
		path := filepath.Join(h.LabDir(), p.mode+"-fastd-"+h.letter+".conf")
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return err
		}
		process, err := p.run(ctx, h, tool, "--config", path)
		if err != nil {
			return err
		}
		if err := process.await(ctx, func() bool { return h.hasDevice(overlayDev) }); err != nil {
			return err
		}
		if err := h.setUp(overlayDev, overlayMTU); err != nil {
			return err
		}
	}
	return nil
}
