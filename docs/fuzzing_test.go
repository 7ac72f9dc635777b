package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each fuzz target that there is stands in fuzzing.md, and each that stands there is.
func TestFuzzingPage(t *testing.T) {
	const page = "fuzzing.md"
	var want, got []string
	target := regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		code, err := os.ReadFile(path)
		for _, m := range target.FindAllStringSubmatch(string(code), -1) {
			want = append(want, filepath.ToSlash(filepath.Dir(path))[len("../"):]+" "+m[1])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows(t, page, "") {
		if len(row) == 4 && strings.HasPrefix(row[1], "`Fuzz") {
			if row[2] == "" {
				t.Errorf("%s: nothing holds for %s", page, row[1])
			}
			got = append(got, row[0]+" "+strings.Trim(row[1], "`"))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	for _, w := range want {
		if !slices.Contains(got, w) {
			t.Errorf("%s does not have %s", page, w)
		}
	}
	if len(got) != len(want) || len(want) < 40 {
		t.Errorf("%s has %d targets, there are %d", page, len(got), len(want))
	}
}
