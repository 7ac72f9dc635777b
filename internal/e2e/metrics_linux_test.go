package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/vxlan"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var metricsURL = regexp.MustCompile(`"url": "(http://[^"]+)"`)

// scraper scrapes the program as Prometheus would, from within its namespace.
func (p *program) scraper() (scrape func() map[string]float64) {
	p.t.Helper()
	var url string
	eventually(p.t, func() error {
		m := metricsURL.FindStringSubmatch(p.stderr.String())
		if m == nil {
			return fmt.Errorf("no address of metrics in %q", p.stderr)
		}
		url = m[1]
		return nil
	})
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return p.ns.Dial(network, addr)
		},
	}}
	return func() map[string]float64 {
		p.t.Helper()
		resp, err := client.Get(url)
		must(p.t, err)
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			p.t.Fatalf("%s: %s", url, resp.Status)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(resp.Body)
		must(p.t, err)
		series := make(map[string]float64)
		for name, f := range families {
			for _, m := range f.GetMetric() {
				series[seriesName(name, m)] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return series
	}
}

// seriesName is name{label="value",...} as it was in the text.
func seriesName(name string, m *dto.Metric) string {
	var labels []string
	for _, l := range m.GetLabel() {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if labels == nil {
		return name
	}
	return name + "{" + strings.Join(labels, ",") + "}"
}

// counterSeries are the series that the counters of a status stand for.
func counterSeries(t *testing.T, vni string, counters any) map[string]float64 {
	t.Helper()
	text, err := json.Marshal(counters)
	must(t, err)
	var byName map[string]float64
	must(t, json.Unmarshal(text, &byName))
	series := make(map[string]float64)
	for name, n := range byName {
		direction, reason, dropped := strings.Cut(name, "_drop_")
		switch {
		case dropped:
			name = fmt.Sprintf(`govxlan_drops_total{direction=%q,reason=%q,vni=%q}`, direction, reason, vni)
		case vni == "":
			name = "govxlan_" + name + "_total"
		default:
			name = fmt.Sprintf(`govxlan_%s_total{vni=%q}`, name, vni)
		}
		series[name] = n
	}
	return series
}

// TestMetrics: what is scraped beside traffic is what status tells, and never
// goes back.
func TestMetrics(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, "metrics", 2, wiring{})
	a, b := hosts[0], hosts[1]
	a.quiet(t)
	b.quiet(t)
	p := up(t, a.Namespace, "--vni", "4097", "--peer", b.ip4.String(), "--addr", inner4A.String()+"/24", "--metrics", "127.0.0.1:0")
	up(t, b.Namespace, "--vni", "4097", "--peer", a.ip4.String(), "--addr", inner4B.String()+"/24")
	scrape := p.scraper()

	sent := make(chan error, 1)
	go func() { sent <- transfer(a.Namespace, b.Namespace, inner4B, 16<<20) }()
	before := scrape()
	for done := false; !done; {
		select {
		case err := <-sent:
			must(t, err)
			done = true
		default:
		}
		now := scrape()
		for name, was := range before {
			if strings.HasSuffix(strings.Split(name, "{")[0], "_total") && strings.HasPrefix(name, "govxlan_") && now[name] < was {
				t.Errorf("%s was %v and is %v", name, was, now[name])
			}
		}
		before = now
	}

	// Two that are dropped: one of no VNI, and one whose source cannot be.
	wire, err := b.Dial("udp", addrPort(a.ip4, vxlan.Port).String())
	must(t, err)
	defer wire.Close()
	_, err = wire.Write([]byte("rubbish"))
	must(t, err)
	header := make([]byte, vxlan.HeaderLen)
	vxlan.Header{VNI: 4097}.Put(header)
	_, err = wire.Write(append(header, testFrame(broadcast, broadcast, nil, 64, 1)...))
	must(t, err)

	eventually(t, func() error {
		s := p.status()
		v := s.VNIs[0]
		want := counterSeries(t, "", s.Counters)
		for name, n := range counterSeries(t, "4097", v.Counters) {
			want[name] = n
		}
		for _, peer := range v.Peers {
			of := fmt.Sprintf(`{vni="4097",vtep=%q}`, peer.VTEP)
			want["govxlan_peer_rx_frames_total"+of] = float64(peer.RxFrames)
			want["govxlan_peer_rx_bytes_total"+of] = float64(peer.RxBytes)
			want["govxlan_peer_tx_frames_total"+of] = float64(peer.TxFrames)
			want["govxlan_peer_tx_bytes_total"+of] = float64(peer.TxBytes)
		}
		want[`govxlan_fdb_entries{kind="learned",vni="4097"}`] = float64(v.FDB.Learned)
		want[`govxlan_fdb_limit{vni="4097"}`] = 65536
		want[`govxlan_up`] = 1
		got := scrape()
		for name, n := range want {
			if value, ok := got[name]; !ok || value != n {
				return fmt.Errorf("%s is %v (%v), status says %v", name, value, ok, n)
			}
		}
		if s.Counters.RxDropBadHeader != 1 || v.Counters.RxDropInvalidSource != 1 || v.Counters.RxBytes < 16<<20 || v.FDB.Learned != 1 {
			return fmt.Errorf("the traffic is not in the status: %+v %+v", s.Counters, v)
		}
		if heard, ok := got[fmt.Sprintf(`govxlan_peer_last_heard_seconds{vni="4097",vtep=%q}`, b.ip4)]; !ok || heard > patience.Seconds() {
			return fmt.Errorf("last heard %v, %v", heard, ok)
		}
		return nil
	})
}

// TestMetricsRefused: an address that cannot be had is told, and nothing is left.
func TestMetricsRefused(t *testing.T) {
	t.Parallel()
	a := newHosts(t, "metref", 2, wiring{})[0]
	taken, err := a.Listen("tcp", "127.0.0.1:9789")
	must(t, err)
	defer taken.Close()
	refused(t, a.Namespace, 1, []string{"--metrics 127.0.0.1:9789", "another process has this port"}, "--vni", "4097", "--metrics", "127.0.0.1:9789")
	refused(t, a.Namespace, 1, []string{"--metrics 192.0.2.7:9789", "not on this host"}, "--vni", "4097", "--metrics", "192.0.2.7:9789")
	refused(t, a.Namespace, 2, []string{`--metrics "9789"`, "give ADDR:PORT"}, "--vni", "4097", "--metrics", "9789")
	refused(t, a.Namespace, 2, []string{"--metrics-limit -1"}, "--vni", "4097", "--metrics", "127.0.0.1:0", "--metrics-limit", "-1")
}
