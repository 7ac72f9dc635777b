// Package handover brings descriptors, and what is known about them, from one
// process to the next: through a Unix socket to one that runs already
// (Channel), or by way of the service manager to one that is yet to start
// (Keep, Kept).
package handover
