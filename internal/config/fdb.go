package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// entries checks --fdb.
func (s *Spec) entries(e *Endpoint) error {
	had := make(map[vxlan.MAC][]vtep.Entry)
	for i, text := range s.List("fdb") {
		bad := func(format string, args ...any) error {
			return s.errorAt("fdb", i, "%q: "+format, append([]any{text}, args...)...)
		}
		part := strings.Split(text, "=")
		if len(part) < 2 || len(part) > 4 {
			return bad("give MAC=ADDR[:PORT][=KIND[=VNI]]")
		}
		part = append(part, "", "")
		mac, err := vxlan.ParseMAC(part[0])
		if err != nil {
			return bad("%q is no MAC address: give six bytes, such as 02:42:0a:00:01:67", part[0])
		}
		entry := vtep.Entry{MAC: mac}
		if entry.Remote.Addr, err = ParseVTEP(part[1]); err != nil {
			return bad("%v", err)
		}
		if entry.Remote.Addr.Port() == 0 {
			entry.Remote.Addr = netip.AddrPortFrom(entry.Remote.Addr.Addr(), e.Port)
		}
		entry.Kind = fdb.KindStatic
		if part[2] != "" {
			var ok bool
			if entry.Kind, ok = fdb.ParseKind(part[2]); !ok || entry.Kind == fdb.KindLearned {
				return bad("there is no kind %q: give static, permanent or dynamic", part[2])
			}
		}
		if part[3] != "" {
			vni, err := vxlan.ParseVNI(part[3])
			if err != nil {
				return bad("%q is no VNI: give 0 to %d", part[3], vxlan.MaxVNI)
			}
			if vni != s.VNI {
				entry.Remote.VNI = uint32(vni)
			}
		}
		if list := mac.IsMulticast() || mac.IsZero(); list && entry.Kind == fdb.KindDynamic {
			return bad("%v", fdb.ErrDynamic)
		}
		twice := func(had vtep.Entry) bool {
			return !mac.IsMulticast() && !mac.IsZero() || had.Remote == entry.Remote || had.Kind != entry.Kind
		}
		if slices.ContainsFunc(had[mac], twice) {
			return bad("%v has an entry already", mac)
		}
		had[mac] = append(had[mac], entry)
		s.Entries = append(s.Entries, entry)
	}
	return nil
}
