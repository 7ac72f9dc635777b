package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
	"golang.org/x/sys/unix"
)

// askEnv has the test binary be a client of the socket that it names, of
// whatever user started it.
const askEnv = "GOVXLAN_TEST_ASK"

func TestMain(m *testing.M) {
	if path := os.Getenv(askEnv); path != "" {
		if _, err := NewClient(path).Status(context.Background()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newEndpoint is one in memory, 192.168.52.203, with these VNIs.
func newEndpoint(t testing.TB, vnis ...vxlan.VNI) *vtep.Endpoint {
	t.Helper()
	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	must(t, err)
	e, err := vtep.New(vtep.Config{Conn: conn})
	must(t, err)
	for _, v := range vnis {
		dev := tap.NewMemory(tap.MemoryConfig{Name: "vx" + v.String(), MAC: []byte{2, 0, 0, 0, 0, 1}})
		must(t, e.AddVNI(vtep.VNIConfig{VNI: v, Device: dev, ARP: vtep.ARPSuppress}))
	}
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// serve answers for an endpoint until the test ends.
func serve(t testing.TB, e Endpoint) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "c.sock")
	s, err := Listen(path, e, "1.2.3")
	must(t, err)
	run(t, s)
	return path
}

func run(t testing.TB, s *Server) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-served)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// raw sends bytes and returns the whole answer, with its body as it was sent.
func raw(t *testing.T, path, request string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	go io.WriteString(conn, request) // the server may not care to read it all
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp, string(body)
}

// TestBadRequests: each gets a clear answer in JSON, and the next client does
// not notice.
func TestBadRequests(t *testing.T) {
	path := serve(t, newEndpoint(t, 10))
	post := func(to, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", to, len(body), body)
	}
	get := func(to string) string { return "GET " + to + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" }
	rubbish := strings.Repeat("rubbish ", 1<<17) // a megabyte
	long := fmt.Sprintf(`{"verb":"add","mac":"%s"}`, strings.Repeat("0", 1<<20))
	for _, c := range []struct {
		name, request string
		status        int
		says          string
	}{
		{"a megabyte of rubbish", post("/v1/fdb", rubbish), 400, "request: invalid character 'r'"},
		{"more than a megabyte", post("/v1/fdb", long), 413, "request: http: request body too large"},
		{"no body", post("/v1/fdb", ""), 400, "it has no body"},
		{"half a body", post("/v1/fdb", `{"verb":`), 400, "unexpected EOF"},
		{"two bodies", post("/v1/fdb", `{"verb":"add"}{}`), 400, "something follows"},
		{"unknown field", post("/v1/fdb", `{"vreb":"add"}`), 400, `unknown field "vreb"`},
		{"unknown verb", post("/v1/neigh", `{"verb":"ad"}`), 400, `there is no verb "ad"`},
		{"wrong type", post("/v1/fdb", `[]`), 400, "array"},
		{"no such entry", post("/v1/fdb", `{"verb":"del","mac":"02:00:00:00:00:09"}`), 404, "no such entry"},
		{"entry exists", post("/v1/neigh", `{"verb":"add","ip":"10.0.0.1","mac":"02:00:00:00:00:09"}`), 200, ""},
		{"entry exists", post("/v1/neigh", `{"verb":"add","ip":"10.0.0.1","mac":"02:00:00:00:00:08"}`), 409, "a static neighbour exists"},
		{"no such VNI", get("/v1/fdb?vni=11"), 404, "VNI 11: no such VNI here"},
		{"no such VNI", get("/v1/stats?vni=10&vni=11"), 404, "VNI 11: no such VNI here"},
		{"no VNI", get("/v1/stats?vni=x"), 400, `"x"`},
		{"unknown parameter", get("/v1/fdb?vin=10"), 400, `there is no parameter "vin"`},
		{"unknown path", get("/v1/nonsense"), 404, "govxlan 1.2.3 has no GET /v1/nonsense"},
		{"later version", get("/v2/status"), 404, "govxlan 1.2.3 has no GET /v2/status"},
		{"wrong method", post("/v1/status", "{}"), 405, "has no POST /v1/status, only GET, HEAD"},
		{"path that climbs", get("/v1/../v1/status"), 307, ""},
		{"long header", "GET /v1/status HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 32<<10) + "\r\n\r\n", 431, ""},
		{"no HTTP", "\x16\x03\x01\x02\x00 hello\r\n\r\n", 400, ""},
	} {
		resp, body := raw(t, path, c.request)
		if resp.StatusCode != c.status {
			t.Errorf("%s: status %s, want %d: %s", c.name, resp.Status, c.status, body)
		}
		if c.says == "" {
			continue
		}
		var f Failure
		if err := json.Unmarshal([]byte(body), &f); err != nil || !strings.Contains(f.Error, c.says) || strings.Contains(f.Error, "\n") {
			t.Errorf("%s: %q (%v) does not say %q", c.name, body, err, c.says)
		}
		if got := resp.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("%s: Content-Type %q", c.name, got)
		}
	}
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Errorf("the next client: %v", err)
	}
}

// TestHangingClientsCostNothingForEver: those who connect and say nothing, or
// half of something, are dropped, and are in nobody's way until then.
func TestHangingClientsCostNothingForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	s, err := Listen(path, newEndpoint(t, 10), "1.2.3")
	must(t, err)
	s.http.ReadTimeout = 2 * time.Second // less to wait for
	run(t, s)
	var hanging []net.Conn
	for i := range 3 * mostClients {
		conn, err := net.Dial("unix", path)
		must(t, err)
		defer conn.Close()
		if i%2 == 0 {
			_, err = io.WriteString(conn, "POST /v1/fdb HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
			if err != nil && !errors.Is(err, syscall.EPIPE) {
				t.Fatal(err)
			}
		}
		hanging = append(hanging, conn)
		if i%50 == 0 {
			if _, err := NewClient(path).Status(t.Context()); err != nil {
				t.Errorf("beside %d hanging clients: %v", len(hanging), err)
			}
		}
	}
	for _, conn := range hanging {
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err := io.Copy(io.Discard, conn); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a hanging client was not dropped: %v", err)
		}
	}
}

// TestBusyServer: where all clients are being served, one more is told so.
func TestBusyServer(t *testing.T) {
	d := newDoor(nil)
	for range mostClients {
		g := &guest{door: d}
		d.guests = append(d.guests, g)
		defer g.serve()()
	}
	path := filepath.Join(t.TempDir(), "c.sock")
	s, err := Listen(path, newEndpoint(t, 10), "1.2.3")
	must(t, err)
	d.Listener, s.listener = s.listener.(*door).Listener, d
	run(t, s)
	if _, err := NewClient(path).Status(t.Context()); err == nil || err.Error() != errBusy.Error() {
		t.Errorf("one more client: %v", err)
	}
}

// TestStreamsLeaveRoom: however many watch, there is room for questions, and one
// more watcher is told why not.
func TestStreamsLeaveRoom(t *testing.T) {
	path := serve(t, newEndpoint(t, 10))
	c := NewClient(path)
	var events []*Events
	for range mostStreams {
		e, err := c.Watch(t.Context())
		must(t, err)
		defer e.Close()
		events = append(events, e)
	}
	if _, err := c.Watch(t.Context()); err == nil || !strings.Contains(err.Error(), "too many watch already") {
		t.Errorf("one more watcher: %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("a question: %v", err)
	}
	must(t, events[0].Close())
	for {
		// The server notices in its time.
		e, err := c.Watch(t.Context())
		if err == nil {
			must(t, e.Close())
			break
		}
		if t.Context().Err() != nil {
			t.Fatal("there is no room after a watcher has gone")
		}
	}
}

// TestOtherUsersAreRefused: by name, even where somebody opened the socket file
// to all.
func TestOtherUsersAreRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "govxlan-control")
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "c.sock")
	s, err := Listen(path, newEndpoint(t, 10), "1.2.3")
	must(t, err)
	run(t, s)
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the socket: %v", info.Mode())
	}
	// A copy that nobody may run.
	self, err := os.ReadFile("/proc/self/exe")
	must(t, err)
	program := filepath.Join(dir, "asker")
	must(t, os.WriteFile(program, self, 0o755))
	ask := func() (string, error) {
		cmd := exec.Command(program)
		cmd.Env = []string{askEnv + "=" + path}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.Output()
		return string(out), err
	}
	if out, err := ask(); err == nil || !strings.Contains(out, "run this as root") {
		t.Errorf("by the mode of the file: %q, %v", out, err)
	}
	must(t, os.Chmod(path, 0o666))
	if out, err := ask(); err == nil || !strings.Contains(out, "uid 65534, process ") || !strings.Contains(out, "(asker) is refused: only root may ask") {
		t.Errorf("by who it is: %q, %v", out, err)
	}
}

func TestJudge(t *testing.T) {
	self := uint32(os.Geteuid())
	for _, uid := range []uint32{0, self} {
		if err := judge(&unix.Ucred{Uid: uid, Pid: 1}); err != nil {
			t.Errorf("uid %d: %v", uid, err)
		}
	}
	if err := judge(&unix.Ucred{Uid: self + 1, Pid: int32(os.Getpid())}); err == nil {
		t.Error("another user was admitted")
	}
}

// TestStaleSocketIsReplacedALiveOneNever, and what is no socket stays.
func TestStaleSocketIsReplacedALiveOneNever(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "c.sock")
	e := newEndpoint(t, 10)
	first, err := Listen(path, e, "1.2.3")
	must(t, err)
	if _, err := Listen(path, e, "1.2.3"); err == nil || !strings.Contains(err.Error(), "another process answers there") {
		t.Fatalf("a second one: %v", err)
	}
	// As after kill -9: the file stays, nobody listens.
	first.listener.(*door).Listener.(*net.UnixListener).SetUnlinkOnClose(false)
	must(t, first.Close())
	if _, err := os.Lstat(path); err != nil {
		t.Fatal("the socket did not stay")
	}
	second, err := Listen(path, e, "1.2.3")
	must(t, err)
	must(t, second.Close())
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is left")
	}

	must(t, os.WriteFile(path, []byte("precious"), 0o600))
	if _, err := Listen(path, e, "1.2.3"); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// TestOneOfManyAtOnceGetsTheSocket that a dead process left.
func TestOneOfManyAtOnceGetsTheSocket(t *testing.T) {
	e := newEndpoint(t, 10)
	for range 20 {
		path := filepath.Join(t.TempDir(), "c.sock")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		must(t, err)
		dead.SetUnlinkOnClose(false)
		must(t, dead.Close())

		const many = 8
		servers := make(chan *Server, many)
		for range many {
			go func() {
				s, _ := Listen(path, e, "1.2.3")
				servers <- s
			}()
		}
		var got []*Server
		for range many {
			if s := <-servers; s != nil {
				got = append(got, s)
			}
		}
		if len(got) != 1 {
			t.Fatalf("%d of %d have the socket", len(got), many)
		}
		conn, err := net.Dial("unix", path)
		must(t, err)
		conn.Close()
		must(t, got[0].Close())
	}
}

// panicking is an endpoint with a fault.
type panicking struct{ *vtep.Endpoint }

func (panicking) FDB(...vxlan.VNI) []vtep.EntryStatus { panic("no table") }

// TestFaultOfOneRequest: it is told in one sentence, without a stack, and the
// next one is answered.
func TestFaultOfOneRequest(t *testing.T) {
	path := serve(t, panicking{newEndpoint(t, 10)})
	c := NewClient(path)
	_, err := c.FDB(t.Context())
	if err == nil || err.Error() != "GET /v1/fdb failed within the endpoint: no table" {
		t.Errorf("it says %v", err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStats(t *testing.T) {
	path := serve(t, newEndpoint(t, 10, 11))
	c := NewClient(path)
	all, err := c.Stats(t.Context())
	must(t, err)
	if len(all.VNIs) != 2 || all.VNIs[0].VNI != 10 || all.VNIs[1].VNI != 11 {
		t.Errorf("stats %+v", all)
	}
	one, err := c.Stats(t.Context(), 11)
	must(t, err)
	if len(one.VNIs) != 1 || one.VNIs[0].VNI != 11 {
		t.Errorf("stats of VNI 11: %+v", one)
	}
	if _, err := c.Stats(t.Context(), 12); err == nil || err.Error() != "VNI 12: no such VNI here" {
		t.Errorf("stats of VNI 12: %v", err)
	}
	var text bytes.Buffer
	must(t, json.NewEncoder(&text).Encode(one))
	if !strings.HasPrefix(text.String(), `{"vnis":[{"vni":11,"counters":{"rx_frames":0,`) || !strings.Contains(text.String(), `}}],"counters":{"rx_drop_bad_header":0,`) {
		t.Errorf("as JSON: %s", text.String())
	}
}
