package config

import (
	"net"
	"strconv"
)

// mostSeries is what --metrics-limit takes.
const mostSeries = 1 << 24

// metrics checks where metrics are served, and how many.
func (e *Endpoint) metrics() error {
	if e.Metrics = e.Text("metrics"); e.Metrics != "" {
		_, port, err := net.SplitHostPort(e.Metrics)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return e.Errorf("metrics", "%q: give ADDR:PORT, such as 127.0.0.1:9789", e.Metrics)
		}
	}
	n, err := e.number("metrics-limit", 0, mostSeries)
	if err != nil {
		return e.Errorf("metrics-limit", "%s: give how many peers may have metrics of their own, 0 for none", e.Text("metrics-limit"))
	}
	e.MetricsLimit = int(n)
	return nil
}
