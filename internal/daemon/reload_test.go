package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/config"
	"github.com/govxlan/govxlan/internal/membership"
)

// TestCompareEndpoint: what of an endpoint is another in the file that is read again.
func TestCompareEndpoint(t *testing.T) {
	dir := t.TempDir()
	key, other := filepath.Join(dir, "key"), filepath.Join(dir, "other")
	for _, path := range []string{key, other} {
		if err := os.WriteFile(path, []byte(membership.NewKey()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	members := "key-file: " + key + "\njoin: [192.168.52.203]\n"
	for _, tc := range []struct {
		name, was, is string
		changed       []string // in place
		refused       string
	}{
		{name: "a default that is written", was: "", is: "port: 4789\nmetrics-limit: 1000\ndatapath: auto\n"},
		{name: "a default that is left out", was: "port: 4789\nlog-format: text\n", is: ""},
		{name: "another port", was: "", is: "port: 4790\n", refused: "port"},
		{name: "the same members", was: members, is: members},
		{name: "one more to join", was: members, is: members[:len(members)-2] + ", 192.168.52.204]\n", changed: []string{"join"}},
		{name: "nobody to join", was: members, is: "key-file: " + key + "\n", changed: []string{"join"}},
		{name: "another key", was: members, is: strings.Replace(members, key, other, 1), refused: "key-file"},
		{name: "members no more", was: members, is: "", refused: "join, key-file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			load := func(text string) (*config.Config, *config.File) {
				t.Helper()
				file, err := config.Parse("govxlan.yaml", []byte(text+"vnis:\n  - vni: 4097\n"))
				if err != nil {
					t.Fatal(err)
				}
				c, err := config.New(config.Values{}, file)
				if err != nil {
					t.Fatal(err)
				}
				return c, file
			}
			was, _ := load(tc.was)
			p := new(plan)
			p.config, p.file = load(tc.is)
			err := (&Daemon{config: was}).compareEndpoint(p)
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), ": "+tc.refused+" cannot change") {
					t.Errorf("refused: %v, want %s", err, tc.refused)
				}
				return
			}
			if err != nil || !slices.Equal(p.done.Endpoint, tc.changed) {
				t.Errorf("changed %q, want %q: %v", p.done.Endpoint, tc.changed, err)
			}
		})
	}
}
