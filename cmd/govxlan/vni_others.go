//go:build !linux

package main

import "github.com/govxlan/govxlan/internal/control"

// namespaceOf knows no network namespaces here.
func namespaceOf(name string) (string, *control.NamespaceID, error) { return name, nil, nil }
