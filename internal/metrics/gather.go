package metrics

import (
	"cmp"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Source is what is scraped; *vtep.Endpoint is one.
type Source interface {
	Status(only ...vxlan.VNI) vtep.Status
}

// Config says what to serve.
type Config struct {
	Source Source
	// Version is the release that govxlan_build_info tells.
	Version string
	// Limit is how many peers get series of their own, over all VNIs, and as
	// many groups of group policy. Peers that were configured come first.
	Limit int
}

// gatherer is a prometheus.Gatherer that reads the Source once a scrape, and
// adds what others gather. A Collector would do, but what a registry does with
// each single metric takes seconds with thousands of VNIs.
type gatherer struct {
	Config
	others prometheus.Gatherer // of other families than ours
}

// Gather returns the families by name, as the interface wants it.
func (g *gatherer) Gather() ([]*dto.MetricFamily, error) {
	s := g.Source.Status()
	t := new(teller)
	g.tell(t, &s)
	all, err := g.others.Gather()
	for _, f := range t.families {
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return all, err
}

// teller takes the metrics of one scrape down.
type teller struct {
	families map[*Family]*dto.MetricFamily
	// Those that come next, made many at a time.
	metrics  []dto.Metric
	counters []dto.Counter
	gauges   []dto.Gauge
	values   []float64
	pairs    []*dto.LabelPair
}

// next takes one from a supply.
func next[T any](supply *[]T) *T {
	if len(*supply) == 0 {
		*supply = make([]T, 256)
	}
	p := &(*supply)[0]
	*supply = (*supply)[1:]
	return p
}

// labels are the values of labels, in the order of Family.Labels.
type labels []*dto.LabelPair

// labelled makes labels for a family.
func (t *teller) labelled(f *Family, values ...string) labels {
	if len(t.pairs) < len(values) {
		t.pairs = make([]*dto.LabelPair, 1024)
	}
	l := t.pairs[:len(values):len(values)]
	t.pairs = t.pairs[len(values):]
	for i, v := range values {
		l[i] = pair(f.Labels[i], v)
	}
	return l
}

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// tell takes one metric down. The labels may be those of other metrics too.
func (t *teller) tell(f *Family, v float64, l labels) {
	to := t.families[f]
	if to == nil {
		kind := dto.MetricType_GAUGE
		if f.Counter {
			kind = dto.MetricType_COUNTER
		}
		to = &dto.MetricFamily{Name: &f.Name, Help: &f.Help, Type: &kind}
		if t.families == nil {
			t.families = make(map[*Family]*dto.MetricFamily)
		}
		t.families[f] = to
	}
	m, value := next(&t.metrics), next(&t.values)
	*value = v
	m.Label = l
	if f.Counter {
		m.Counter = next(&t.counters)
		m.Counter.Value = value
	} else {
		m.Gauge = next(&t.gauges)
		m.Gauge.Value = value
	}
	to.Metric = append(to.Metric, m)
}

// count takes the counters of a struct down, those of one VNI or of none.
func (t *teller) count(fields []field, vni *dto.LabelPair, counters any) {
	var own labels
	if *vni.Value != "" {
		own = labels{vni}
	}
	values := reflect.ValueOf(counters)
	for i := range fields {
		f := &fields[i]
		n := float64(values.Field(f.index).Uint())
		if f.family != nil {
			t.tell(f.family, n, own)
			continue
		}
		t.tell(drops, n, labels{f.direction, f.reason, vni})
	}
}

// tell takes everything down that is in a status.
func (g *gatherer) tell(t *teller, s *vtep.Status) {
	t.tell(buildInfo, 1, t.labelled(buildInfo, runtime.Version(), revision(), g.Version))
	t.tell(up, flag(s.Running), nil)
	t.tell(uptime, float64(s.Uptime), nil)
	t.tell(endpointInfo, 1, t.labelled(endpointInfo, s.IO, s.Local, strconv.Itoa(int(s.Port)), s.Transport))
	t.tell(workers, float64(s.Workers), nil)
	t.tell(vnis, float64(len(s.VNIs)), nil)
	t.count(known().endpoint, pair("vni", ""), s.Counters)

	for i := range s.VNIs {
		v := &s.VNIs[i]
		name, vlan := v.VNI.String(), ""
		if v.VLAN != 0 {
			vlan = strconv.Itoa(int(v.VLAN))
		}
		t.tell(vniInfo, 1, t.labelled(vniInfo, v.ARP, v.Device, v.MAC.String(), v.Offload, vlan, name))
		vni := labels{pair("vni", name)}
		t.tell(mtu, float64(v.MTU), vni)
		t.tell(queues, float64(v.Queues), vni)
		for _, e := range []struct {
			kind *dto.LabelPair
			n    int
		}{{learned, v.FDB.Learned}, {static, v.FDB.Static}, {permanent, v.FDB.Permanent}, {dynamic, v.FDB.Dynamic}, {flood, v.FDB.Flood}} {
			t.tell(entries, float64(e.n), labels{e.kind, vni[0]})
		}
		if v.FDB.Limit > 0 {
			t.tell(limit, float64(v.FDB.Limit), vni)
		}
		t.tell(peers, float64(len(v.Peers)), vni)
		t.tell(neighbours, float64(v.Neighbours), vni)
		for _, m := range v.Multicast {
			l := t.labelled(groupJoined, m.Device, m.Group.String(), strconv.Itoa(int(m.Port)), name)
			t.tell(groupJoined, flag(m.Joined), l)
			t.tell(groupJoins, float64(m.Joins), l)
			t.tell(groupTxFrames, float64(m.TxFrames), l)
			t.tell(groupTxBytes, float64(m.TxBytes), l)
		}
		t.count(known().vni, vni[0], v.Counters)
	}
	t.tell(leftOut, float64(g.peers(t, s)), t.labelled(leftOut, "peers"))
	t.tell(leftOut, float64(g.groups(t, s)), t.labelled(leftOut, "groups"))
}

// The kinds of entries, as labels.
var (
	learned   = pair("kind", "learned")
	static    = pair("kind", "static")
	permanent = pair("kind", "permanent")
	dynamic   = pair("kind", "dynamic")
	flood     = pair("kind", "flood")
)

// peers tells of single peers, and returns how many are left out. Those that
// nobody configured come last: they may be any number, and anybody's.
func (g *gatherer) peers(t *teller, s *vtep.Status) (left int) {
	told := 0
	for _, unasked := range []bool{false, true} {
		for i := range s.VNIs {
			name := s.VNIs[i].VNI.String()
			for k := range s.VNIs[i].Peers {
				p := &s.VNIs[i].Peers[k]
				if unasked != (p.Member || p.Stranger) {
					continue
				}
				if told++; told > g.Limit {
					left++
					continue
				}
				l := t.labelled(peerRxFrames, name, p.VTEP.String())
				t.tell(peerRxFrames, float64(p.RxFrames), l)
				t.tell(peerRxBytes, float64(p.RxBytes), l)
				t.tell(peerTxFrames, float64(p.TxFrames), l)
				t.tell(peerTxBytes, float64(p.TxBytes), l)
				if p.LastHeard != nil {
					t.tell(peerLastHeard, float64(*p.LastHeard), l)
				}
				if p.PathMTU != 0 {
					t.tell(peerPathMTU, float64(p.PathMTU), l)
				}
			}
		}
	}
	return left
}

// groups tells of single groups of group policy, and returns how many are left
// out.
func (g *gatherer) groups(t *teller, s *vtep.Status) (left int) {
	told := 0
	for i := range s.VNIs {
		name := s.VNIs[i].VNI.String()
		for _, group := range s.VNIs[i].Groups {
			if told++; told > g.Limit {
				left++
				continue
			}
			t.tell(policyRxFrames, float64(group.RxFrames), t.labelled(policyRxFrames, strconv.Itoa(int(group.Group)), name))
		}
	}
	return left
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// revision is the commit that the program was built from, if the build noted it.
func revision() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, s := range build.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return ""
}
