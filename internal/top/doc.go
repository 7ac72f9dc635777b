// Package top is the live view of an endpoint that `govxlan top` shows: VNIs,
// peers, rates both ways, drops by reason.
//
// Screen knows what is shown and how: it takes one control.Status after another,
// each with the moment of its arrival, and keys, and paints a text of a given
// size. It has no terminal and no clock. Run puts it on a terminal.
package top
