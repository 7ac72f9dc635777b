// Package hostname tells names of hosts from what was mistyped.
package hostname

import "strings"

// Valid accepts what a resolver could know. Names made of digits and dots
// alone are mistyped addresses.
func Valid(s string) bool {
	if s == "" || len(s) > 253 || strings.HasPrefix(s, "-") {
		return false
	}
	letters := false
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			letters = true
		case c >= '0' && c <= '9' || c == '-' || c == '.':
		default:
			return false
		}
	}
	return letters
}
