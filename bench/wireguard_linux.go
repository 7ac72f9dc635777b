package bench

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/govxlan/govxlan/transport/wireguard"
)

// wireguardMTU is what 1500 bytes leave for an IP packet in WireGuard over IPv4:
// less 20 for IP, 8 for UDP, 16 for its header, 16 for the authenticator.
const wireguardMTU = 1440

const wireguardPort = 51820

// startWireGuard runs wireguard-go. It carries IP, not Ethernet, and there is no
// way to have it without encryption.
func startWireGuard(ctx context.Context, _ *runner, p *pair) error {
	p.mtu = wireguardMTU
	return wireguardGo(ctx, p, "wg", func(h *host, dev string) error { return h.setUp(dev, wireguardMTU) })
}

// wireguardGo runs wireguard-go on both hosts, with devices of this prefix; setUp
// makes each ready.
func wireguardGo(ctx context.Context, p *pair, prefix string, setUp func(h *host, dev string) error) error {
	tool, err := findTool("wireguard-go")
	if err != nil {
		return err
	}
	p.version = toolVersion(ctx, tool, "--version")
	p.command = "wireguard-go -f wg0"
	keys := [2]wireguard.Key{wireguard.NewPrivateKey(), wireguard.NewPrivateKey()}
	for _, h := range p.hosts {
		// Its control socket is named after the device alone, for all
		// namespaces: the name must be the only one on this machine.
		dev := fmt.Sprintf("%s%d%s", prefix, os.Getpid(), h.letter)
		process, err := p.run(ctx, h, tool, "-f", dev)
		if err != nil {
			return err
		}
		socket := "/var/run/wireguard/" + dev + ".sock"
		p.cleanup = append(p.cleanup, func() { os.Remove(socket) })
		err = process.await(ctx, func() bool {
			_, err := os.Stat(socket)
			return err == nil && h.hasDevice(dev)
		})
		if err != nil {
			return err
		}
		far := p.far(h)
		public := keys[far.index].Public()
		err = wireguardSet(socket,
			"private_key", hex.EncodeToString(keys[h.index][:]),
			"listen_port", fmt.Sprint(wireguardPort),
			"public_key", hex.EncodeToString(public[:]),
			"endpoint", fmt.Sprintf("%v:%d", far.under, wireguardPort),
			"allowed_ip", "0.0.0.0/0",
		)
		if err != nil {
			return err
		}
		if err := setUp(h, dev); err != nil {
			return err
		}
	}
	return nil
}

// wireguardSet speaks the configuration protocol (wireguard.com/xplatform): lines
// of key=value, an empty one at the end, and errno=0 for an answer.
func wireguardSet(socket string, pairs ...string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	request := "set=1\n"
	for i := 0; i < len(pairs); i += 2 {
		request += pairs[i] + "=" + pairs[i+1] + "\n"
	}
	if _, err := conn.Write([]byte(request + "\n")); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "errno=0" {
		return fmt.Errorf("configure %s: %s", socket, strings.TrimSpace(answer))
	}
	return nil
}
