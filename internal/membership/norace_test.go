//go:build !race

package membership

// crowded is how many members a large test has.
const crowded = 100
