// Package vxlan reads and writes VXLAN packets (RFC 7348).
package vxlan
