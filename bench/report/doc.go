// Package report holds the figures of a benchmark run and shows them: as JSON, as
// a table, as a picture, as a page of the documentation. It measures nothing.
package report
