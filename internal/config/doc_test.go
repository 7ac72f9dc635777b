package config

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

const page = "../../docs/config.md"

// row is the line of an option in the table of the page, but for its meaning.
func row(o *Option) string {
	value := "`" + o.Default + "`"
	switch {
	case o.Default == "" && o.Kind == List:
		value = "none"
	case o.Default == "" || o.Default == "0" && o.Derived != "":
		value = o.Derived
		if strings.Contains(value, "<") {
			value = "`" + value + "`"
		}
	}
	whose := map[Scope]string{OfVNI: "VNI", OfOne: "VNI, not for all", OfEndpoint: "endpoint", OfBoth: "both"}[o.Scope]
	change := o.Change.String()
	if o.Name == "vni" {
		change = "another VNI"
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", o.key(), whose, value, change)
}

// The page has every option as it is in the code.
func TestPageHasEveryOption(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for i := range Options {
		o := &Options[i]
		if o.FlagOnly {
			continue
		}
		known[o.key()] = true
		if !strings.Contains(string(text), "\n"+row(o)) {
			t.Errorf("%s has no line that begins with\n%s", page, row(o))
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\|").FindAllStringSubmatch(string(text), -1) {
		if !known[m[1]] {
			t.Errorf("%s has a line about %q, which is no option", page, m[1])
		}
	}
}

// Every example of the page is a configuration.
func TestPageExamples(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 3 {
		t.Fatalf("%d examples", len(examples))
	}
	for _, m := range examples {
		f, err := Parse("example.yaml", []byte(m[1]))
		if err != nil {
			t.Errorf("%v in\n%s", err, m[1])
			continue
		}
		if _, err := New(Values{}, f); err != nil {
			t.Errorf("%v in\n%s", err, m[1])
		}
	}
}
