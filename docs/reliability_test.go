package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each fault of reliability.md is made by a test, and each that is made is told of.
func TestReliabilityPage(t *testing.T) {
	const page = "reliability.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, row := range rows(t, page, "") {
		if len(row) != 5 || row[0] == "fault" || row[0] == "---" {
			continue
		}
		n++
		if len(exist(t, page+": "+row[0], row[1])) == 0 {
			t.Errorf("%s: no test shows it", row[0])
		}
	}
	if n < 25 {
		t.Errorf("only %d faults", n)
	}
	exist(t, page, string(text))
	for file, name := range map[string]string{
		"fault_linux_test.go": `(?m)^\t\{"([^"]+)", (?:true|false), func`, "badlink_linux_test.go": `(?m)^\t\t\{"([^"]+)", impairment`,
		"recover_linux_test.go": `(?m)^\t\t\{"([^"]+)", func`,
	} {
		code, err := os.ReadFile("../internal/e2e/" + file)
		if err != nil {
			t.Fatal(err)
		}
		made := regexp.MustCompile(name).FindAllStringSubmatch(string(code), -1)
		if len(made) < 4 {
			t.Errorf("%s makes only %d faults", file, len(made))
		}
		for _, m := range made {
			if !strings.Contains(string(text), "/"+strings.ReplaceAll(m[1], " ", "_")+"`") {
				t.Errorf("%s does not tell of %q", page, m[1])
			}
		}
	}
}
