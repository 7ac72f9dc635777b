package tap

import "sync"

const (
	// slabBytes holds a batch. Past slabBytes-MaxFrame the next frame might
	// not fit any more, so a batch is at least 2 superframes, or 128 frames of
	// 1000 bytes.
	slabBytes = 192 << 10
	// batchFrames bounds the frames of one batch, and by that the time that
	// the first of them waits for the last.
	batchFrames = 128
)

type slab [slabBytes]byte

// slabs are shared by all readers: one that waits for its next frame holds
// none, so that thousands of idle devices cost no buffers.
var slabs = sync.Pool{New: func() any { return new(slab) }}

// Batch is what one Read returned. Its zero value is ready for use. The frames
// are valid until the next Read into it; the reader owns their memory, but the
// caller may write to it.
type Batch struct {
	Frames []Frame
	// Short is how many frames more there were, too short to have an Ethernet
	// header.
	Short int

	slab *slab
	used int
}

// reset forgets the frames, keeping the slab if there is one.
func (b *Batch) reset() {
	b.Frames, b.Short = b.Frames[:0], 0
	b.used = 0
}

// acquire makes sure there is a slab to read into.
func (b *Batch) acquire() {
	if b.slab == nil {
		b.slab = slabs.Get().(*slab)
	}
}

// release gives the slab back: nothing was read, and nothing may come for long.
func (b *Batch) release() {
	if b.slab != nil {
		slabs.Put(b.slab)
		b.slab = nil
	}
}

// room is where the next frame may be read to: header bytes in front (none
// where the device has no VnetHeader) and MaxFrame behind, or nil when full.
func (b *Batch) room(header int) []byte {
	end := b.used + header + MaxFrame
	if end > slabBytes || len(b.Frames) >= batchFrames {
		return nil
	}
	return b.slab[b.used:end:end]
}

// add takes the n bytes read into room as the next frame.
func (b *Batch) add(header, n int) {
	var f Frame
	start := b.used + header
	end := b.used + n
	if header != 0 {
		f.Header.parse(b.slab[b.used:])
	}
	f.Bytes = b.slab[start:end:end]
	b.Frames = append(b.Frames, f)
	// The next frame begins on a boundary of 16 bytes.
	b.used = (end + 15) &^ 15
}
