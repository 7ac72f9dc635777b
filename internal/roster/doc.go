// Package roster keeps the tables of a VTEP as the members of its overlay networks
// say (package membership): whoever serves a VNI gets what is flooded in it, and each
// station that a member announces is a static entry of the FDB and, where ARP is
// answered, a neighbour. In turn it tells the others which VNIs and stations are here.
//
// What somebody entered by hand, or in a file, is left alone: a peer that was there
// before stays when the member goes, and an entry of the user's wins over a member's.
//
// State and Config.Before take what the tables have of members from one process to the
// one that goes on in its place, so that nothing is forgotten before the members have
// been met again.
package roster
