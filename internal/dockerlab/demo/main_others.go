//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "demo-docker: it is made of network namespaces, and runs on Linux alone")
	os.Exit(1)
}
