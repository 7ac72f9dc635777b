package vtep

import "fmt"

// Datapath chooses who carries the frames of known stations.
type Datapath uint8

const (
	// DatapathAuto: programs in the kernel where the kernel and the rights of the
	// process allow it, else the endpoint itself.
	DatapathAuto Datapath = iota
	// DatapathUser: the endpoint.
	DatapathUser
	// DatapathEBPF: programs in the kernel; New fails where that cannot be.
	DatapathEBPF
)

var datapaths = [...]string{"auto", "user", "ebpf"}

// String returns the name as the command line has it.
func (d Datapath) String() string {
	if int(d) >= len(datapaths) {
		return fmt.Sprintf("datapath %d", uint8(d))
	}
	return datapaths[d]
}

// ParseDatapath is the opposite of String.
func ParseDatapath(s string) (Datapath, bool) {
	for d, name := range datapaths {
		if s == name {
			return Datapath(d), true
		}
	}
	return 0, false
}

// DatapathError is why DatapathEBPF cannot be.
type DatapathError struct{ Err error }

func (e *DatapathError) Error() string { return "datapath ebpf: " + e.Err.Error() }
func (e *DatapathError) Unwrap() error { return e.Err }

// DatapathStatus says who carries the frames of known stations.
type DatapathStatus struct {
	Datapath string `json:"datapath"` // user or ebpf
	// Reason why it is the endpoint itself; empty when that was asked for.
	Reason string `json:"datapath_reason,omitempty"`
}

// byEndpoint notes that the endpoint itself carries the VNI's frames, and why.
func (o *overlay) byEndpoint(reason string) {
	o.accelerated = false
	o.datapath.Store(&DatapathStatus{Datapath: DatapathUser.String(), Reason: reason})
}

// byPrograms notes that programs carry them, of stations that are known.
func (o *overlay) byPrograms() {
	o.accelerated = true
	o.datapath.Store(&DatapathStatus{Datapath: DatapathEBPF.String()})
}

// leaveToEndpoint has the programs carry a VNI no longer. e.mu is held.
func (e *Endpoint) leaveToEndpoint(o *overlay, reason string) {
	e.accel.remove(o)
	o.accel = nil
	o.byEndpoint(reason)
	e.listen(o, e.watching() != nil)
}

// ProgramsStatus are the programs at the ingress of a device of the underlay, in
// the order in which they see packets. Ours is decapsulate.
type ProgramsStatus struct {
	Device   string   `json:"device"`
	Programs []string `json:"programs"`
}

// String is the datapath with the reason, if there is one.
func (s DatapathStatus) String() string {
	if s.Reason == "" {
		return s.Datapath
	}
	return s.Datapath + ": " + s.Reason
}
