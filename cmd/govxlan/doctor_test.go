package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/doctor"
)

// Many findings that all is well are told in a few lines, and whatever is not in
// full.
func TestManyFindings(t *testing.T) {
	var r doctor.Report
	for i := range 1000 {
		f := doctor.Finding{Check: "device", State: doctor.OK, Text: "fine"}
		if i == 500 {
			f.State, f.Text, f.Command = doctor.Fail, "broken", "mend it"
		}
		r.Findings = append(r.Findings, f)
	}
	r.Findings = append(r.Findings, doctor.Finding{Check: "route", State: doctor.OK, Text: "fine"})
	var b bytes.Buffer
	if err := printFindings(&b, r); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if n := strings.Count(text, "\n"); n > 2*mostAlike+6 {
		t.Errorf("%d lines:\n%s", n, text)
	}
	for _, want := range []string{"... and 492 more\n", "... and 491 more\n", "FAIL  device         broken\n", "$ mend it\n", "ok    route          fine\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
