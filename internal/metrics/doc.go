// Package metrics serves an endpoint's figures to Prometheus.
//
// Nothing is counted here: each scrape reads one vtep.Status, so that the packet
// path does not know whether somebody scrapes. Handler answers over HTTP in the
// text format of Prometheus, or in OpenMetrics where the scraper asks for that.
// Families lists what there is; docs/metrics.md is held against it.
//
// Series of a VNI are as many as it has counters, whatever happens. Those of
// single peers and groups could be made to grow by strangers, so Config.Limit
// bounds them.
package metrics
