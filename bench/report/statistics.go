package report

import (
	"maps"
	"slices"
)

// Median returns the middle of the values, the mean of the middle two where
// their number is even. It panics when there are none.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func spread(rounds map[int]float64) (median, low, high float64) {
	values := slices.Collect(maps.Values(rounds))
	return Median(values), slices.Min(values), slices.Max(values)
}

// ratio compares round by round, since what disturbs a machine for a while
// disturbs all systems of that round, and returns the median. Rounds that lack
// either figure, or have a base of zero, do not count.
func ratio(mine, base map[int]float64) *float64 {
	var ratios []float64
	for round, v := range mine {
		if b, ok := base[round]; ok && b != 0 {
			ratios = append(ratios, v/b)
		}
	}
	if len(ratios) == 0 {
		return nil
	}
	m := Median(ratios)
	return &m
}
