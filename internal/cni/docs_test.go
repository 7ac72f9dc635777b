package cni

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestPage: docs/cni.md names each key once, and its examples are taken as they
// are.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, key := range ours {
		if n := strings.Count(page, "\n| `"+key+"` |"); n != 1 {
			t.Errorf("the key %s has %d rows", key, n)
		}
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d examples", len(blocks))
	}
	var list struct {
		Plugins []map[string]any `json:"plugins"`
	}
	if err := json.Unmarshal([]byte(blocks[0][1]), &list); err != nil {
		t.Fatal(err)
	}
	var chain []map[string]any
	if err := json.Unmarshal([]byte("["+blocks[1][1]+"]"), &chain); err != nil {
		t.Fatal(err)
	}
	for _, p := range append(list.Plugins, chain...) {
		if p["type"] != PluginType {
			continue
		}
		p["cniVersion"], p["name"] = "1.0.0", "overlay"
		one, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(one, ""); err != nil {
			t.Errorf("%s: %v", one, err)
		}
	}
}
