// Package e2e tests the whole program against the Linux kernel's vxlan device
// and against itself: the real binary, in network namespaces that the tests
// make (package netlab), seen from both ends of the overlay and on the wire
// between them. There is nothing in it but tests.
//
// It needs Linux, root, the kernel's vxlan and bridge drivers, and ping of
// iputils. A test that lacks one of these fails and says which; without root
// the tests are skipped if GOVXLAN_SKIP_ROOT is set.
//
//	go test ./internal/e2e
//	GOVXLAN_BINARY=$PWD/govxlan go test ./internal/e2e   # this one, not a fresh build
//	GOVXLAN_E2E_TRANSPORT=packet go test ./internal/e2e  # all of it over packet sockets
//	GOVXLAN_E2E_DATAPATH=user go test ./internal/e2e    # without programs in the kernel
//	GOCOVERDIR=/tmp/cover go test ./internal/e2e         # what of the program they reach
//
// (/tmp/cover must be there, and everybody be allowed to write to it.)
package e2e
