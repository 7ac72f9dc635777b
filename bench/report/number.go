package report

import (
	"math"
	"strconv"
)

// Number writes three digits that count, and never an exponent: 0.0123, 1.23,
// 12.3, 123, 12345. More digits would be noise.
func Number(v float64) string {
	digits := 0
	if v != 0 {
		// Rounding first: 9.999 is 10.0 and has one decimal.
		magnitude := math.Floor(math.Log10(math.Abs(v)))
		shift := math.Pow(10, 2-magnitude)
		v = math.Round(v*shift) / shift
		digits = min(max(2-int(math.Floor(math.Log10(math.Abs(v)))), 0), 4)
	}
	if v >= 1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}

// times writes a ratio: 0.62x.
func times(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64) + "x"
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64) + "x"
	case v != 0 && v < 0.1:
		return strconv.FormatFloat(v, 'f', 3, 64) + "x"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + "x"
}
