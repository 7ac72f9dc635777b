//go:build !windows

package wireguard

import "io/fs"

// readable says whether others than the owner can read a file.
func readable(stat fs.FileInfo) bool { return stat.Mode().Perm()&0o044 != 0 }
