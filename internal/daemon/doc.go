// Package daemon is one running process: an endpoint on one UDP port, and any
// number of VNIs, each made, followed, changed and removed by itself.
//
// Start makes everything that a config.Config asks for, or nothing. Run carries
// frames until it is told to end, and removes everything.
package daemon
