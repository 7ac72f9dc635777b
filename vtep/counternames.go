package vtep

import (
	"iter"
	"reflect"
	"strings"
)

// All are the counters by their names in JSON, in the order of the struct.
func (c Counters) All() iter.Seq2[string, uint64] { return byName(c) }

// Drops are those of All whose names say drop, as Explanation.Drop has it.
func (c Counters) Drops() iter.Seq2[string, uint64] { return dropsOf(c.All()) }

// All are the counters by their names in JSON, in the order of the struct.
func (c EndpointCounters) All() iter.Seq2[string, uint64] { return byName(c) }

// Drops are those of All whose names say drop, as Explanation.Drop has it.
func (c EndpointCounters) Drops() iter.Seq2[string, uint64] { return dropsOf(c.All()) }

// byName reads the names off the struct, so that a counter that is added to it is
// missing nowhere.
func byName[C Counters | EndpointCounters](c C) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for field, value := range reflect.ValueOf(c).Fields() {
			if !yield(field.Tag.Get("json"), value.Uint()) {
				return
			}
		}
	}
}

func dropsOf(all iter.Seq2[string, uint64]) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for name, n := range all {
			if strings.Contains(name, dropMark) && !yield(name, n) {
				return
			}
		}
	}
}
