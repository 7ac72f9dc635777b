package main

import "github.com/govxlan/govxlan/internal/portholder"

// portHolder names whoever has a UDP port of this network namespace.
func portHolder(port uint16) string { return portholder.Of(port).String() }
