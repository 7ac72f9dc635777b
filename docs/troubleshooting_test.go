package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/vtep"
)

// TestTroubleshooting: the page has every reason to drop, in the words of the
// code, and nothing else.
func TestTroubleshooting(t *testing.T) {
	const page, head = "troubleshooting.md", "| counter | what it means | what to do |\n|---|---|---|\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, table, ok := strings.Cut(string(text), head)
	if !ok {
		t.Fatalf("%s has no table %q", page, head)
	}
	var want strings.Builder
	for _, e := range vtep.Explanations() {
		if e.Drop() {
			fmt.Fprintf(&want, "| `%s` | %s | %s |\n", e.Counter, e.Means, e.Do)
		}
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+head+want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want.String() {
		t.Errorf("the table of %s is not that of the code: go test ./docs -run TestTroubleshooting -update", page)
	}
}

// TestTroubleshootingHasEveryCheck of doctor, and no other.
func TestTroubleshootingHasEveryCheck(t *testing.T) {
	files, err := filepath.Glob(filepath.FromSlash("../internal/doctor/*.go"))
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`(?:Check: |find\()"([a-z-]+)"`)
	var inCode []string
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllStringSubmatch(string(text), -1) {
			inCode = append(inCode, m[1])
		}
	}
	text, err := os.ReadFile("troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## What doctor checks")
	section, _, _ = strings.Cut(section, "\n## ")
	var onPage []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		onPage = append(onPage, m[1])
	}
	slices.Sort(inCode)
	slices.Sort(onPage)
	if inCode = slices.Compact(inCode); !slices.Equal(inCode, onPage) {
		t.Errorf("in the code: %q\non the page: %q", inCode, onPage)
	}
}
