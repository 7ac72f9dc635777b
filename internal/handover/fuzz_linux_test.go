package handover

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FuzzReceive: whatever another process sends, there is a message or an error, and with
// an error no descriptor stays open.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0f\x00\x00\x00\x00{\"text\":\"one\"}\n"))
	f.Add([]byte("\x00\x00\x00\x02\x00\x00\x00\x01{}d"))
	f.Add([]byte("\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x02\xff\xff\xff\xff{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ends := make([]net.Conn, 2)
		for i, fd := range pair {
			file := os.NewFile(uintptr(fd), "pair")
			if ends[i], err = net.FileConn(file); err != nil {
				t.Fatal(err)
			}
			file.Close()
		}
		defer ends[0].Close()
		c, err := NewChannel(ends[1])
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := ends[0].SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = ends[0].Write(b)
			_ = ends[0].(*net.UnixConn).CloseWrite()
		}()
		var m message
		fds, err := c.Receive(&m, 10*time.Second)
		if err != nil {
			if len(fds) > 0 {
				t.Errorf("%d descriptors with %v", len(fds), err)
			}
			return
		}
		// What was taken is what stands there.
		var again message
		if len(b) < 8 || json.NewDecoder(bytes.NewReader(b[8:])).Decode(&again) != nil || again != m || len(fds) > 0 {
			t.Errorf("%q became %+v and %d descriptors", b, m, len(fds))
		}
	})
}
