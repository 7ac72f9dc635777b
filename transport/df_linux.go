package transport

import "golang.org/x/sys/unix"

// wantsDF says whether the train needs a DF that its socket does not set
// anyway. IPv6 has no such bit.
func (s *udpSender) wantsDF(t *Train, sock *socket) bool {
	return t.DontFragment && !s.c.dontFragment && s.c.unfragmented == nil && !sock.v6
}

// sendDF sends one train with DF set, where there are no second sockets for it
// (UDPConfig.DontFragmentByTrain). The socket is switched over for it, which is
// for trains that are rare; and they leave from the port, and so by the way, that the
// others of the flow take. (Trains that other goroutines send from the socket
// at the same moment get DF too, and lose nothing by it but a retransmission
// where the path is narrow.)
func (s *udpSender) sendDF(t *Train, sock *socket) (int, error) {
	s.alone[0] = *t
	s.alone[0].DontFragment = false
	s.discover(sock, unix.IP_PMTUDISC_PROBE)
	n, err := s.sendSome(s.alone[:])
	s.discover(sock, unix.IP_PMTUDISC_INTERFACE)
	s.alone[0] = Train{}
	return n, err
}

// discover sets what a socket does about the path's MTU.
func (s *udpSender) discover(sock *socket, how int) {
	if s.setDiscover == nil {
		s.setDiscover = func(fd uintptr) {
			// It cannot fail for an open socket that took another value before.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, s.how)
		}
	}
	s.how = how
	_ = sock.fd.Do(s.setDiscover)
}
