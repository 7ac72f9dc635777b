package traffic

import (
	"net/netip"
	"time"
)

// Role is what a job does.
type Role string

// The roles. Those that serve say their port as soon as they listen.
const (
	// TCPReceive accepts Streams connections and counts what arrives for
	// Duration, beginning Warmup after the last one was accepted. Then it ends,
	// and by that its sender.
	TCPReceive Role = "tcp-receive"
	// TCPSend opens Streams connections to Addr and writes until the receiver
	// closes them.
	TCPSend Role = "tcp-send"
	// UDPReceive counts datagrams until its standard input is closed.
	// What it counted in Duration, beginning Warmup after the first one, comes
	// in Bytes and Datagrams; Total is all of them. It says when that time is
	// over, also when nothing has come for 5 s.
	UDPReceive Role = "udp-receive"
	// UDPSend sends datagrams of Bytes bytes to Addr until its standard input
	// is closed, but no longer than Duration.
	UDPSend Role = "udp-send"
	// Respond answers each byte of one TCP connection with a byte.
	Respond Role = "respond"
	// Request sends a byte, waits for the answer, and repeats that for Duration.
	Request Role = "request"
	// Ping sends ICMP echo requests to Addr every Interval for Duration.
	Ping Role = "ping"
)

// Job is one process's work. Which fields matter is said at the roles.
type Job struct {
	Role Role `json:"role"`
	// Addr is where to listen or send to. A server's port is 0: any.
	Addr    netip.AddrPort `json:"addr"`
	Streams int            `json:"streams,omitempty"`
	// Bytes is the payload of a datagram, at least 8.
	Bytes int `json:"bytes,omitempty"`
	// Rate is how many datagrams a second are sent. 0: as many as go.
	Rate     float64       `json:"rate,omitempty"`
	Warmup   time.Duration `json:"warmup,omitempty"`
	Duration time.Duration `json:"duration,omitempty"`
	Interval time.Duration `json:"interval,omitempty"`
	// Watch are processes whose processor time is measured over the window.
	Watch []int `json:"watch,omitempty"`
}

// Message is one line, in JSON, of a job's standard output: its port once it
// listens, and its result at the end.
type Message struct {
	Port uint16 `json:"port,omitempty"`
	// Counted: the time in which a UDPReceive counts is over.
	Counted bool    `json:"counted,omitempty"`
	Result  *Result `json:"result,omitempty"`
	Error   string  `json:"error,omitempty"`
}

// Result is what a job measured.
type Result struct {
	// Seconds is the length of the window in which everything else was
	// measured but Total.
	Seconds   float64  `json:"seconds"`
	Bytes     uint64   `json:"bytes,omitempty"` // payload
	Datagrams uint64   `json:"datagrams,omitempty"`
	Total     uint64   `json:"total,omitempty"` // datagrams of the whole job
	CPU       CPU      `json:"cpu"`
	Latency   *Latency `json:"latency,omitempty"`
}

// CPU is processor time in seconds.
type CPU struct {
	Machine float64 `json:"machine"` // all cores, all that is not idle
	Watched float64 `json:"watched"` // the processes of Job.Watch
}

// Sub returns what was spent since an earlier reading.
func (c CPU) Sub(earlier CPU) CPU {
	return CPU{c.Machine - earlier.Machine, c.Watched - earlier.Watched}
}

// Latency sums up round trips; times are in microseconds.
type Latency struct {
	Count int     `json:"count"`
	Lost  int     `json:"lost"`
	Mean  float64 `json:"mean_us"`
	P50   float64 `json:"p50_us"`
	P99   float64 `json:"p99_us"`
	Max   float64 `json:"max_us"`
}
