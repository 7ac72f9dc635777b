package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"mime"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/govxlan/govxlan/internal/ping"
	"github.com/govxlan/govxlan/internal/privilege"
	"github.com/govxlan/govxlan/vtep"
)

// contract is docs/openapi.yaml.
func contract(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../../docs/openapi.yaml")
	must(t, err)
	must(t, doc.Validate(context.Background()))
	return doc
}

// pattern is what routes look like for http.ServeMux.
var pattern = regexp.MustCompile(`^(GET|HEAD|POST|PUT|PATCH|DELETE) /v\d+/`)

// routes are the patterns of such in the code, as "METHOD /path".
func routes(t *testing.T) []string {
	t.Helper()
	var found []string
	read := func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if s, err := strconv.Unquote(literal.Value); err == nil && pattern.MatchString(s) {
					found = append(found, s)
				}
			}
			return true
		})
		return nil
	}
	for _, dir := range []string{"..", "../../cmd"} {
		must(t, filepath.WalkDir(dir, read))
	}
	slices.Sort(found)
	return found
}

// TestOpenAPIHasEveryRoute, and no other, and each is served.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	var described []string
	doc := contract(t)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described = append(described, method+" "+path)
		}
	}
	slices.Sort(described)
	if got := routes(t); !slices.Equal(got, described) {
		t.Errorf("in the code:         %q\nin docs/openapi.yaml: %q", got, described)
	}
	c := NewClient(serve(t, fakeProcess{newEndpoint(t, 10)}))
	endless := c.http
	endless.Timeout = 0
	for _, route := range described {
		method, path, _ := strings.Cut(route, " ")
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := c.do(ctx, &endless, method, path, nil, []byte("{}"))
		if err != nil && strings.Contains(err.Error(), "has no "+route) {
			t.Errorf("%s is not served: %v", route, err)
		}
		cancel()
		if resp != nil {
			resp.Body.Close()
		}
	}
}

// TestOpenAPIHasEveryField of what is asked and answered, and no other, and says
// of each rightly whether it may be missing.
func TestOpenAPIHasEveryField(t *testing.T) {
	doc := contract(t)
	types := map[string]any{
		"Failure": Failure{}, "Status": Status{}, "Process": Cost{}, "Privileges": privilege.Status{}, "Programs": vtep.ProgramsStatus{}, "Tunnel": vtep.TunnelStatus{}, "TunnelPeer": vtep.TunnelPeerStatus{}, "FDBStatus": vtep.FDBStatus{}, "VNIStatus": vtep.VNIStatus{}, "Peer": vtep.PeerStatus{},
		"MulticastGroup": vtep.MulticastStatus{}, "PolicyGroup": vtep.GroupStatus{}, "Stats": vtep.Stats{},
		"VNIStats": vtep.VNIStats{}, "Entry": vtep.EntryStatus{}, "NexthopGroup": vtep.NexthopStatus{},
		"Remote": vtep.RemoteStatus{}, "Neighbour": vtep.NeighbourStatus{}, "Event": vtep.Event{},
		"Changed": Changed{}, "FDBChanged": FDBChanged{},
		"Sighting": vtep.Sighting{}, "PingEvent": PingEvent{}, "PingStart": PingStart{}, "PingProbe": ping.Event{},
		"PingSummary": ping.Summary{}, "PingRTT": ping.RTT{}, "PingMTU": ping.MTU{}, "Ping?": Ping{},
		"Membership": Membership{}, "Member": Member{},
		"ProcessVNI": VNI{}, "VNIChanged": VNIChanged{}, "Reloaded": Reloaded{}, "VNIDifference": VNIDifference{},
		"ConfigAnswer": ConfigAnswer{}, "Namespace": NamespaceID{},
		// Requests: what may be left out is not what we leave out.
		"FDBChange?": FDBChange{}, "NexthopChange?": NexthopChange{}, "Destination?": Destination{},
		"NeighbourChange?": NeighbourChange{}, "VNIWish?": VNIWish{}, "Takeover?": Takeover{}, "TakenOver": TakenOver{},
	}
	for name, v := range types {
		name, request := strings.CutSuffix(name, "?")
		ref := doc.Components.Schemas[name]
		if ref == nil {
			t.Errorf("there is no schema %s", name)
			continue
		}
		want := make(map[string]bool) // required
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			tag, ok := f.Tag.Lookup("json")
			if !ok {
				continue // embedded
			}
			key, options, _ := strings.Cut(tag, ",")
			want[key] = !strings.Contains(options, "omit")
		}
		got := make(map[string]bool)
		for key := range ref.Value.Properties {
			got[key] = slices.Contains(ref.Value.Required, key)
			if request {
				want[key] = want[key] && got[key]
				got[key] = want[key]
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s, with what is required:\nin docs/openapi.yaml %v\nin the code          %v", name, got, want)
		}
	}
	// Each schema of an object is of one of these.
	for name, ref := range doc.Components.Schemas {
		_, answer := types[name]
		_, request := types[name+"?"]
		if ref.Value.Type.Is("object") && len(ref.Value.Properties) > 0 && !answer && !request {
			t.Errorf("%s is of no type here: add it to the table of this test", name)
		}
	}
}

// TestOpenAPIDescribesAnswers: real ones, of an endpoint with some of everything.
func TestOpenAPIDescribesAnswers(t *testing.T) {
	doc := contract(t)
	path := serve(t, fakeProcess{newEndpoint(t, 10, 11)})
	c := NewClient(path)
	endless := c.http
	endless.Timeout = 0
	watching, err := c.do(t.Context(), &endless, http.MethodGet, "/v1/watch", nil, nil)
	must(t, err)
	defer watching.Body.Close()

	asked := make(map[string]bool)
	ask := func(method, path, query, body string, status int) {
		t.Helper()
		if body != "" {
			media := doc.Paths.Value(path).GetOperation(method).RequestBody.Value.Content.Get("application/json")
			conforms(t, path+" request", media, []byte(body))
		}
		resp, answer := raw(t, c.path, fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, path, query, len(body), body))
		if resp.StatusCode != status {
			t.Errorf("%s %s %s: %s %s", method, path, body, resp.Status, answer)
			return
		}
		if status == http.StatusOK {
			asked[method+" "+path] = true
		}
		conforms(t, method+" "+path, mediaOf(t, doc, method, path, resp), []byte(answer))
	}
	for _, body := range []string{
		`{"verb":"add","vni":10,"mac":"02:00:00:00:00:01","vtep":"192.168.52.204","port":4790,"remote_vni":7,"kind":"permanent"}`,
		`{"verb":"add","vni":10,"mac":"02:00:00:00:00:02","vtep":"fd00::205","kind":"dynamic"}`,
		`{"verb":"append","vni":10,"mac":"00:00:00:00:00:00","vtep":"192.168.52.204"}`,
		`{"verb":"replace","vni":10,"mac":"02:00:00:00:00:02","vtep":"192.168.52.206"}`,
		`{"verb":"del","vni":10,"mac":"02:00:00:00:00:02"}`,
		`{"verb":"flush","vni":11,"kinds":["learned"]}`,
	} {
		ask("POST", "/v1/fdb", "", body, 200)
	}
	ask("POST", "/v1/fdb", "", `{"verb":"add","mac":"02:00:00:00:00:01","vtep":"192.168.52.204"}`, 400)
	ask("POST", "/v1/nexthops", "", `{"verb":"add","vni":10,"id":3,"remotes":[{"vtep":"192.168.52.204","remote_vni":9}]}`, 200)
	ask("POST", "/v1/fdb", "", `{"verb":"add","vni":10,"mac":"02:00:00:00:00:03","nhid":3}`, 200)
	ask("POST", "/v1/neigh", "", `{"verb":"add","vni":11,"ip":"fd10::1","mac":"02:00:00:00:00:01","router":true}`, 200)
	ask("POST", "/v1/neigh", "", `{"verb":"add","vni":11,"ip":"fd10::1","mac":"02:00:00:00:00:01"}`, 409)
	for _, p := range []string{"/v1/fdb", "/v1/nexthops", "/v1/neigh", "/v1/stats", "/v1/status"} {
		ask("GET", p, "", "", 200)
		ask("GET", p, "?vni=10&vni=11", "", 200)
		ask("GET", p, "?vni=12", "", 404)
	}
	for _, p := range []string{"/v1/vnis", "/v1/config", "/v1/members"} {
		ask("GET", p, "", "", 200)
	}
	ask("POST", "/v1/vnis", "", `{"verb":"add","options":{"vni":["12"],"peer":["192.168.52.204"]},"namespace":{"dev":4,"ino":5}}`, 200)
	ask("POST", "/v1/vnis", "", `{"verb":"del","vni":12}`, 200)
	ask("POST", "/v1/vnis", "", `{"verb":"del","vni":13}`, 404)
	ask("POST", "/v1/reload", "", `{}`, 200)
	ask("POST", "/v1/takeover", "", `{"door":"@door","version":"2.0","pid":9}`, 200)
	ask("POST", "/v1/takeover", "", `{"door":"","version":"2.0","pid":9}`, 409)

	media := mediaOf(t, doc, "GET", "/v1/watch", watching)
	lines := bufio.NewScanner(watching.Body)
	for range 6 { // those of the six changes that changed something
		if !lines.Scan() {
			t.Fatal("the stream ended")
		}
		conforms(t, "event", media, lines.Bytes())
	}
	asked["GET /v1/watch"] = true
	for _, r := range alone {
		asked[r] = true
	}
	for _, r := range routes(t) {
		if !asked[r] {
			t.Errorf("nobody asked %s: add it to this test, or to those that have one of their own", r)
		}
	}
}

// alone are routes whose answers are tested elsewhere.
var alone = []string{"GET /v1/capture", "POST /v1/ping"}

// mediaOf is what the contract says of an answer.
func mediaOf(t *testing.T, doc *openapi3.T, method, path string, resp *http.Response) *openapi3.MediaType {
	t.Helper()
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	must(t, err)
	responses := doc.Paths.Value(path).GetOperation(method).Responses
	ref := responses.Status(resp.StatusCode)
	if ref == nil {
		ref = responses.Default()
	}
	media := ref.Value.Content[kind]
	if media == nil {
		t.Fatalf("%s %s: the contract has no %s with status %d", method, path, kind, resp.StatusCode)
	}
	return media
}

// conforms checks a JSON text against its schema, in which every field must be.
func conforms(t *testing.T, what string, media *openapi3.MediaType, text []byte) {
	t.Helper()
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Errorf("%s: %v: %s", what, err, text)
		return
	}
	if _, err := d.Token(); err != io.EOF {
		t.Errorf("%s: more than one value: %s", what, text)
	}
	if err := media.Schema.Value.VisitJSON(v); err != nil {
		t.Errorf("%s: %v\n%s", what, err, text)
	}
	if field := unknownField(media.Schema.Value, v); field != "" {
		t.Errorf("%s: %s is not in docs/openapi.yaml: %s", what, field, text)
	}
}

// unknownField names a field that the schema does not have.
func unknownField(s *openapi3.Schema, v any) string {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if f := unknownField(s.Items.Value, item); f != "" {
				return f
			}
		}
	case map[string]any:
		for key, value := range v {
			p := s.Properties[key]
			if p == nil {
				if p = s.AdditionalProperties.Schema; p == nil {
					if any := s.AdditionalProperties.Has; any != nil && *any {
						continue
					}
					return key
				}
			}
			if f := unknownField(p.Value, value); f != "" {
				return key + "." + f
			}
		}
	}
	return ""
}
