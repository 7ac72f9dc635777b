package vtep

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// Every counter is explained, in the order in which it is shown, and every drop
// has an advice.
func TestEveryCounterIsExplained(t *testing.T) {
	var want []string
	for _, c := range []any{Counters{}, EndpointCounters{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(c)) {
			want = append(want, f.Tag.Get("json"))
		}
	}
	var got []string
	for _, e := range Explanations() {
		got = append(got, e.Counter)
		if e.Drop() != (e.Reason() != "") || e.Drop() != strings.Contains(e.Counter, "_drop_") {
			t.Errorf("%s: drop %v, reason %q", e.Counter, e.Drop(), e.Reason())
		}
		if e.Drop() && e.Do == "" {
			t.Errorf("%s: nothing to do about it", e.Counter)
		}
		for _, s := range []string{e.Means, e.Do} {
			if s == "" && !e.Drop() {
				continue
			}
			if !strings.HasSuffix(s, ".") || strings.Contains(strings.TrimSuffix(s, "."), ". ") || s[0] < 'A' || s[0] > 'Z' {
				t.Errorf("%s: %q is not one sentence", e.Counter, s)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("explained: %v\ncounters:  %v", got, want)
	}
}
