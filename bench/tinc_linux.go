package bench

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"
)

const tincPort = 655

// startTinc runs tinc 1.0 as a switch, without encryption and authentication of
// what it carries.
func startTinc(ctx context.Context, _ *runner, p *pair) error {
	tool, err := findTool("tincd")
	if err != nil {
		return err
	}
	p.version = toolVersion(ctx, tool, "--version")
	p.command = "tincd -D -c DIR (Mode = switch, Cipher = none, Digest = none)"
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		// Of the connection's set-up alone.
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return err
		}
	}
	for _, h := range p.hosts {
		dir := filepath.Join(h.LabDir(), p.mode+"-tinc-"+h.letter)
		far := p.far(h)
		files := map[string]string{
			"tinc.conf": fmt.Sprintf("Name = %s\nMode = switch\nInterface = %s\nDevice = /dev/net/tun\nAddressFamily = ipv4\nBindToAddress = %v\nConnectTo = %s\n",
				h.letter, overlayDev, h.under, far.letter),
			"rsa_key.priv": string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys[h.index])})),
		}
		for _, known := range p.hosts {
			files["hosts/"+known.letter] = fmt.Sprintf("Address = %v %d\nPort = %d\nCipher = none\nDigest = none\nMACLength = 0\nCompression = 0\n%s",
				known.under, tincPort, tincPort,
				pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&keys[known.index].PublicKey)}))
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				return err
			}
		}
		process, err := p.run(ctx, h, tool, "-D", "-c", dir, "--pidfile="+filepath.Join(dir, "pid"))
		if err != nil {
			return err
		}
		if err := process.await(ctx, func() bool { return h.hasDevice(overlayDev) }); err != nil {
			return err
		}
		if err := h.setUp(overlayDev, overlayMTU); err != nil {
			return err
		}
		p.settled = append(p.settled, func(ctx context.Context) error { return tincSettled(ctx, process) })
	}
	return nil
}

// tincMTU is tinc's own account of the path to its peer.
var tincMTU = regexp.MustCompile(`pmtu (\d+) \(min (\d+) max (\d+)\)`)

// tincSettled waits until tinc knows that frames of full size go over UDP. Until
// then it sends them over TCP, which would be what is measured.
func tincSettled(ctx context.Context, p *process) error {
	return p.await(ctx, func() bool {
		// SIGUSR2: it lists the nodes in its log.
		if unix.Kill(p.Process.Pid, unix.SIGUSR2) != nil {
			return false
		}
		log, err := os.ReadFile(p.log)
		if err != nil {
			return false
		}
		for _, m := range tincMTU.FindAllSubmatch(log, -1) {
			least, err := strconv.Atoi(string(m[2]))
			if err == nil && least >= overlayMTU+14 && least < 9000 {
				return true
			}
		}
		return false
	})
}
