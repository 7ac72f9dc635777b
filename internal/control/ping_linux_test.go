package control

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

// servePair serves one of two endpoints in memory, both with VNI 10.
func servePair(t *testing.T) (path string, far netip.AddrPort) {
	t.Helper()
	underlay := transport.NewNetwork(transport.NetworkConfig{MTU: 1472})
	at := []netip.AddrPort{netip.MustParseAddrPort("192.168.52.203:4789"), netip.MustParseAddrPort("192.168.52.204:4789")}
	for i, a := range at {
		conn, err := underlay.Listen(a)
		must(t, err)
		e, err := vtep.New(vtep.Config{Conn: conn})
		must(t, err)
		must(t, e.AddVNI(vtep.VNIConfig{VNI: 10, Device: tap.NewMemory(tap.MemoryConfig{Name: "vx10"}), Peers: at[1-i : 2-i]}))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			must(t, <-ended)
		})
		if i == 0 {
			path = serve(t, e)
		}
	}
	return path, at[1]
}

// TestPing: every kind of line, and each as the contract has it.
func TestPing(t *testing.T) {
	path, far := servePair(t)
	doc := contract(t)
	c := NewClient(path)
	body := `{"vtep":"` + far.Addr().String() + `","count":3,"interval_ms":5,"size":100,"most_mtu":1600,"burst":4}`
	conforms(t, "request", doc.Paths.Value("/v1/ping").Post.RequestBody.Value.Content.Get("application/json"), []byte(body))
	resp, err := c.do(t.Context(), &c.http, http.MethodPost, "/v1/ping", nil, []byte(body))
	must(t, err)
	defer resp.Body.Close()
	media := mediaOf(t, doc, "POST", "/v1/ping", resp)
	var kinds []string
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		conforms(t, "line", media, s.Bytes())
		var e PingEvent
		must(t, json.Unmarshal(s.Bytes(), &e))
		switch {
		case e.Start != nil:
			kinds = append(kinds, "start")
			if *e.Start != (PingStart{far.Addr(), far.Port(), 10}) {
				t.Errorf("start %+v", e.Start)
			}
		case e.Probe != nil:
			kinds = append(kinds, "probe")
			if e.Probe.RTT == nil || e.Probe.Came != 100 || e.Probe.Size != 100 {
				t.Errorf("probe %+v", e.Probe)
			}
		case e.Summary != nil:
			kinds = append(kinds, "summary")
			if e.Summary.Sent != 3 || e.Summary.Received != 3 {
				t.Errorf("summary %+v", e.Summary)
			}
		case e.MTU != nil:
			kinds = append(kinds, "mtu")
			if *e.MTU != (ping.MTU{There: 1500, Back: 1500, Tried: 1600}) {
				t.Errorf("MTU %+v", e.MTU)
			}
		case e.Burst != nil:
			kinds = append(kinds, "burst")
			if *e.Burst != 4 {
				t.Errorf("%d of a train answered, want 4", *e.Burst)
			}
		}
	}
	if got := strings.Join(kinds, " "); got != "start probe probe probe summary mtu burst" {
		t.Errorf("lines: %s", got)
	}
}

func TestPingRefuses(t *testing.T) {
	path, far := servePair(t)
	c := NewClient(path)
	good := Ping{VTEP: far.Addr(), Count: 1, Interval: 5, Size: 100}
	for word, change := range map[string]func(*Ping){
		"size 59":         func(p *Ping) { p.Size = 59 },
		"size 65500":      func(p *Ping) { p.Size = 65500 },
		"interval_ms 4":   func(p *Ping) { p.Interval = 4 },
		"count -2":        func(p *Ping) { p.Count = -2 },
		"wait_ms":         func(p *Ping) { p.Wait = 1e6 },
		"answer_size 101": func(p *Ping) { p.AnswerSize = 101 },
		"burst 65":        func(p *Ping) { p.Burst = 65 },
		"most_mtu":        func(p *Ping) { p.MostMTU = 1 << 20 },
		"one VTEP":        func(p *Ping) { p.VTEP = netip.MustParseAddr("239.1.1.1") },
		"no such VNI":     func(p *Ping) { v := vxlan.VNI(11); p.VNI = &v },
		"no such peer":    func(p *Ping) { p.VTEP = netip.MustParseAddr("192.168.52.9") },
		"vtep invalid IP": func(p *Ping) { p.VTEP = netip.Addr{} },
	} {
		p := good
		change(&p)
		err := c.Ping(t.Context(), p, func(PingEvent) { t.Errorf("%s: an event", word) })
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	must(t, c.Ping(t.Context(), good, func(PingEvent) {}))
}

// TestPingEndsWithItsClient: one without end leaves room for others.
func TestPingEndsWithItsClient(t *testing.T) {
	path, far := servePair(t)
	c := NewClient(path)
	for range 2 * mostStreams {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := c.Ping(ctx, Ping{VTEP: far.Addr(), Interval: 5, Size: 100}, func(e PingEvent) {
			if n++; n == 2 {
				cancel()
			}
		})
		if err != context.Canceled {
			t.Fatalf("ping ended with %v", err)
		}
	}
}
