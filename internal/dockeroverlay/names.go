package dockeroverlay

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Names says whose a MAC or IP address is, by what `overlay inspect --json` printed into
// files, on one node or several: each knows the names of its own containers alone.
func Names(files ...string) (map[string]string, error) {
	names := make(map[string]string)
	certain := make(map[string]bool)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(f, mostAnswer))
		f.Close()
		if err != nil {
			return nil, err
		}
		var all []Network
		if err := json.Unmarshal(text, &all); err != nil {
			return nil, fmt.Errorf("%s: it is not what 'govxlan overlay inspect --json' prints: %w", path, err)
		}
		for _, n := range all {
			for _, s := range n.Stations {
				name := s.Name
				if name == "" {
					name = "a container"
				}
				if s.VTEP.IsValid() {
					name += " behind " + s.VTEP.String()
				}
				keys := []string{s.MAC.String()}
				if s.IP.IsValid() {
					keys = append(keys, s.IP.String())
				}
				for _, key := range keys {
					if !certain[key] {
						names[key], certain[key] = name, s.Name != ""
					}
				}
			}
		}
	}
	return names, nil
}
