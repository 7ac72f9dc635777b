package vtep

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/govxlan/govxlan/fdb"
	"github.com/govxlan/govxlan/vxlan"
)

// Status is an endpoint at one moment. Its JSON form is what `govxlan status`
// prints.
type Status struct {
	Local string `json:"local"`
	Port  uint16 `json:"port"`
	// Transport is what the Conn calls itself, such as udp or packet; empty
	// when it has no name.
	Transport string `json:"transport,omitempty"`
	// Tunnel is what packets travel through; nil: nothing, they are in clear.
	Tunnel *TunnelStatus `json:"tunnel,omitempty"`
	Uptime Seconds       `json:"uptime_s"`
	// Running: Run has begun, and not ended.
	Running bool `json:"running"`
	// Workers is how many threads carry frames, and IO what they wait with:
	// io_uring or epoll; goroutines where there are none.
	Workers int    `json:"workers"`
	IO      string `json:"io"`
	// Unknown is the last packet of a VNI that is not here; nil: there was none.
	Unknown *Sighting `json:"last_unknown_vni,omitempty"`
	DatapathStatus
	// Programs are those on the devices of the underlay, where the datapath is
	// ebpf.
	Programs []ProgramsStatus `json:"programs,omitempty"`
	Counters EndpointCounters `json:"counters"`
	VNIs     []VNIStatus      `json:"vnis"`
}

// VNIStatus is one VNI of a Status.
type VNIStatus struct {
	VNI    vxlan.VNI `json:"vni"`
	Device string    `json:"device"`
	// VLAN is the VLAN id that frames of the VNI carry on the device, if it is
	// a trunk.
	VLAN uint16    `json:"vlan,omitempty"`
	MAC  vxlan.MAC `json:"mac"`
	MTU  int       `json:"mtu"`
	DatapathStatus
	Offload string `json:"offload"`
	Queues  int    `json:"queues"`
	Entries int    `json:"entries"`
	// FDB is what the Entries are, and how many the table takes.
	FDB FDBStatus `json:"fdb"`
	// ARP is flood, suppress or proxy; the first has no neighbours.
	ARP        string       `json:"arp"`
	Neighbours int          `json:"neighbours"`
	Peers      []PeerStatus `json:"peers"`
	// Multicast are the groups of the underlay that get a copy of what is
	// flooded.
	Multicast []MulticastStatus `json:"multicast,omitempty"`
	Counters  Counters          `json:"counters"`
	// Stranger is the last VTEP whose frames were dropped because it may not
	// speak here; nil: there was none.
	Stranger *Sighting `json:"last_unknown_vtep,omitempty"`
	// Groups are those of frames that arrived and that GroupPolicy.Accept has,
	// delivered in the end or not.
	Groups []GroupStatus `json:"groups,omitempty"`
}

// PeerStatus is one VTEP that may speak in a VNI.
type PeerStatus struct {
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// Member: it was not configured, but has spoken as a member of a group.
	Member bool `json:"member,omitempty"`
	// Stranger: it was not configured, but VNIConfig.AllowUnknownVTEPs lets it
	// speak.
	Stranger bool `json:"stranger,omitempty"`
	// LastHeard is the time since its last frame; nil when there was none.
	LastHeard *Seconds `json:"last_heard_s"`
	RxFrames  uint64   `json:"rx_frames"`
	TxFrames  uint64   `json:"tx_frames"`
	RxBytes   uint64   `json:"rx_bytes"`
	TxBytes   uint64   `json:"tx_bytes"`
	// PathMTU is the largest outer IP packet that fits the way there, in bytes,
	// as routers told; 0: none did lately.
	PathMTU int `json:"pmtu,omitempty"`
	// Probes: it has sent a probe, or an answer to one, so that it is expected to
	// answer.
	Probes bool `json:"probes,omitempty"`
}

// FDBStatus counts the entries of a VNI by kind; see fdb.Kind. The flood list is
// not among the Entries.
type FDBStatus struct {
	Learned   int `json:"learned"`
	Static    int `json:"static"`
	Permanent int `json:"permanent"`
	Dynamic   int `json:"dynamic"`
	// Flood is how many VTEPs and multicast groups are on the flood list.
	Flood int `json:"flood"`
	// Limit bounds Learned, or with VNIConfig.BoundAll all of them; 0: no limit.
	Limit int `json:"limit"`
}

// EntryStatus is one line of the FDB.
type EntryStatus struct {
	VNI  vxlan.VNI  `json:"vni"`
	MAC  vxlan.MAC  `json:"mac"`
	VTEP netip.Addr `json:"vtep"`
	Port uint16     `json:"port"`
	// RemoteVNI is the one that the VTEP gets frames with; nil: VNI.
	RemoteVNI *vxlan.VNI `json:"remote_vni,omitempty"`
	// Nexthops is the nexthop group that the entry points to instead of a VTEP.
	Nexthops uint32 `json:"nhid,omitempty"`
	Kind     string `json:"kind"` // learned, static, permanent, dynamic, flood
	// Age is the time since the station's last frame; nil for entries that do
	// not age.
	Age *Seconds `json:"age_s,omitempty"`
	// Held: it moved between VTEPs too often, and does not for now.
	Held bool `json:"held,omitempty"`
}

// Sighting is who sent something that was dropped.
type Sighting struct {
	VTEP netip.Addr `json:"vtep"`
	VNI  vxlan.VNI  `json:"vni"`
}

// Seconds is a duration that JSON shows as a number with one decimal.
type Seconds float64

func seconds(d time.Duration) Seconds {
	return Seconds(d.Round(100 * time.Millisecond).Seconds())
}

// Status returns a snapshot of all VNIs, or of some: VNIs by number, peers by
// address. It holds up neither frames nor changes, whatever there is to tell:
// only the list of VNIs is copied under the lock.
func (e *Endpoint) Status(only ...vxlan.VNI) Status {
	now := e.now()
	e.accel.count()
	e.mu.Lock()
	workers, overlays := e.workers, e.sorted(only...)
	running := e.running && !e.closed
	e.mu.Unlock()
	s := Status{
		DatapathStatus: DatapathStatus{Datapath: DatapathUser.String(), Reason: e.slowReason},
		Uptime:         seconds(now - e.started),
		Running:        running,
		Counters:       e.readCounters(),
		VNIs:           make([]VNIStatus, 0, len(overlays)),
		Workers:        len(workers),
		IO:             "goroutines",
	}
	if e.accel != nil {
		s.Datapath, s.Programs = DatapathEBPF.String(), e.accel.order()
	}
	heldBack := e.accel.heldBack()
	if heldBack != "" {
		s.DatapathStatus = DatapathStatus{Datapath: DatapathUser.String(), Reason: heldBack}
	}
	if s.Workers > 0 {
		s.IO = workers[0].kind()
	}
	var locals []string
	for _, a := range e.conn.Locals() {
		locals = append(locals, a.Addr().String())
		s.Port = a.Port()
	}
	s.Local = strings.Join(locals, ",")
	s.Unknown = e.unknown.get()
	if name, ok := e.conn.(fmt.Stringer); ok {
		s.Transport = name.String()
	}
	s.Tunnel = tunnelStatus(e.conn)
	for _, o := range overlays {
		v := o.status(now)
		if heldBack != "" && v.Reason == "" {
			v.DatapathStatus = s.DatapathStatus
		}
		s.VNIs = append(s.VNIs, v)
	}
	return s
}

// sorted returns the overlays of all VNIs, or of some, by VNI. e.mu is held.
func (e *Endpoint) sorted(only ...vxlan.VNI) []*overlay {
	var all []*overlay
	for _, v := range only {
		if o := e.overlays[v]; o != nil && !slices.Contains(all, o) {
			all = append(all, o)
		}
	}
	if len(only) == 0 {
		all = slices.AppendSeq(make([]*overlay, 0, len(e.overlays)), maps.Values(e.overlays))
	}
	slices.SortFunc(all, func(a, b *overlay) int { return cmp.Compare(a.vni, b.vni) })
	return all
}

func (o *overlay) status(now time.Duration) VNIStatus {
	v := VNIStatus{
		VNI: o.vni, Device: o.device.Name(), VLAN: o.vid, MAC: o.mac, MTU: o.device.MTU(),
		DatapathStatus: *o.datapath.Load(),

		Offload: o.device.Features().String(),
		Queues:  len(o.device.Readers()),
		Entries: o.table.Len(),
		FDB: FDBStatus{
			Learned: o.table.Count(fdb.KindLearned), Static: o.table.Count(fdb.KindStatic),
			Permanent: o.table.Count(fdb.KindPermanent), Dynamic: o.table.Count(fdb.KindDynamic),
			Flood: len(o.table.Flood()), Limit: max(o.table.MaxEntries(), 0),
		},
		ARP:      ARPFlood.String(),
		Peers:    []PeerStatus{},
		Counters: read(&o.rx, &o.tx),
		Groups:   o.policy.Load().header.groups.status(),
	}
	if n := o.policy.Load().neighbours; n != nil {
		v.ARP, v.Neighbours = n.mode.String(), n.table.Len()
	}
	for a, p := range *o.senders.Load() {
		if p.groups > 0 {
			continue
		}
		ps := PeerStatus{
			VTEP: a, Port: p.remote.Addr.Port(), Member: p.member, Stranger: p.stranger && p.floods+p.statics == 0,
			Probes:   p.kin.Load(),
			RxFrames: p.rxFrames.Load(), RxBytes: p.rxBytes.Load(),
			TxFrames: p.txFrames.Load(), TxBytes: p.txBytes.Load(),
		}
		if p.path != nil {
			ps.PathMTU = int(p.path.mtu.Load())
		}
		if heard := p.lastHeard.Load(); heard > 0 {
			age := seconds(max(now-time.Duration(heard-1), 0))
			ps.LastHeard = &age
		}
		v.Peers = append(v.Peers, ps)
	}
	v.Stranger = o.stranger.get()
	v.Multicast = o.multicastStatus()
	slices.SortFunc(v.Peers, func(a, b PeerStatus) int { return a.VTEP.Compare(b.VTEP) })
	return v
}

// FDB returns the tables of all VNIs, or of one: each flood list first, under
// the MAC 00:00:00:00:00:00 as `bridge fdb` shows it, then the entries by MAC.
func (e *Endpoint) FDB(only ...vxlan.VNI) []EntryStatus {
	now := e.now()
	e.accel.refresh(e.vnis.load)
	e.mu.Lock()
	overlays := e.sorted(only...)
	e.mu.Unlock()
	entries := []EntryStatus{}
	for _, o := range overlays {
		for _, r := range o.table.Flood() {
			to := remoteStatus(r)
			entries = append(entries, EntryStatus{VNI: o.vni, VTEP: to.VTEP, Port: to.Port, RemoteVNI: to.VNI, Kind: "flood"})
		}
		for f := range o.table.All(now) {
			to := remoteStatus(f.Remote)
			entry := EntryStatus{
				VNI: o.vni, MAC: vxlan.MAC(f.MAC),
				VTEP: to.VTEP, Port: to.Port, RemoteVNI: to.VNI, Nexthops: f.Nexthops, Kind: f.Kind.String(), Held: f.Held,
			}
			if f.Kind == fdb.KindLearned || f.Kind == fdb.KindDynamic {
				age := seconds(f.Age)
				entry.Age = &age
			}
			entries = append(entries, entry)
		}
	}
	return entries
}
