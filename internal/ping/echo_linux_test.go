package ping

import (
	"net/netip"
	"testing"

	"github.com/govxlan/govxlan/internal/netlab/netlabtest"
	"github.com/govxlan/govxlan/vtep"
	"golang.org/x/sys/unix"
)

// FuzzReply: whatever arrives at an ICMP socket, only what answers an echo of
// ours counts as an answer.
func FuzzReply(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 7, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}, false)
	f.Add(append(make([]byte, 20), 0, 0, 0, 0, 0, 7, 0, 1), true)
	f.Add([]byte{0x4F}, true)
	to := netip.MustParseAddr("192.168.52.204")
	f.Fuzz(func(t *testing.T, b []byte, raw bool) {
		l := echoLine{to: to, id: 7, raw: raw, seqs: map[uint16]uint32{1: 100}}
		seq, _, ok := l.reply(b, &unix.SockaddrInet4{Addr: to.As4()})
		if ok && seq != 100 {
			t.Errorf("answer to %d, which was not sent", seq)
		}
		if _, _, ok := l.reply(b, &unix.SockaddrInet4{Addr: [4]byte{10, 0, 0, 1}}); ok {
			t.Error("somebody else's answer was taken")
		}
	})
}

// TestEcho: of the host itself, by both kinds of socket and families.
func TestEcho(t *testing.T) {
	lab := netlabtest.New(t, "echo")
	ns := netlabtest.Namespace(t, lab, "host")
	for _, groups := range []string{"1 0", "0 2147483647"} { // raw sockets, ping sockets
		if err := ns.Sysctl("net.ipv4.ping_group_range", groups); err != nil {
			t.Fatal(err)
		}
		for _, to := range []string{"127.0.0.1", "::1"} {
			if err := ns.Do(func() error {
				line, err := NewEcho(netip.Addr{}, netip.MustParseAddr(to))
				if err != nil {
					return err
				}
				defer line.Close()
				s := Run(t.Context(), line, Plan{Count: 3, Interval: 1e6, Size: vtep.MinProbe}, func(e Event) {
					if e.Came != vtep.MinProbe {
						t.Errorf("%s: %+v", to, e)
					}
				})
				if s.Received != 3 || s.Sent != 3 {
					t.Errorf("ping groups %s, %s: %+v", groups, to, s)
				}
				return nil
			}); err != nil {
				t.Errorf("ping groups %s, %s: %v", groups, to, err)
			}
		}
	}
}
