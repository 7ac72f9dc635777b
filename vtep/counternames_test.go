package vtep

import (
	"encoding/json"
	"fmt"
	"iter"
	"reflect"
	"strings"
	"testing"
)

// All has what JSON has, in that order; Drops is the part of it that is explained as
// drops.
func TestCountersByName(t *testing.T) {
	isDrop := make(map[string]bool)
	for _, e := range Explanations() {
		isDrop[e.Counter] = e.Drop()
	}
	var c Counters
	var e EndpointCounters
	for _, v := range []reflect.Value{reflect.ValueOf(&c).Elem(), reflect.ValueOf(&e).Elem()} {
		for i := range v.NumField() {
			v.Field(i).SetUint(uint64(100 + i))
		}
	}
	for _, counters := range []interface {
		All() iter.Seq2[string, uint64]
		Drops() iter.Seq2[string, uint64]
	}{c, e} {
		var all, drops, want []string
		for name, n := range counters.All() {
			all = append(all, fmt.Sprintf("%q:%d", name, n))
			if isDrop[name] {
				want = append(want, fmt.Sprint(name, n))
			}
		}
		text, err := json.Marshal(counters)
		if got := "{" + strings.Join(all, ",") + "}"; got != string(text) {
			t.Errorf("All: %s\nJSON: %s, %v", got, text, err)
		}
		for name, n := range counters.Drops() {
			drops = append(drops, fmt.Sprint(name, n))
		}
		if len(drops) == 0 || !reflect.DeepEqual(drops, want) {
			t.Errorf("Drops: %v\nwant:  %v", drops, want)
		}
		for range counters.Drops() {
			break // and the rest is not asked for
		}
	}
}
