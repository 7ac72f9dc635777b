// Package fdb is the forwarding database of a VNI: which VTEP a MAC address is behind.
package fdb
