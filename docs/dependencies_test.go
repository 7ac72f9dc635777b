package docs_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// moduleRow is a row of a table in dependencies.md: modules, and what for.
var moduleRow = regexp.MustCompile(`(?m)^\| ([a-z0-9]\S*\.\S*/[^|]*) \| (.+) \|$`)

// TestDependenciesPage: the page names the modules that go.mod asks for by itself,
// each once and with a reason, and no others; and go.mod takes them from where their
// names say.
func TestDependenciesPage(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "mod", "edit", "-json", "../go.mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path, Version string
			Indirect      bool
		}
		Tool             []struct{ Path string }
		Replace, Exclude []json.RawMessage
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Errorf("go.mod replaces %s and excludes %s", mod.Replace, mod.Exclude)
	}
	page, err := os.ReadFile("dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	named := make(map[string]int)
	for _, row := range moduleRow.FindAllStringSubmatch(string(page), -1) {
		for module := range strings.SplitSeq(row[1], ", ") {
			named[module]++
		}
	}
	for _, r := range mod.Require {
		tool := slices.ContainsFunc(mod.Tool, func(tool struct{ Path string }) bool { return strings.HasPrefix(tool.Path, r.Path+"/") })
		if r.Indirect && !tool {
			if named[r.Path] == 1 { // worth a word all the same
				delete(named, r.Path)
			}
			continue
		}
		if named[r.Path] != 1 {
			t.Errorf("%s is in go.mod, and %d times in dependencies.md", r.Path, named[r.Path])
		}
		delete(named, r.Path)
	}
	for _, module := range slices.Sorted(maps.Keys(named)) {
		t.Errorf("%s is in dependencies.md, but go.mod does not ask for it", module)
	}
}
