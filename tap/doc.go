// Package tap opens TAP devices, Ethernet devices of the host whose cable ends
// in this program, and reads and writes their frames in batches, together with
// the work that the network stack leaves undone: superframes of up to 64 KB and
// checksums that are only begun. Where the kernel offers that (Linux, through a
// virtio-net header in front of each frame), one system call moves 64 KB
// instead of 1.5.
//
// # In short
//
//	dev, err := tap.Open(tap.Config{Name: "vx4097", MTU: 1450, Offload: tap.AllFeatures})
//	...
//	defer dev.Close() // and the device is gone
//	var batch tap.Batch
//	for r := dev.Readers()[0]; r.Read(&batch) == nil; {
//		for _, f := range batch.Frames {
//			// f.Bytes is an Ethernet frame; f.Header says what it still wants.
//		}
//	}
//
// # The shape of frames
//
// A frame begins with its Ethernet header and has no frame check sequence; it
// is 14 to [MaxFrame] bytes long and may carry VLAN tags. Its [Header] is
// struct virtio_net_hdr. With Header.GSO set it is a superframe:
//
//	[Ethernet][IP][TCP or UDP][payload, to be cut every Header.SegmentBytes]
//
// that stands for as many frames, each with its own lengths, sequence number
// and checksums. [Splitter] makes them, at a fixed distance from each other and
// with room for a tunnel header in front:
//
//	[headroom][frame][headroom][frame]...[headroom][shorter frame]
//	|<---- Stride --->|
//
// With NeedsChecksum the checksum field holds the sum of the pseudo header
// only; [CompleteChecksum] does the rest. A frame leaves the host only when
// both are done.
//
// In the other direction [Coalescer] puts consecutive segments of a TCP
// connection, or datagrams of one flow and size, together to superframes, such
// that taking them apart gives the same frames in the same order, and a
// [Writer] hands those over. What is handed over need not lie in one piece: a
// [Vector] is a list of parts.
//
// # Devices
//
// [Open] makes a device: in another network namespace, with MTU, MAC,
// addresses, as a port of a bridge, with several queues. It touches one that
// exists only where Config.Adopt asks for that. The device disappears with Close,
// or with the process, however that ends, unless it persists ([Persistent]).
// [Inherit] goes on with the device of another process. With Config.Offload the device is opened directly; without, and on
// other systems than Linux, through songgao/water. A feature that the device
// lacks is done in software by its Writer, so callers need not look at
// [Features] but for speed.
//
// [Memory] is a device without a kernel, for tests and examples.
//
// # Buffers
//
// The frames of a [Batch] are valid until the next Read into it, and may be
// written to. Writers and the Splitter keep nothing; the Coalescer keeps what
// it was given, and writes into its headers, until Reset. Reading, writing,
// splitting and coalescing allocate nothing but what they first grow to: 256 KB
// for a Batch that has frames in it; a Reader that waits holds none.
//
// # Goroutines
//
// A [Reader] or [Writer] serves one goroutine, as do Batch, Splitter and
// Coalescer; make one for each. Readers are the queues of the device: the
// kernel keeps the frames of a flow on one. Close may be called by anybody at
// any time, and ends every Read with net.ErrClosed. A Read that ends with
// another error says that the device was deleted by somebody else.
//
// # Limits
//
// IPv6 packets with extension headers, IPv4 options, fragments, frames with more
// than two VLAN tags and frames with wrong checksums are never coalesced; they
// pass as they are. Superframes of tunnelled packets are not asked for.
package tap
