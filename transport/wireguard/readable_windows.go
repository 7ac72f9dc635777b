package wireguard

import "io/fs"

// readable cannot be told by the mode on Windows.
func readable(fs.FileInfo) bool { return false }
