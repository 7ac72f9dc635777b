package dockerplugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/govxlan/govxlan/internal/roster"
	"github.com/govxlan/govxlan/internal/wholefile"
	"github.com/govxlan/govxlan/vxlan"
)

// network is what is known of one of Docker's networks, and the content of its
// file.
type network struct {
	ID      string    `json:"id"`
	VNI     vxlan.VNI `json:"vni"`
	Options options   `json:"options"`
	// Sandbox is the path of its network namespace, in the layout bridge.
	Sandbox   string               `json:"sandbox,omitempty"`
	Endpoints map[string]*endpoint `json:"endpoints"`

	ports  *ports         // of the layout direct
	up     bool           // its VNI is served
	roster *roster.Roster // nil: it has no members
}

// endpoint is a container's link to a network.
type endpoint struct {
	ID   string    `json:"id"`
	MAC  vxlan.MAC `json:"mac"`
	IPv4 string    `json:"ipv4,omitempty"` // with its prefix, as Docker gives it
	IPv6 string    `json:"ipv6,omitempty"`
	// Container is the path of the namespace that it has joined; empty: none.
	Container string `json:"container,omitempty"`
}

// link is the name of the container's end while it is in the host's namespace.
func (e *endpoint) link() string { return "gv" + short(e.ID) }

// far is the name of the other end, in the sandbox.
func (e *endpoint) far() string { return "vp" + short(e.ID) }

// short is as much of an ID as a device's name has room for, and as Docker shows.
func short(id string) string { return id[:min(len(id), 12)] }

// String names the network for messages.
func (n *network) String() string { return fmt.Sprintf("network %s (VNI %v)", short(n.ID), n.VNI) }

// idPattern is what Docker's IDs look like: swarm's are letters and digits, the
// others hexadecimal. They become names of files.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9]{1,128}$`)

func checkID(ids ...string) error {
	for _, id := range ids {
		if !idPattern.MatchString(id) {
			return fmt.Errorf("%q is no ID of Docker's", id)
		}
	}
	return nil
}

// store keeps values as files of a directory.
type store struct{ dir string }

// openStore makes the directory.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &store{dir}, nil
}

func (s *store) path(name string) string { return filepath.Join(s.dir, name+".json") }

// put writes a value, such that the file holds the old or the new one, whenever
// the power fails.
func (s *store) put(name string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil {
		err = wholefile.Write(s.path(name), 0o600, func(w io.Writer) error {
			_, err := w.Write(append(text, '\n'))
			return err
		})
	}
	if err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// remove deletes a value; one that is not there is no error.
func (s *store) remove(name string) error {
	if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state: %w", err)
	}
	return syncDir(s.dir)
}

// get reads a value.
func (s *store) get(name string, value any) error {
	text, err := os.ReadFile(s.path(name))
	if err == nil {
		err = json.Unmarshal(text, value)
	}
	if err != nil {
		return fmt.Errorf("state: %s: %w", s.path(name), err)
	}
	return nil
}

// setAside renames a file that cannot be read, for somebody to look at.
func (s *store) setAside(name string) error {
	return os.Rename(s.path(name), s.path(name)+".broken")
}

// names lists what there is with a prefix, which the names are given without. What
// a process left that was killed while it wrote is removed.
func (s *store) names(prefix string) ([]string, error) {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	var names []string
	for _, f := range files {
		if strings.HasPrefix(f.Name(), wholefile.Pending) {
			os.Remove(filepath.Join(s.dir, f.Name()))
		}
		if name, ok := strings.CutSuffix(f.Name(), ".json"); ok {
			if name, ok := strings.CutPrefix(name, prefix); ok {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
