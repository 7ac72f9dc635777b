package cni

import (
	"path/filepath"
	"strings"
)

// Called says whether a process was started as a plugin and not by a person: under
// the name govxlan-cni, or without arguments by a runtime, which tells what it
// wants in the environment.
func Called(args []string, getenv func(string) string) bool {
	if len(args) != 1 {
		return false
	}
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	return name == PluginType+"-cni" || getenv("CNI_COMMAND") != ""
}
