package dockerplugin

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// What a managed plugin is found by, and keeps its sandboxes in: a directory whose
// mounts outlive the plugin's process.
const (
	pluginSocket    = "govxlan.sock"
	pluginSandboxes = "/netns"
	// pluginPort is the default of Linux's own vxlan devices. A swarm has 4789 on
	// each node, for its ingress network.
	pluginPort = "8472"
)

// pluginConfig is config.json of a managed plugin (docs.docker.com, "Plugin config
// version 1 of plugin v2").
type pluginConfig struct {
	Description   string   `json:"description"`
	Documentation string   `json:"documentation"`
	Entrypoint    []string `json:"entrypoint"`
	WorkDir       string   `json:"workdir"`
	Interface     struct {
		Types  []string `json:"types"`
		Socket string   `json:"socket"`
	} `json:"interface"`
	Network struct {
		Type string `json:"type"`
	} `json:"network"`
	Linux struct {
		Capabilities []string       `json:"capabilities"`
		Devices      []pluginDevice `json:"devices"`
	} `json:"linux"`
	PropagatedMount string     `json:"propagatedMount"`
	Mounts          []struct{} `json:"mounts"`
	Env             []struct{} `json:"env"`
	Args            struct{}   `json:"args"`
}

type pluginDevice struct {
	Path        string   `json:"path"`
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Settable    []string `json:"settable"`
}

// Pack writes what `docker plugin create` makes a managed plugin of: dir/config.json,
// and dir/rootfs with the program. dir is made; one that has something in it is
// refused. On failure nothing is left.
func Pack(dir, program string) (err error) {
	if err := static(program); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if _, missing := os.Stat(dir); errors.Is(missing, fs.ErrNotExist) {
		defer func() {
			if err != nil {
				os.RemoveAll(dir)
			}
		}()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pack: %w", err)
	}
	if there, err := os.ReadDir(dir); err != nil {
		return fmt.Errorf("pack: %w", err)
	} else if len(there) > 0 {
		return fmt.Errorf("pack: %s is not empty: give a directory that is, or is not there yet", dir)
	}
	rootfs := filepath.Join(dir, "rootfs")
	defer func() {
		if err != nil {
			os.RemoveAll(rootfs)
			os.Remove(filepath.Join(dir, "config.json"))
			err = fmt.Errorf("pack: %w", err)
		}
	}()
	if err := os.MkdirAll(filepath.Join(rootfs, pluginSandboxes), 0o755); err != nil {
		return err
	}
	c := pluginConfig{
		Description:   "VXLAN networks for Docker, by govxlan",
		Documentation: "https://github.com/govxlan/govxlan/blob/main/docs/docker.md",
		Entrypoint:    []string{"/govxlan", "docker-plugin", "--scope", "global", "--port", pluginPort, "--sandboxes", pluginSandboxes},
		WorkDir:       "/", PropagatedMount: pluginSandboxes,
	}
	c.Interface.Types, c.Interface.Socket = []string{"docker.networkdriver/1.0"}, pluginSocket
	c.Network.Type = "host"
	c.Linux.Capabilities = []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW"}
	c.Linux.Devices = []pluginDevice{{Path: "/dev/net/tun", Name: "tun", Description: "TAP devices", Settable: []string{}}}
	c.Mounts, c.Env = []struct{}{}, []struct{}{}
	text, err := json.MarshalIndent(c, "", "  ")
	if err == nil {
		err = copyFile(filepath.Join(rootfs, "govxlan"), program)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), append(text, '\n'), 0o644)
}

// static refuses a program that needs libraries: there are none in the plugin.
func static(program string) error {
	f, err := elf.Open(program)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked dynamically, and a plugin has no libraries: take one that was built with CGO_ENABLED=0, as releases and 'make build' are", program)
		}
	}
	return nil
}

// copyFile copies a program.
func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
