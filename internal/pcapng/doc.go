// Package pcapng writes captures in the PCAP Next Generation format
// (draft-ietf-opsawg-pcapng), and reads them back block by block. It has what
// captures of a VTEP need and common writers leave out: a comment and a
// direction for each packet, and statistics that say what was missed.
//
//	section header    SHB  what wrote it
//	interface         IDB  one for each place of capture; times in nanoseconds
//	packet            EPB  time, bytes, direction, comment
//	statistics        ISB  how many packets were delivered, and missed
//
// Every block is little-endian and a multiple of 4 bytes long, its length at both
// ends: a file that ends behind any of them is whole.
package pcapng
