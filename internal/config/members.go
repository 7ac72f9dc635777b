package config

import (
	"slices"

	"github.com/govxlan/govxlan/internal/membership"
)

// Members say how the others are found that serve the same VNIs.
type Members struct {
	Join []string // members to begin with
	Port uint16   // UDP and TCP
	Key  []byte
	// File is where the key is, and Readable: others than its owner can read it.
	File     string
	Readable bool
}

// members checks how other members are found.
func (e *Endpoint) members() error {
	join, path := e.List("join"), e.Text("key-file")
	port, err := e.number("join-port", 1, 65535)
	if err != nil {
		return e.Errorf("join-port", "%s: give the UDP and TCP port of members, such as %d", e.Text("join-port"), membership.DefaultPort)
	}
	if path == "" {
		if len(join) > 0 {
			return e.Errorf("join", "needs the key that all members have: make one with 'umask 077; govxlan key join > FILE', copy it to each host, and give it with --key-file FILE")
		}
		return nil
	}
	m := &Members{Join: slices.Clone(join), Port: uint16(port), File: path}
	for _, j := range join {
		if _, _, err := membership.SplitJoin(j); err != nil {
			return e.Errorf("join", "%v", err)
		}
	}
	switch {
	case e.WireGuard != nil:
		return e.Errorf("key-file", "with --wireguard: members cannot talk through the tunnel, which carries VXLAN alone; give the peers with --peer")
	case uint16(port) == e.Port:
		return e.Errorf("join-port", "%d is the port of VXLAN: give another, the same on all hosts", port)
	case len(e.Local) > 0 && e.Local[0].IsUnspecified():
		return e.Errorf("local", "%v with --key-file: the other members are told where to send to, give an address of this host", e.Local[0])
	}
	if m.Key, m.Readable, err = membership.ReadKey(path); err != nil {
		return e.Errorf("key-file", "%v", err)
	}
	e.Members = m
	return nil
}

// SameKey says whether two endpoints have the same key, whatever the names of the
// files.
func (e *Endpoint) SameKey(other *Endpoint) bool {
	if e.Members == nil || other.Members == nil {
		return e.Members == other.Members
	}
	return slices.Equal(e.Members.Key, other.Members.Key)
}
