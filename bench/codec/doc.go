// Package codec measures the building blocks of the packet path by themselves, on
// one core and without a system call: headers written and read, inner frames
// parsed, the forwarding table, superframes taken apart and put together.
// "govxlan bench codec" is its front.
//
// All cases take turns, round by round, so that what disturbs the machine for a
// while does not fall on one of them alone.
package codec
