package datapath

import (
	"errors"
	"fmt"
	"structs"

	"github.com/cilium/ebpf"
)

// Verdicts of the programs (include/uapi/linux/bpf.h, enum tcx_action_base;
// pkt_cls.h).
const (
	verdictNext     = 0xFFFFFFFF
	verdictRedirect = 7
)

// context is struct __sk_buff, as far as a trial can set it.
type context struct {
	_        structs.HostLayout
	_        [10]uint32
	Ifindex  uint32
	_        [30]uint32
	GsoSegs  uint32
	_        [2]uint32
	GsoSize  uint32
	TstampEt uint32
	_        uint64
}

// TrySend is what the programs would do with a frame that leaves a TAP
// (BPF_PROG_TEST_RUN): carried says whether they would send it, and packet what,
// Ethernet header first, whose addresses are still those of the frame. Otherwise
// the frame would go on to the endpoint. Nothing is sent; counters count.
func (p *Path) TrySend(device uint32, frame []byte) (packet []byte, carried bool, err error) {
	return try(p.objects.Encapsulate, device, frame)
}

// TryReceive is what they would do with a packet that arrives on the underlay,
// Ethernet header first: frame is what the TAP would get.
func (p *Path) TryReceive(packet []byte) (frame []byte, carried bool, err error) {
	return try(p.objects.Decapsulate, 1, packet)
}

func try(program *ebpf.Program, device uint32, in []byte) (out []byte, carried bool, err error) {
	options := ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+256), Context: &context{Ifindex: device}}
	verdict, err := program.Run(&options)
	if err != nil {
		return nil, false, fmt.Errorf("run: %w", err)
	}
	switch verdict {
	case verdictNext:
		return nil, false, nil
	case verdictRedirect:
		return options.DataOut, true, nil
	}
	return nil, false, errors.New("the program dropped it")
}
