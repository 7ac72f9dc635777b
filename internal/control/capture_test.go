package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/govxlan/govxlan/internal/pcapng"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"pgregory.net/rapid"
)

// captureScene is an endpoint in memory with VNI 4097, a peer, and a client.
type captureScene struct {
	t        *testing.T
	endpoint *vtep.Endpoint
	device   *tap.Memory
	client   *Client
	path     string
	stop     func() // of the endpoint, then of the server
}

var (
	captureSelf = netip.MustParseAddrPort("192.168.52.203:4789")
	capturePeer = netip.MustParseAddrPort("192.168.52.204:4789")
)

func newCaptureScene(t *testing.T) *captureScene {
	t.Helper()
	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(captureSelf)
	if err != nil {
		t.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	s := &captureScene{t: t, endpoint: e, path: filepath.Join(t.TempDir(), "control.sock")}
	s.device = tap.NewMemory(tap.MemoryConfig{Name: "vx4097", MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}})
	if err := e.AddVNI(vtep.VNIConfig{VNI: 4097, Device: s.device, Peers: []netip.AddrPort{capturePeer}}); err != nil {
		t.Fatal(err)
	}
	server, err := Listen(s.path, e, "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran, serving := make(chan error, 1), make(chan error, 1)
	runCtx, end := context.WithCancel(ctx)
	go func() { ran <- e.Run(runCtx) }()
	go func() { serving <- server.Serve(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		end()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-serving; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(s.stop)
	s.client = NewClient(s.path)
	return s
}

// send has the host send n frames, which all go to the peer, and waits where
// the device has no room for more.
func (s *captureScene) send(n, size int) {
	s.t.Helper()
	before := s.endpoint.Status().VNIs[0].Counters.TxFrames
	for i := range n {
		if i%64 == 63 {
			s.sent(before + uint64(i))
		}
		f := make([]byte, size)
		copy(f, []byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0, 0, 0, 1, 0x88, 0xB5, byte(i >> 8), byte(i)})
		if err := s.device.HostSend(f); err != nil {
			s.t.Fatal(err)
		}
	}
}

// sent waits until the endpoint has carried n frames.
func (s *captureScene) sent(n uint64) {
	s.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for s.endpoint.Status().VNIs[0].Counters.TxFrames < n {
		if time.Now().After(deadline) {
			s.t.Fatalf("%d frames sent, want %d", s.endpoint.Status().VNIs[0].Counters.TxFrames, n)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *captureScene) capture(w CaptureWish) *CaptureStream {
	s.t.Helper()
	stream, err := s.client.Capture(context.Background(), w)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { stream.Close() })
	return stream
}

// rest reads blocks until the stream ends.
func rest(stream *CaptureStream) (packets []pcapng.Packet, err error) {
	for {
		b, err := stream.Next()
		if err != nil {
			return packets, err
		}
		if b.Type == pcapng.TypePacket {
			p := b.Packet
			p.Bytes, p.Note = append([]byte(nil), p.Bytes...), append([]byte(nil), p.Note...)
			packets = append(packets, p)
		}
	}
}

// A wish arrives as it was made.
func TestCaptureWishValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w CaptureWish
		for range rapid.IntRange(0, 2).Draw(t, "VNIs") {
			w.VNIs = append(w.VNIs, vxlan.VNI(rapid.IntRange(0, int(vxlan.MaxVNI)).Draw(t, "VNI")))
		}
		w.Peer = rapid.SampledFrom([]netip.Addr{{}, capturePeer.Addr(), netip.MustParseAddr("fd00::204")}).Draw(t, "peer")
		w.MAC = rapid.SampledFrom([]vxlan.MAC{{}, {2, 0, 0, 0, 0, 1}}).Draw(t, "MAC")
		w.IP = rapid.SampledFrom([]netip.Prefix{{}, netip.MustParsePrefix("10.0.1.0/24"), netip.MustParsePrefix("fd00::/8")}).Draw(t, "IP")
		w.Direction = vtep.Direction(rapid.IntRange(0, 2).Draw(t, "direction"))
		w.Drops, w.Inner, w.Notes = rapid.Bool().Draw(t, "drops"), rapid.Bool().Draw(t, "inner"), rapid.Bool().Draw(t, "notes")
		w.SnapLen, w.Buffer = rapid.IntRange(0, 1e6).Draw(t, "snaplen"), rapid.IntRange(0, 1e6).Draw(t, "buffer")
		w.Count = rapid.Uint64().Draw(t, "count")
		got, err := parseCapture(w.values())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(w, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
			t.Fatal(d)
		}
	})
}

// What nobody can mean is refused, and says why.
func TestCaptureRefused(t *testing.T) {
	s := newCaptureScene(t)
	for query, want := range map[string]string{
		"vni=16777216":         "vni",
		"peer=nobody":          `"nobody"`,
		"ip=10.0.1.1":          "ip",
		"direction=up":         `"up"`,
		"snaplen=-1":           "SnapLen",
		"buffer=1099511627776": "buffer",
		"count=-1":             "count",
		"colour=red":           `"colour"`,
		"drops=1&drops=0":      "2 times",
	} {
		by := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return net.Dial("unix", s.path)
		}}}
		resp, err := by.Get("http://govxlan/v1/capture?" + query)
		if err != nil {
			t.Fatal(err)
		}
		var f Failure
		err = json.NewDecoder(resp.Body).Decode(&f)
		resp.Body.Close()
		by.CloseIdleConnections()
		if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(strings.ToLower(f.Error), strings.ToLower(want)) {
			t.Errorf("%s: %s %q, %v", query, resp.Status, f.Error, err)
		}
	}
	for range 8 {
		s.capture(CaptureWish{CaptureConfig: vtep.CaptureConfig{Buffer: 1}})
	}
	if _, err := s.client.Capture(context.Background(), CaptureWish{}); err == nil || !strings.Contains(err.Error(), "8 captures") {
		t.Errorf("the ninth: %v", err)
	}
}

// Frames come with direction, place, comment and note; Stop brings what was
// captured, and how much was missed.
func TestCaptureStream(t *testing.T) {
	s := newCaptureScene(t)
	stream := s.capture(CaptureWish{Notes: true})
	inner := s.capture(CaptureWish{CaptureConfig: vtep.CaptureConfig{Inner: true, SnapLen: 20}})
	s.send(3, 64)
	s.sent(3)
	for _, st := range []*CaptureStream{stream, inner} {
		if err := st.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := rest(stream)
	if err != io.EOF || len(got) != 3 || stream.Delivered != 3 || stream.Missed != 0 {
		t.Fatalf("%d packets, %d delivered, %d missed, %v", len(got), stream.Delivered, stream.Missed, err)
	}
	for i, p := range got {
		outer, err := vxlan.ParsePacket(p.Bytes)
		if err != nil || outer.VNI != 4097 || outer.Dst != capturePeer.Addr() || outer.Src != captureSelf.Addr() || len(outer.Frame) != 64 || outer.Frame[15] != byte(i) {
			t.Errorf("packet %d: %+v, %v", i, outer, err)
		}
		var n CaptureNote
		if err := json.Unmarshal(p.Note, &n); err != nil || n.VNI == nil || *n.VNI != 4097 || n.Peer != capturePeer || n.Verdict != "passed" || !n.Outer || n.Dropped || n.Device != "vx4097" {
			t.Errorf("packet %d: note %s, %v", i, p.Note, err)
		}
		if p.Interface != 0 || p.Direction != pcapng.Outbound || p.Comment != "" || time.Since(p.Time) > time.Minute {
			t.Errorf("packet %d: %+v", i, p)
		}
	}
	got, err = rest(inner)
	if err != io.EOF || len(got) != 3 || got[0].Interface != 1 || len(got[0].Bytes) != 20 || got[0].Length != 64 || len(got[0].Note) != 0 {
		t.Errorf("inner view: %+v, %v", got, err)
	}
}

func TestCaptureCount(t *testing.T) {
	s := newCaptureScene(t)
	stream := s.capture(CaptureWish{Count: 2})
	s.send(5, 64)
	if got, err := rest(stream); err != io.EOF || len(got) != 2 {
		t.Errorf("%d packets, %v", len(got), err)
	}
}

// A client that does not read, and one that has gone, lose captures; the frames
// go on, and other captures with them.
func TestCaptureSlowClient(t *testing.T) {
	s := newCaptureScene(t)
	slow := s.capture(CaptureWish{CaptureConfig: vtep.CaptureConfig{Buffer: 256 << 10}})
	gone := s.capture(CaptureWish{})
	counting := s.capture(CaptureWish{CaptureConfig: vtep.CaptureConfig{SnapLen: 60}})
	if err := gone.conn.Close(); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	s.send(n, 1400)
	s.sent(n)
	if err := counting.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := rest(counting); err != io.EOF || counting.Delivered+counting.Missed != n {
		t.Errorf("%d captured and %d missed, %v", counting.Delivered, counting.Missed, err)
	}
	if err := slow.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := rest(slow); err != io.EOF || slow.Missed == 0 || slow.Delivered+slow.Missed != n {
		t.Errorf("slow: %d captured and %d missed, %v", slow.Delivered, slow.Missed, err)
	}
}

// When the endpoint ends, the client has what was captured, and is told.
func TestCaptureEndpointEnds(t *testing.T) {
	s := newCaptureScene(t)
	stream := s.capture(CaptureWish{})
	s.send(10, 64)
	s.sent(10)
	done := make(chan error)
	go func() {
		got, err := rest(stream)
		if len(got) != 10 {
			err = fmt.Errorf("%d packets, %w", len(got), err)
		}
		done <- err
	}()
	s.stop()
	if err := <-done; !errors.Is(err, ErrEnded) || strings.Contains(err.Error(), "packets") {
		t.Error(err)
	}
	if _, err := s.client.Capture(context.Background(), CaptureWish{}); !errors.Is(err, ErrNotRunning) {
		t.Error(err)
	}
}

// A client that does not read is waited for, but not for ever.
func TestCaptureUnreadEndpointEnds(t *testing.T) {
	s := newCaptureScene(t)
	stream := s.capture(CaptureWish{})
	s.send(2000, 1400) // more than a socket holds
	s.sent(2000)
	ended := make(chan struct{})
	go func() { s.stop(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the server waits for a client that does not read")
	}
	if got, err := rest(stream); !errors.Is(err, ErrEnded) || len(got) == 0 {
		t.Errorf("%d packets, %v", len(got), err)
	}
}

// Parameters from anywhere: what is understood can be asked for again, and means
// the same.
func FuzzCaptureParameters(f *testing.F) {
	f.Add("vni=4097&vni=1&peer=fd00::204&mac=02:42:0a:00:01:67&ip=10.0.1.0/24&direction=in&drops=1&inner=t&notes=0&snaplen=9&buffer=9&count=9")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		w, err := parseCapture(q)
		if err != nil {
			return
		}
		again, err := parseCapture(w.values())
		if err != nil {
			t.Fatalf("%q: %v", w.values().Encode(), err)
		}
		if !reflect.DeepEqual(w, again) {
			t.Fatalf("%+v\nbecomes %+v", w, again)
		}
	})
}

// TestCaptureByCurl runs the example of docs/capture.md.
func TestCaptureByCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	page, err := os.ReadFile("../../docs/capture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, command, ok := strings.Cut(string(page), "\ncurl ")
	if !ok {
		t.Fatal("docs/capture.md has no example with curl")
	}
	command, _, _ = strings.Cut(command, "\n")
	s := newCaptureScene(t)
	cmd := exec.Command("bash", "-c", "exec curl "+command)
	cmd.Dir, cmd.Env = t.TempDir(), append(os.Environ(), "SOCK="+s.path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	deadline := time.Now().Add(10 * time.Second)
	for {
		b, err := os.ReadFile(filepath.Join(cmd.Dir, "drops.pcapng"))
		r := pcapng.NewReader(bytes.NewReader(b))
		if _, err := r.Next(); err == nil {
			if block, err := r.Next(); err == nil && block.Interface.Name == underlayName {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %x, %v", command, b, err)
		}
		time.Sleep(time.Millisecond)
	}
}
