package metrics

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// enough is a Config.Limit that nothing here reaches.
const enough = 1000

// still is a Source that never changes.
type still vtep.Status

func (s still) Status(...vxlan.VNI) vtep.Status { return vtep.Status(s) }

// numbered sets the counters of a struct to from, from+1, ...
func numbered[T any](from uint64) (counters T) {
	v := reflect.ValueOf(&counters).Elem()
	for i := range v.NumField() {
		v.Field(i).SetUint(from + uint64(i))
	}
	return counters
}

// full is a status in which there is something of everything.
func full() vtep.Status {
	heard := vtep.Seconds(0.5)
	return vtep.Status{
		Local: "192.168.52.203", Port: 4789, Transport: "udp", Uptime: 12.5, Running: true, Workers: 2, IO: "io_uring",
		Counters: numbered[vtep.EndpointCounters](1000),
		VNIs: []vtep.VNIStatus{{
			VNI: 4097, Device: "vx4097", MAC: vxlan.MAC{2}, MTU: 1450, Queues: 8, VLAN: 7, ARP: "proxy", Neighbours: 3,
			Offload: "checksum,tso4", FDB: vtep.FDBStatus{Learned: 1, Static: 2, Permanent: 3, Dynamic: 4, Flood: 5, Limit: 65536},
			Peers: []vtep.PeerStatus{
				{VTEP: netip.MustParseAddr("192.168.52.204"), LastHeard: &heard, RxFrames: 1, RxBytes: 2, TxFrames: 3, TxBytes: 4, PathMTU: 1400},
				{VTEP: netip.MustParseAddr("fd00::205")},
			},
			Multicast: []vtep.MulticastStatus{{Group: netip.MustParseAddr("239.1.1.1"), Port: 4789, Device: "ens160", Joined: true, Joins: 2, TxFrames: 5, TxBytes: 6}},
			Groups:    []vtep.GroupStatus{{Group: 3, RxFrames: 9}},
			Counters:  numbered[vtep.Counters](1),
		}},
	}
}

// gathering is what a scrape gathers, checked as a registry would check it.
func gathering(s vtep.Status, limit int) prometheus.Gatherer {
	return prometheus.Gatherers{&gatherer{Config{Source: still(s), Version: "test", Limit: limit}, prometheus.NewRegistry()}}
}

// TestLint: names and help are as Prometheus wants them.
func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(gathering(full(), enough))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// What the linter would say of a mistake, lest it say nothing of anything.
	bad, err := promlint.New(strings.NewReader("# TYPE frames counter\nframes 1\n")).Lint()
	if err != nil || len(bad) == 0 {
		t.Errorf("the linter takes a counter without _total and help: %v", err)
	}
}

// TestEveryFamily: all that is told is in Families, and all in Families is told
// of an endpoint that has everything.
func TestEveryFamily(t *testing.T) {
	told, err := gathering(full(), 1).Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, f := range told {
		got = append(got, f.GetName())
	}
	for _, f := range Families() {
		want = append(want, f.Name)
		if !slices.IsSorted(f.Labels) {
			t.Errorf("%s: labels %q are not in order", f.Name, f.Labels)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("families, documented (-), told (+):\n%s", diff)
	}
}

// TestEveryCounterHasHelp: a counter that is new in vtep wants a line in help.
func TestEveryCounterHasHelp(t *testing.T) {
	for _, counters := range []any{vtep.Counters{}, vtep.EndpointCounters{}} {
		c := reflect.TypeOf(counters)
		for i := range c.NumField() {
			name := c.Field(i).Tag.Get("json")
			if !strings.Contains(name, "_drop_") && help()[name] == "" {
				t.Errorf("no help for %s.%s, %q in JSON", c, c.Field(i).Name, name)
			}
		}
	}
}

// TestEveryCounterIsTold: each counter of vtep comes out with its value, once.
func TestEveryCounterIsTold(t *testing.T) {
	s := full()
	// Numbers that nothing else has.
	s.Counters, s.VNIs[0].Counters = numbered[vtep.EndpointCounters](70000), numbered[vtep.Counters](80000)
	families, err := gathering(s, enough).Gather()
	if err != nil {
		t.Fatal(err)
	}
	told := make(map[float64]int)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			told[m.GetCounter().GetValue()]++
		}
	}
	check := func(from, n int) {
		for i := from; i < from+n; i++ {
			if told[float64(i)] != 1 {
				t.Errorf("counter %d is told %d times", i, told[float64(i)])
			}
		}
	}
	check(70000, reflect.TypeFor[vtep.EndpointCounters]().NumField())
	check(80000, reflect.TypeFor[vtep.Counters]().NumField())
}

// scrape gets the text of an endpoint.
func scrape(t *testing.T, s vtep.Status, limit int, accept string) (text string, header http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, Path, nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	NewHandler(Config{Source: still(s), Version: "1.2.3", Limit: limit}).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String(), w.Header()
}

func TestText(t *testing.T) {
	text, header := scrape(t, full(), enough, "")
	if got := header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", got)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(text)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`govxlan_up 1`,
		`govxlan_endpoint_info{io="io_uring",local="192.168.52.203",port="4789",transport="udp"} 1`,
		`govxlan_rx_frames_total{vni="4097"} 1`,
		`govxlan_rx_bytes_total{vni="4097"} 2`,
		`govxlan_drops_total{direction="rx",reason="bad_header",vni=""} 1000`,
		fmt.Sprintf(`govxlan_drops_total{direction="rx",reason="unknown_vtep",vni="4097"} %d`, full().VNIs[0].Counters.RxDropUnknownVTEP),
		`govxlan_peer_tx_bytes_total{vni="4097",vtep="192.168.52.204"} 4`,
		`govxlan_peer_last_heard_seconds{vni="4097",vtep="192.168.52.204"} 0.5`,
		`govxlan_peer_path_mtu_bytes{vni="4097",vtep="192.168.52.204"} 1400`,
		`govxlan_peer_rx_frames_total{vni="4097",vtep="fd00::205"} 0`,
		`govxlan_fdb_entries{kind="flood",vni="4097"} 5`,
		`govxlan_fdb_limit{vni="4097"} 65536`,
		`govxlan_vni_info{arp="proxy",device="vx4097",mac="02:00:00:00:00:00",offload="checksum,tso4",vlan="7",vni="4097"} 1`,
		`govxlan_multicast_joined{device="ens160",group="239.1.1.1",port="4789",vni="4097"} 1`,
		`govxlan_group_policy_rx_frames_total{group="3",vni="4097"} 9`,
		`# TYPE go_goroutines gauge`,
		`# TYPE process_resident_memory_bytes gauge`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	for _, unwanted := range []string{
		// Of a peer that was never heard of, and whose path is not known.
		`govxlan_peer_last_heard_seconds{vni="4097",vtep="fd00::205"}`,
		`govxlan_peer_path_mtu_bytes{vni="4097",vtep="fd00::205"}`,
	} {
		if strings.Contains(text, unwanted) {
			t.Errorf("there is %s", unwanted)
		}
	}
	if !strings.Contains(text, `govxlan_build_info{goversion="go`) || !strings.Contains(text, `version="1.2.3"} 1`) {
		t.Error("no govxlan_build_info")
	}
}

func TestOpenMetrics(t *testing.T) {
	text, header := scrape(t, full(), enough, "application/openmetrics-text; version=1.0.0")
	if got := header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("content type %q", got)
	}
	if !strings.HasSuffix(text, "# EOF\n") || !strings.Contains(text, "# TYPE govxlan_drops counter\n") {
		t.Errorf("no OpenMetrics: %s", text[max(0, len(text)-200):])
	}
}

// TestLimit: the limit holds over all VNIs, and those that nobody configured go
// first.
func TestLimit(t *testing.T) {
	s := full()
	one := s.VNIs[0]
	address := netip.MustParseAddr
	one.Peers = []vtep.PeerStatus{
		{VTEP: address("10.0.0.1"), Stranger: true}, {VTEP: address("10.0.0.2")}, {VTEP: address("10.0.0.3"), Member: true},
	}
	one.Groups = []vtep.GroupStatus{{Group: 1}, {Group: 2}, {Group: 3}}
	two := one
	two.VNI = 4098
	s.VNIs = []vtep.VNIStatus{one, two}
	for _, tt := range []struct {
		limit         int
		peers, groups []string
	}{
		{0, nil, nil},
		{1, []string{"4097 10.0.0.2"}, []string{"4097 1"}},
		{3, []string{"4097 10.0.0.1", "4097 10.0.0.2", "4098 10.0.0.2"}, []string{"4097 1", "4097 2", "4097 3"}},
		{6, []string{
			"4097 10.0.0.1", "4097 10.0.0.2", "4097 10.0.0.3", "4098 10.0.0.1", "4098 10.0.0.2", "4098 10.0.0.3",
		}, []string{"4097 1", "4097 2", "4097 3", "4098 1", "4098 2", "4098 3"}},
	} {
		families, err := gathering(s, tt.limit).Gather()
		if err != nil {
			t.Fatal(err)
		}
		series := make(map[string][]string)
		left := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				labels := make(map[string]string)
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				series[f.GetName()] = append(series[f.GetName()], labels["vni"]+" "+labels["vtep"]+labels["group"])
				if f.GetName() == leftOut.Name {
					left[labels["of"]] = m.GetGauge().GetValue()
				}
			}
		}
		for _, c := range []struct {
			family string
			want   []string
			of     string
		}{{peerRxFrames.Name, tt.peers, "peers"}, {policyRxFrames.Name, tt.groups, "groups"}} {
			got := series[c.family]
			slices.Sort(got)
			if !slices.Equal(got, c.want) || left[c.of] != float64(6-len(c.want)) {
				t.Errorf("limit %d: %s of %q, want %q; %v %s left out", tt.limit, c.family, got, c.want, left[c.of], c.of)
			}
		}
	}
}

func TestListenSaysWhatToDo(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for addr, want := range map[string]string{
		l.Addr().String():    "another process has this port",
		"192.0.2.7:9789":     "this address is not on this host",
		"nowhere.invalid:99": "give an address of this host",
	} {
		if _, err := Listen(addr); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), addr) {
			t.Errorf("%s: %v, want %q", addr, err, want)
		}
	}
}

func TestServe(t *testing.T) {
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, l, NewHandler(Config{Source: still(full())})) }()
	for _, tt := range []struct {
		method, path string
		status       int
		body         string
	}{
		{http.MethodGet, Path, http.StatusOK, "govxlan_up 1\n"},
		{http.MethodGet, "/", http.StatusOK, "metrics are at /metrics"},
		{http.MethodGet, "/v1/status", http.StatusNotFound, ""},
		{http.MethodPost, Path, http.StatusMethodNotAllowed, ""},
	} {
		r, err := http.NewRequest(tt.method, "http://"+l.Addr().String()+tt.path, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.body) {
			t.Errorf("%s %s: %s, %v, %.100s", tt.method, tt.path, resp.Status, err, body)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("the port is open after the end")
	}
	// What fails by itself is an error.
	if l, err = Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Serve(t.Context(), l, http.NotFoundHandler()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("with a closed listener: %v", err)
	}
}

// slow is a Source that takes its time.
type slow struct{ asked, told chan struct{} }

func (s slow) Status(...vxlan.VNI) vtep.Status {
	s.asked <- struct{}{}
	<-s.told
	return full()
}

// TestScrapersAtOnce: too many of them are turned away, and nobody waits.
func TestScrapersAtOnce(t *testing.T) {
	s := slow{make(chan struct{}), make(chan struct{})}
	h := NewHandler(Config{Source: s})
	scrape := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
		return w.Code
	}
	codes := make(chan int)
	for range scrapesAtOnce {
		go func() { codes <- scrape() }()
		<-s.asked
	}
	if code := scrape(); code != http.StatusServiceUnavailable {
		t.Errorf("one too many: status %d", code)
	}
	close(s.told)
	for range scrapesAtOnce {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("status %d", code)
		}
	}
	go func() { <-s.asked }()
	if code := scrape(); code != http.StatusOK {
		t.Errorf("afterwards: status %d", code)
	}
}

// BenchmarkScrape is one scrape of an endpoint of so many VNIs, with four peers
// each, the text included.
func BenchmarkScrape(b *testing.B) {
	for _, n := range []int{1, 100, 10000} {
		b.Run(fmt.Sprintf("%d VNIs", n), func(b *testing.B) {
			s := full()
			one := s.VNIs[0]
			one.Peers = nil
			for i := range 4 {
				one.Peers = append(one.Peers, vtep.PeerStatus{VTEP: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})})
			}
			s.VNIs = nil
			for i := range n {
				one.VNI = vxlan.VNI(i)
				s.VNIs = append(s.VNIs, one)
			}
			h := NewHandler(Config{Source: still(s), Limit: enough})
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, Path, nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
				b.ReportMetric(float64(strings.Count(w.Body.String(), "\n")), "lines")
			}
		})
	}
}
