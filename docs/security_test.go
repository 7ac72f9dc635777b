package docs_test

import "testing"

// Each attack of security.md is shown by a test.
func TestSecurityPage(t *testing.T) {
	const page = "security.md"
	n := 0
	for _, row := range rows(t, page, "") {
		if len(row) != 4 || row[0] == "attack" || row[0] == "---" {
			continue
		}
		n++
		if len(exist(t, page+": "+row[0], row[3])) == 0 {
			t.Errorf("%s: no test shows it", row[0])
		}
	}
	if n < 7 {
		t.Errorf("only %d attacks", n)
	}
}
