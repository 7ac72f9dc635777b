package bench

import "github.com/govxlan/govxlan/bench/report"

// test is what one step of a round does, and the measures that it gives, the
// most telling first.
type test struct {
	name     string
	about    string
	measures []report.Measure
}

// parts of a test: "" for its main figure.
func describe(name, about string, parts ...report.Measure) test {
	t := test{name: name, about: about}
	for _, m := range parts {
		m.Test = name
		if m.ID == "" {
			m.ID = name
		} else {
			m.ID = name + "." + m.ID
		}
		t.measures = append(t.measures, m)
	}
	return t
}

func tcpTest(name, about string) test {
	return describe(name, about,
		report.Measure{Title: about, Unit: "Gb/s", Better: report.Higher},
		report.Measure{ID: "cpu", Title: "  CPU, machine", Unit: "s/GB", Better: report.Lower},
		report.Measure{ID: "cpu-endpoints", Title: "  CPU, endpoint processes", Unit: "s/GB", Better: report.Lower},
	)
}

func latencyParts(lost bool) []report.Measure {
	parts := []report.Measure{
		{ID: "avg", Title: "average", Unit: "us", Better: report.Lower},
		{ID: "p50", Title: "p50", Unit: "us", Better: report.Lower},
		{ID: "p99", Title: "p99", Unit: "us", Better: report.Lower},
	}
	if lost {
		parts = append(parts, report.Measure{ID: "lost", Title: "lost", Unit: "%", Better: report.Lower})
	}
	return parts
}

func titled(prefix string, parts []report.Measure) []report.Measure {
	for i := range parts {
		parts[i].Title = prefix + ", " + parts[i].Title
	}
	return parts
}

// tests in the order of a round. Memory is last: it is what the load has left.
var tests = []test{
	tcpTest("tcp1", "TCP, 1 stream"),
	tcpTest("tcp1-rev", "TCP, 1 stream, B to A"),
	tcpTest("tcp4", "TCP, 4 streams"),
	tcpTest("tcp4-rev", "TCP, 4 streams, B to A"),
	describe("udp64", "UDP of 64 bytes, as many as the sender can",
		report.Measure{Title: "UDP 64 B, received", Unit: "kpps", Better: report.Higher},
		report.Measure{ID: "loss", Title: "  lost", Unit: "%", Better: report.Lower}),
	describe("udp64-max", "the highest rate of UDP of 64 bytes with at most 1 % lost",
		report.Measure{Title: "UDP 64 B with <= 1 % lost", Unit: "kpps", Better: report.Higher}),
	describe("udp1400", "UDP of 1400 bytes, as many as the sender can",
		report.Measure{Title: "UDP 1400 B, received", Unit: "Gb/s", Better: report.Higher},
		report.Measure{ID: "loss", Title: "  lost", Unit: "%", Better: report.Lower}),
	describe("ping", "ICMP echo, nothing else under way", titled("ping", latencyParts(true))...),
	describe("ping-load", "ICMP echo during a TCP stream in the same direction", titled("ping in TCP", latencyParts(true))...),
	describe("rr", "a byte there, a byte back, over one TCP connection",
		report.Measure{Title: "request/response", Unit: "1/s", Better: report.Higher},
		report.Measure{ID: "p50", Title: "  p50", Unit: "us", Better: report.Lower},
		report.Measure{ID: "p99", Title: "  p99", Unit: "us", Better: report.Lower}),
	describe("idle", "what the endpoints do while nothing is asked of them",
		report.Measure{Title: "idle, wake-ups of an endpoint", Unit: "1/s", Better: report.Lower},
		report.Measure{ID: "cpu", Title: "  CPU of an endpoint", Unit: "%", Better: report.Lower}),
	describe("memory", "resident memory of the endpoint processes, as the load left it",
		report.Measure{Title: "memory of an endpoint", Unit: "MB", Better: report.Lower}),
}

// TestNames are all tests in their order.
func TestNames() []string {
	var names []string
	for _, t := range tests {
		names = append(names, t.name)
	}
	return names
}

// Describe says in a few words what a test does.
func Describe(name string) string {
	for _, t := range tests {
		if t.name == name {
			return t.about
		}
	}
	return ""
}
