// Package doctor looks for what commonly keeps an overlay from working, on this
// host and on the way to its peers, and says with which command it is mended.
// Every check says something, also that all is well.
package doctor
