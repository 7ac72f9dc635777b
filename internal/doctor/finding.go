package doctor

import (
	"net/netip"

	"github.com/govxlan/govxlan/vxlan"
)

// State is how a check ended.
type State string

const (
	// OK: as it should be.
	OK State = "ok"
	// Warn: something works worse than it could, or may not work.
	Warn State = "warn"
	// Fail: something does not work.
	Fail State = "fail"
	// Skip: it could not be checked, or there was no need.
	Skip State = "skip"
)

// Finding is the result of one check.
type Finding struct {
	// Check is its name.
	Check string `json:"check"`
	State State  `json:"state"`
	// Peer and VNI are what it is about, if it is not the host as a whole.
	Peer netip.Addr `json:"peer,omitzero"`
	VNI  *vxlan.VNI `json:"vni,omitempty"`
	// Text is one sentence.
	Text string `json:"text"`
	// Command mends it; words between angle brackets are to be replaced.
	Command string `json:"command,omitempty"`
	// On is the host that the command is for; the zero Addr: this one.
	On netip.Addr `json:"on,omitzero"`
}

// Report is all that was found, in the order of the checks.
type Report struct {
	// Endpoint says whether one runs here.
	Endpoint bool      `json:"endpoint"`
	Findings []Finding `json:"findings"`
	Warnings int       `json:"warnings"`
	Failures int       `json:"failures"`
	// OK: there was no failure.
	OK bool `json:"ok"`
}

// add takes a finding in.
func (r *Report) add(f Finding) {
	r.Findings = append(r.Findings, f)
	switch f.State {
	case Warn:
		r.Warnings++
	case Fail:
		r.Failures++
	}
	r.OK = r.Failures == 0
}
