package tap

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"testing/synctest"
)

func TestMemoryBothWays(t *testing.T) {
	m := NewMemory(MemoryConfig{Name: "mem0", MTU: 1400, MAC: net.HardwareAddr{2, 1, 2, 3, 4, 5}})
	defer m.Close()
	if m.Name() != "mem0" || m.MTU() != 1400 || m.MAC().String() != "02:01:02:03:04:05" || m.Features() != 0 {
		t.Errorf("%s %d %v %v", m.Name(), m.MTU(), m.MAC(), m.Features())
	}
	if d := NewMemory(MemoryConfig{}); d.MTU() != 1450 || len(d.MAC()) != 6 {
		t.Errorf("defaults: MTU %d, MAC %v", d.MTU(), d.MAC())
	}

	var b Batch
	for _, sizes := range [][]int{{14}, {60, 1514, 64}, slices.Repeat([]int{100}, batchFrames+5), {MaxFrame, MaxFrame, MaxFrame, MaxFrame, MaxFrame}} {
		var want [][]byte
		for i, n := range sizes {
			f := pattern(n, i)
			want = append(want, bytes.Clone(f))
			if err := m.HostSend(f); err != nil {
				t.Fatal(err)
			}
			clear(f) // HostSend has copied it
		}
		var got [][]byte
		for len(got) < len(want) {
			if err := m.Readers()[0].Read(&b); err != nil {
				t.Fatal(err)
			}
			if n := len(b.Frames); n == 0 || n > batchFrames {
				t.Fatalf("batch of %d frames", n)
			}
			for _, f := range b.Frames {
				got = append(got, bytes.Clone(f.Bytes))
			}
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("frames of %v: differ, or their order", sizes)
		}
	}

	w := m.NewWriter(0)
	vectors := []Vector{{Parts: [][]byte{{1, 2}, {3}}}, {Parts: [][]byte{{4, 5, 6}}}}
	if n, err := w.Write(vectors); n != 2 || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	vectors[1].Parts[0][0] = 9 // Write keeps nothing
	for _, want := range [][]byte{{1, 2, 3}, {4, 5, 6}} {
		if got, err := m.HostReceive(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("host received %x, %v; want %x", got, err, want)
		}
	}
}

// The frames of a batch lie apart: writing behind one does not touch the next.
func TestBatchFramesAreSeparate(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	defer m.Close()
	for i := range 3 {
		if err := m.HostSend(pattern(61, i)); err != nil {
			t.Fatal(err)
		}
	}
	var b Batch
	if err := m.Readers()[0].Read(&b); err != nil {
		t.Fatal(err)
	}
	_ = append(b.Frames[0].Bytes, 0xEE, 0xEE)
	for i, f := range b.Frames {
		if !bytes.Equal(f.Bytes, pattern(61, i)) {
			t.Errorf("frame %d was changed", i)
		}
	}
}

// The host sees plain frames, whatever is written.
func TestMemoryTakesSuperframesApart(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	defer m.Close()
	fl := flow{src: 1, dst: 2, df: true}
	data := pattern(2500, 0)
	h, f := super(t, fl, 5, 9, data, 1000)
	partial := fl.frame(t, 1, 1, pattern(50, 0))
	makePartial(fl, partial)
	needs := Header{Flags: NeedsChecksum, ChecksumStart: uint16(fl.l4()), ChecksumOffset: tcpChecksum}
	bad := Header{GSO: GSOTCPv4, SegmentBytes: 1000}
	n, err := m.NewWriter(0).Write([]Vector{
		{Header: h, Parts: [][]byte{f[:54], f[54:]}}, {Header: needs, Parts: [][]byte{partial}}, {Header: bad, Parts: [][]byte{f}},
	})
	if n != 2 || err != ErrHeader {
		t.Errorf("wrote %d, %v; want 2 and ErrHeader for the header that lies", n, err)
	}
	want := [][]byte{
		fl.frame(t, 5, 9, data[:1000]), fl.frame(t, 1005, 10, data[1000:2000]), fl.frame(t, 2005, 11, data[2000:]),
		fl.frame(t, 1, 1, pattern(50, 0)),
	}
	for i := range want {
		if got, err := m.HostReceive(); err != nil || !bytes.Equal(got, want[i]) {
			t.Errorf("frame %d: %v\n got %x\nwant %x", i, err, got, want[i])
		}
	}
}

func TestMemoryLosesWhatNobodyTakes(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	defer m.Close()
	w := m.NewWriter(0)
	for range memoryQueue + 10 {
		if err := m.HostSend(make([]byte, 14)); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Write([]Vector{{Parts: [][]byte{make([]byte, 14)}}}); n != 1 || err != nil {
			t.Fatalf("wrote %d, %v", n, err)
		}
	}
	if len(m.toReader) != memoryQueue || len(m.toHost) != memoryQueue {
		t.Errorf("%d and %d frames wait, want %d", len(m.toReader), len(m.toHost), memoryQueue)
	}
}

func TestMemoryClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		results := make(chan error)
		go func() {
			var b Batch
			results <- m.Readers()[0].Read(&b)
		}()
		go func() {
			_, err := m.HostReceive()
			results <- err
		}()
		synctest.Wait()
		for range 2 {
			if err := m.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		for range 2 {
			if err := <-results; err != net.ErrClosed {
				t.Errorf("what waited ended with %v, want net.ErrClosed", err)
			}
		}

		// Afterwards nothing goes through, also not what lies there.
		m = NewMemory(MemoryConfig{})
		for range 20 {
			if err := m.HostSend(make([]byte, 14)); err != nil {
				t.Fatal(err)
			}
		}
		w := m.NewWriter(0)
		if _, err := w.Write([]Vector{{Parts: [][]byte{{1}}}}); err != nil {
			t.Fatal(err)
		}
		m.Close()
		for range 20 {
			var b Batch
			if err := m.Readers()[0].Read(&b); err != net.ErrClosed {
				t.Fatalf("Read: %v, want net.ErrClosed", err)
			}
			if err := m.HostSend([]byte{1}); err != net.ErrClosed {
				t.Fatalf("HostSend: %v, want net.ErrClosed", err)
			}
			if n, err := w.Write([]Vector{{Parts: [][]byte{{1}}}}); n != 0 || err != net.ErrClosed {
				t.Fatalf("Write: %d, %v; want net.ErrClosed", n, err)
			}
		}
		// What had reached the host is still there for it.
		if f, err := m.HostReceive(); err != nil || !bytes.Equal(f, []byte{1}) {
			t.Errorf("HostReceive: %x, %v", f, err)
		}
		if _, err := m.HostReceive(); err != net.ErrClosed {
			t.Errorf("HostReceive: %v, want net.ErrClosed", err)
		}
	})
}
