// Package privilege gives up what a process needs no longer once everything is
// open: the user, capabilities, and access to the file system (Landlock); and
// tells what is left, as the kernel sees it.
package privilege
