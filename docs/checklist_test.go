// Package docs_test keeps the tables in this folder true: what they name as a
// test exists.
package docs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// packages are the short names that the tables use.
var packages = map[string]string{
	"vxlan": "vxlan", "vtep": "vtep", "transport": "transport", "fdb": "fdb", "tap": "tap",
	"e2e": "internal/e2e", "neighbour": "internal/neighbour", "cli": "cmd/govxlan",
}

// notApplicable lines ask for what is not here at all.
var notApplicable = []string{"D42"}

const lines = 42

var (
	testFunction = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	testName     = regexp.MustCompile("`(\\w+)\\.((?:Test|Fuzz)\\w+)(?:/[^`]*)?`")
	lineInName   = regexp.MustCompile(`^Test(RFC7348_)?D\d`)
)

var known = make(map[string][]string)

// tests are all test functions of a package, nil when there is no such package
// (yet).
func tests(t *testing.T, short string) []string {
	t.Helper()
	if names, ok := known[short]; ok {
		return names
	}
	dir, ok := packages[short]
	if !ok {
		t.Errorf("%s is no short name of a package: %v", short, packages)
	}
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(text), -1) {
			names = append(names, m[1])
		}
	}
	known[short] = names
	return names
}

// rows are the cells of the table rows of a page whose first cell begins with
// prefix.
func rows(t *testing.T, page, prefix string) (rows [][]string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(line, "|") && strings.HasPrefix(cells[0], prefix) {
			rows = append(rows, cells)
		}
	}
	return rows
}

// exist checks that the tests named in a cell exist, and returns them.
func exist(t *testing.T, where, cell string) (named []string) {
	t.Helper()
	for _, m := range testName.FindAllStringSubmatch(cell, -1) {
		if !slices.Contains(tests(t, m[1]), m[2]) {
			t.Errorf("%s: there is no test %s in %s", where, m[2], packages[m[1]])
		}
		named = append(named, m[1]+"."+m[2])
	}
	return named
}

// TestRFC7348Checklist: each line of the checklist is there once, in order, with
// a test that exists.
func TestRFC7348Checklist(t *testing.T) {
	const page = "rfc7348.md"
	table := rows(t, page, "D")
	if len(table) != lines {
		t.Fatalf("%d lines, want %d", len(table), lines)
	}
	var all []string
	for i, row := range table {
		line := fmt.Sprintf("D%d", i+1)
		if row[0] != line || len(row) != 4 {
			t.Fatalf("line %q with %d cells, want %s with 4", row[0], len(row), line)
		}
		cell := row[3]
		named := exist(t, page+" "+line, cell)
		all = append(all, named...)
		switch {
		case slices.Contains(notApplicable, line):
			if len(named) > 0 || !strings.Contains(cell, "not applicable") {
				t.Errorf("%s is applicable: take it off that list", line)
			}
		case len(named) == 0:
			t.Errorf("%s has no test: %q", line, cell)
		}
	}
	// And the other way round.
	for short := range packages {
		for _, name := range tests(t, short) {
			if lineInName.MatchString(name) && !slices.Contains(all, short+"."+name) {
				t.Errorf("%s.%s has a line of the checklist in its name and is not in %s", short, name, page)
			}
		}
	}
}

// vxlanAttributes are the netlink attributes of a vxlan link, IFLA_VXLAN_..., as
// linux/if_link.h has them up to Linux 6.16.
var vxlanAttributes = []string{
	"ID", "GROUP", "LINK", "LOCAL", "TTL", "TOS", "LEARNING", "AGEING", "LIMIT", "PORT_RANGE", "PROXY", "RSC",
	"L2MISS", "L3MISS", "PORT", "GROUP6", "LOCAL6", "UDP_CSUM", "UDP_ZERO_CSUM6_TX", "UDP_ZERO_CSUM6_RX",
	"REMCSUM_TX", "REMCSUM_RX", "GBP", "REMCSUM_NOPARTIAL", "COLLECT_METADATA", "LABEL", "GPE", "TTL_INHERIT",
	"DF", "VNIFILTER", "LOCALBYPASS", "LABEL_POLICY", "RESERVED_BITS", "MC_ROUTE",
}

// TestKernelParity: each option of the kernel has a row that says same, better
// or not, and names its tests; where it says that we do it, there is one.
func TestKernelParity(t *testing.T) {
	const page = "kernel-parity.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range vxlanAttributes {
		if !regexp.MustCompile(`\b` + a + `\b`).Match(text) {
			t.Errorf("IFLA_VXLAN_%s has no row", a)
		}
	}
	n := 0
	for _, row := range rows(t, page, "") {
		if row[0] == "option" || strings.HasPrefix(row[0], "---") {
			continue
		}
		n++
		option, verdict, cell := row[0], row[len(row)-3], row[len(row)-1]
		if !slices.Contains([]string{"same", "better", "not"}, verdict) {
			t.Errorf("%s: the verdict is %q", option, verdict)
		}
		named := exist(t, option, cell)
		if verdict != "not" && len(named) == 0 {
			t.Errorf("%s: no test shows it", option)
		}
	}
	if n < 80 {
		t.Errorf("only %d rows", n)
	}
}
