package control

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
)

// FuzzRequest: whatever is asked, nothing fails within the endpoint, an answer is JSON or
// a line of text, and the endpoint is there afterwards.
func FuzzRequest(f *testing.F) {
	for _, s := range []struct{ method, target, body string }{
		{"GET", "/v1/status?vni=4097", ""}, {"GET", "/v1/stats", ""}, {"GET", "/v1/fdb?vni=16777216", ""}, {"GET", "/v1/neigh", ""}, {"GET", "/v1/nothing", ""},
		{"POST", "/v1/fdb", `{"verb":"add","vni":4097,"mac":"02:42:0a:00:01:67","vtep":"192.168.52.204"}`},
		{"POST", "/v1/fdb", `{"verb":"append","mac":"00:00:00:00:00:00","vtep":"fd00::205","port":4790,"vni":4097}`},
		{"POST", "/v1/fdb", `{"verb":"flush","kinds":["learned"]}`},
		{"POST", "/v1/neigh", `{"verb":"replace","ip":"10.0.1.103","mac":"02:42:0a:00:01:67","router":true}`},
		{"POST", "/v1/nexthops", `{"verb":"replace","id":5,"remotes":[{"vtep":"192.168.52.204"}]}`},
		{"POST", "/v1/fdb", `{"verb":"add"} {}`}, {"POST", "/v1/fdb", "[" + strings.Repeat("[", 1000)}, {"DELETE", "/v1/fdb", ""},
	} {
		f.Add(s.method, s.target, []byte(s.body))
	}
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequest(method, "http://unix", bytes.NewReader(body))
		if err != nil {
			return
		}
		path, query, _ := strings.Cut(target, "?")
		r.URL.Path, r.URL.RawQuery = path, query
		for _, endless := range []string{"capture", "watch", "ping"} {
			if strings.Contains(path, endless) {
				return
			}
		}
		conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(captureSelf)
		if err != nil {
			t.Fatal(err)
		}
		e, err := vtep.New(vtep.Config{Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if err := e.AddVNI(vtep.VNIConfig{VNI: 4097, Device: tap.NewMemory(tap.MemoryConfig{}), Peers: []netip.AddrPort{capturePeer}}); err != nil {
			t.Fatal(err)
		}
		socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		s := newServer(socket, e, "test")
		defer s.Close()
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%s", w.Body)
		}
		if w.Code == http.StatusOK && w.Body.Len() > 0 && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if st := e.Status(); len(st.VNIs) != 1 {
			t.Errorf("%d VNIs afterwards", len(st.VNIs))
		}
	})
}
