package config

import (
	"strings"
	"testing"
)

func TestMetrics(t *testing.T) {
	for _, tt := range []struct{ addr, limit, err string }{
		{"", "", ""},
		{"127.0.0.1:9789", "", ""},
		{":9789", "0", ""},
		{"[::1]:9789", "16777216", ""},
		{"localhost:0", "", ""},
		{"0.0.0.0:65535", "", ""},
		{"9789", "", `--metrics "9789": give ADDR:PORT, such as 127.0.0.1:9789`},
		{"127.0.0.1", "", `--metrics "127.0.0.1": give ADDR:PORT`},
		{"127.0.0.1:", "", "give ADDR:PORT"},
		{"127.0.0.1:http", "", "give ADDR:PORT"},
		{"127.0.0.1:65536", "", "give ADDR:PORT"},
		{"::1:9789", "", "give ADDR:PORT"},
		{"", "-1", "--metrics-limit -1: give how many peers may have metrics of their own, 0 for none"},
		{"", "16777217", "--metrics-limit 16777217: give how many"},
	} {
		typed := Values{"vni": {Texts: []string{"7"}}}
		if tt.addr != "" {
			typed["metrics"] = Value{Texts: []string{tt.addr}}
		}
		if tt.limit != "" {
			typed["metrics-limit"] = Value{Texts: []string{tt.limit}}
		}
		c, err := New(typed, nil)
		switch {
		case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), "--metrics") || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("--metrics %q --metrics-limit %q: %v, want %q", tt.addr, tt.limit, err, tt.err)
		case err == nil && (c.Endpoint.Metrics != tt.addr || tt.limit == "" && c.Endpoint.MetricsLimit != 1000):
			t.Errorf("--metrics %q: %q, limit %d", tt.addr, c.Endpoint.Metrics, c.Endpoint.MetricsLimit)
		}
	}
	// In a file, as a key of the whole.
	f, err := Parse("x.yaml", []byte("metrics: 127.0.0.1:9789\nmetrics-limit: 5\nvnis:\n  - vni: 7\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(nil, f)
	if err != nil || c.Endpoint.Metrics != "127.0.0.1:9789" || c.Endpoint.MetricsLimit != 5 {
		t.Errorf("from a file: %+v, %v", c, err)
	}
	if _, err := Parse("x.yaml", []byte("vnis:\n  - vni: 7\n    metrics: 127.0.0.1:9789\n")); err == nil || !strings.HasPrefix(err.Error(), "x.yaml:3:5: metrics is for the endpoint as a whole") {
		t.Errorf("of one VNI: %v", err)
	}
}
