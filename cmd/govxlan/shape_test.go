package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/govxlan/govxlan/internal/control"
	"github.com/govxlan/govxlan/internal/doctor"
	"github.com/govxlan/govxlan/internal/reach"
	"github.com/govxlan/govxlan/tap"
	"github.com/govxlan/govxlan/transport"
	"github.com/govxlan/govxlan/vtep"
	"github.com/govxlan/govxlan/vxlan"
)

var updateShapes = flag.Bool("update-shapes", false, "write testdata/shapes anew")

// shape is what of a JSON value programs rely on: which keys there are, and the
// kinds of the values, all elements of a list taken together.
type shape struct {
	kinds map[string]bool // string, number, bool, null, list, object
	list  *shape
	keys  map[string]*shape
	times int            // objects seen
	seen  map[string]int // of these, how many had the key
}

func (s *shape) add(v any) {
	if s.kinds == nil {
		s.kinds, s.keys, s.seen = make(map[string]bool), make(map[string]*shape), make(map[string]int)
	}
	switch v := v.(type) {
	case nil:
		s.kinds["null"] = true
	case bool:
		s.kinds["bool"] = true
	case float64:
		s.kinds["number"] = true
	case string:
		s.kinds["string"] = true
	case []any:
		s.kinds["list"] = true
		if s.list == nil {
			s.list = new(shape)
		}
		for _, item := range v {
			s.list.add(item)
		}
	case map[string]any:
		s.kinds["object"] = true
		s.times++
		for key, value := range v {
			if s.keys[key] == nil {
				s.keys[key] = new(shape)
			}
			s.keys[key].add(value)
			s.seen[key]++
		}
	}
}

// write prints a line for each place: "vnis[].peers[].port  number", with "?" for
// keys that some objects do not have.
func (s *shape) write(w io.Writer, at string) {
	if at != "" || len(s.keys) == 0 {
		kinds := slices.Sorted(maps.Keys(s.kinds))
		fmt.Fprintf(w, "%s  %s\n", strings.TrimPrefix(at, "."), strings.Join(kinds, " or "))
	}
	if s.list != nil && s.list.kinds != nil {
		s.list.write(w, at+"[]")
	}
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		optional := ""
		if s.seen[key] < s.times {
			optional = "?"
		}
		s.keys[key].write(w, at+"."+key+optional)
	}
}

// shapeOf reads JSON values, one or many, and returns the shape of all.
func shapeOf(t *testing.T, text []byte) string {
	t.Helper()
	var s shape
	d := json.NewDecoder(bytes.NewReader(text))
	for {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		s.add(v)
	}
	var b strings.Builder
	s.write(&b, "")
	return b.String()
}

// fill gives v and all that is in it values that no JSON leaves out. Lists get
// one more element, a zero one, to show what may be missing.
func fill(v reflect.Value) {
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = netip.MustParseAddr("192.168.52.204")
		return
	case *time.Time:
		*p = time.Unix(1, 0)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.String:
		v.SetString("x")
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		empty(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	default:
		panic(fmt.Sprintf("fill %v", v.Type()))
	}
}

// empty makes lists in v that have no elements, and no null, as endpoints do.
func empty(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				empty(v.Field(i))
			}
		}
	}
}

// full is a T with all that it can have.
func full[T any]() (v T) {
	fill(reflect.ValueOf(&v).Elem())
	return v
}

// fullEndpoint is one that has everything to tell. Changes are made to one in
// memory.
type fullEndpoint struct{ *vtep.Endpoint }

func (fullEndpoint) Status(...vxlan.VNI) vtep.Status            { return full[vtep.Status]() }
func (fullEndpoint) FDB(...vxlan.VNI) []vtep.EntryStatus        { return full[[]vtep.EntryStatus]() }
func (fullEndpoint) Nexthops(...vxlan.VNI) []vtep.NexthopStatus { return full[[]vtep.NexthopStatus]() }
func (fullEndpoint) Neighbours(...vxlan.VNI) []vtep.NeighbourStatus {
	return full[[]vtep.NeighbourStatus]()
}

func (fullEndpoint) AddVNI(context.Context, control.VNIWish) (string, error) { return "up", nil }
func (fullEndpoint) DelVNI(vxlan.VNI) error                                  { return nil }
func (fullEndpoint) VNIs() []control.VNI                                     { return full[[]control.VNI]() }
func (fullEndpoint) Members() control.Membership {
	at := netip.MustParseAddrPort("192.168.52.204:7947")
	return control.Membership{
		On: true, Address: at, Joins: []control.Join{{Address: "192.168.52.205", Error: "nobody listens there yet"}},
		Members: []control.Member{{
			Name: "hostB", Address: at, VTEP: at.Addr(), Port: 4789, State: "alive",
			VNIs: []control.MemberVNI{{VNI: 10, Stations: []control.Station{{MAC: vxlan.MAC{2, 0, 0, 0, 0, 1}, IPs: []netip.Addr{at.Addr()}}}}},
		}},
	}
}
func (fullEndpoint) TakeOver(control.Takeover) (control.TakenOver, error) {
	return control.TakenOver{}, nil
}

func (fullEndpoint) Reload(context.Context) (control.Reloaded, error) {
	return full[control.Reloaded](), nil
}
func (fullEndpoint) Config() ([]byte, json.RawMessage, error) { return nil, json.RawMessage(`{}`), nil }

// serveFull has a fullEndpoint answer until the test ends.
func serveFull(t *testing.T) (sock string) {
	t.Helper()
	conn, err := transport.NewNetwork(transport.NetworkConfig{}).Listen(netip.MustParseAddrPort("192.168.52.203:4789"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := vtep.New(vtep.Config{Conn: conn})
	if err != nil {
		t.Fatal(err)
	}
	dev := tap.NewMemory(tap.MemoryConfig{Name: "vx10", MAC: []byte{2, 0, 0, 0, 0, 1}})
	if err := e.AddVNI(vtep.VNIConfig{VNI: 10, Device: dev, ARP: vtep.ARPSuppress}); err != nil {
		t.Fatal(err)
	}
	sock = filepath.Join(t.TempDir(), "c.sock")
	server, err := control.Listen(sock, fullEndpoint{e}, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, e.Close()); err != nil {
			t.Error(err)
		}
	})
	return sock
}

// TestShapes: what --json prints has the keys and kinds that testdata/shapes has
// for it, so that no field is renamed or lost by accident.
func TestShapes(t *testing.T) {
	sock := serveFull(t)
	for _, c := range []struct{ name, line string }{
		{"status", "status --json --control SOCK"},
		{"stats", "stats --json --control SOCK"},
		{"stats-watch", "stats --watch --interval 100ms --count 2 --json --control SOCK"},
		{"stats-explain", "stats --explain --json"},
		{"fdb-show", "fdb show --json --control SOCK"},
		{"fdb-add", "fdb add 02:42:0a:00:01:77 192.168.52.204 --json --control SOCK"},
		{"fdb-flush", "fdb flush --learned --json --control SOCK"},
		{"peer-add", "peer add 192.168.52.209 --json --control SOCK"},
		{"neigh-show", "neigh show --json --control SOCK"},
		{"neigh-add", "neigh add 10.0.1.77 02:42:0a:00:01:77 --json --control SOCK"},
		{"nexthop-list", "nexthop list --json --control SOCK"},
		{"nexthop-add", "nexthop add 11 192.168.52.204 --json --control SOCK"},
		{"vni-list", "vni list --json --control SOCK"},
		{"vni-add", "vni add 11 --peer 192.168.52.204 --json --control SOCK"},
		{"vni-del", "vni del 11 --json --control SOCK"},
		{"members", "members --json --control SOCK"},
		{"reload", "reload --json --control SOCK"},
		{"config-show", "config show --json " + filepath.Join("testdata", "shapes", "config.yaml")},
		{"version", "version --json"},
		{"decode", "decode --json " + filepath.Join("..", "..", "internal", "explain", "testdata", "v4-wire.pcap")},
		{"bench-codec", "bench codec --rounds 1 --only lookup.*1.entry --json"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.line, "SOCK", sock))
		var stdout, stderr bytes.Buffer
		if status := main1(args, strings.NewReader(""), &stdout, &stderr); status != 0 {
			t.Errorf("%s: status %d, %s", c.line, status, stderr.String())
			continue
		}
		compareShape(t, c.name, stdout.Bytes())
	}
	// monitor prints these as they are.
	events, err := json.Marshal([]vtep.Event{full[vtep.Event](), {}})
	if err != nil {
		t.Fatal(err)
	}
	compareShape(t, "monitor", events)
	// And ping and doctor these, which they need real hosts for.
	for name, v := range map[string]any{"ping": full[reach.Report](), "doctor": full[doctor.Report]()} {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		compareShape(t, name, text)
	}
	// It takes long to measure; this is what was measured last, with what else a
	// system may say of itself.
	measured, err := os.ReadFile(filepath.Join("..", "..", "docs", "benchmarks-net.json"))
	if err != nil {
		t.Fatal(err)
	}
	measured = bytes.Replace(measured, []byte(`"title": "govxlan in user space"`), []byte(`"title": "govxlan in user space", "with": "--queues 2"`), 1)
	compareShape(t, "bench-net", measured)
}

// compareShape compares a shape with the one that is kept.
func compareShape(t *testing.T, name string, text []byte) {
	t.Helper()
	got := shapeOf(t, text)
	path := filepath.Join("testdata", "shapes", name+".txt")
	if *updateShapes {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: run this test with -update-shapes", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s: fields may be added (-update-shapes), never renamed or removed (-want +got):\n%s", name, diff)
	}
}
