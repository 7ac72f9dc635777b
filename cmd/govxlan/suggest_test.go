package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestDidYouMean: what is typed wrongly gets the right word, in one line.
func TestDidYouMean(t *testing.T) {
	for _, c := range []struct{ line, says string }{
		{"up --vnid 5", "unknown flag: --vnid: did you mean --vni? (see 'govxlan up --help')"},
		{"up --pere 192.168.52.204", "did you mean --peer?"},
		{"up -vni 5", "unknown shorthand flag: 'v' in -vni: did you mean --vni?"},
		{"up -vni=5", "did you mean --vni?"},
		{"up --learnign=false", "did you mean --learning?"},
		{"up --max-entires 5", "did you mean --max-entries?"},
		{"up --LOCAL 5", "did you mean --local?"},
		{"up --nonsense", "unknown flag: --nonsense (see 'govxlan up --help')"},
		{"up --", ""},
		{"staus", `unknown command "staus" for "govxlan": did you mean stats or status? (see 'govxlan --help')`},
		{"pere list", "did you mean peer?"},
		{"fdb lsit", `unknown command "lsit" for "govxlan fdb" (see 'govxlan fdb --help')`},
		{"fdb shwo", "did you mean show?"},
		{"peer sho", "did you mean show?"},
		{"nonsense", `unknown command "nonsense" for "govxlan" (see 'govxlan --help')`},
		{"stats --explain rx_drop_unknown_vtpe", "did you mean rx_drop_unknown_vtep?"},
		{"status extra", `"extra" is one argument too many: 'govxlan status' takes none`},
		{"fdb add", "add was given 0 arguments: the usage is 'govxlan fdb add MAC ADDR[:PORT] [flags]'"},
	} {
		if c.says == "" {
			continue
		}
		var stdout, stderr bytes.Buffer
		status := main1(strings.Fields(c.line), strings.NewReader(""), &stdout, &stderr)
		said := stderr.String()
		if status != exitUsage || !strings.Contains(said, c.says) || strings.Count(said, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%s: status %d, %q, want %q", c.line, status, said, c.says)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"vni", "vni", 0}, {"vnid", "vni", 1}, {"vin", "vni", 1}, {"per", "peer", 1},
		{"abc", "xyz", 3}, {"learnign", "learning", 1}, {"ab", "ba", 1},
	} {
		if got, back := distance(c.a, c.b), distance(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%q, %q: %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}
