// Package netlabtest makes labs (package netlab) for tests. It is empty on
// systems other than Linux.
package netlabtest
