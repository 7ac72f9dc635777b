//go:build race

package membership

// crowded is how many members a large test has: under the race detector each takes ten
// times as long.
const crowded = 30
