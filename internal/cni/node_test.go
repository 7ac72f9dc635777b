package cni

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An API server is asked for one node, by the token of the account, and only one
// that the account's authority vouches for.
func TestPodCIDRs(t *testing.T) {
	answers := map[string]string{
		"worker1": `{"kind": "Node", "metadata": {"name": "worker1"}, "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd44:0:0:3::/64"]}}`,
		"worker2": `{"kind": "Node", "spec": {}}`,
		"worker3": `{"kind": "Node", "spec": {"podCIDRs": ["x"]}}`,
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[strings.TrimPrefix(r.URL.Path, "/api/v1/nodes/")]
		switch {
		case r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer secret":
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"kind": "Status", "message": "nodes is forbidden"}`)
		default:
			_, _ = io.WriteString(w, answer)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that turns away is no news
	server.StartTLS()
	t.Cleanup(server.Close)
	account := func(token string, certificate []byte) Node {
		dir := t.TempDir()
		for name, text := range map[string][]byte{"token": []byte(token), "ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return Node{Server: server.Listener.Addr().String(), Account: dir}
	}
	good := account("secret\n", server.Certificate().Raw)
	got, err := good.PodCIDRs(t.Context(), "worker1")
	if want := prefixes("10.244.3.0/24", "fd44:0:0:3::/64"); !slices.Equal(got, want) || err != nil {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	for _, tc := range []struct {
		node  Node
		name  string
		words string
	}{
		{good, "worker2", "--allocate-node-cidrs"},
		{good, "worker3", "worker3"},
		{good, "worker4", "403 Forbidden: nodes is forbidden"},
		{account("wrong", server.Certificate().Raw), "worker1", "401"},
		{account("secret", nil), "worker1", "has no certificate"},
		{Node{Server: good.Server, Account: t.TempDir()}, "worker1", "token"},
	} {
		if got, err := tc.node.PodCIDRs(t.Context(), tc.name); err == nil || !strings.Contains(err.Error(), tc.words) {
			t.Errorf("%s: %v, %v, want %q", tc.name, got, err, tc.words)
		}
	}
	// A server that another authority vouches for.
	other := httptest.NewUnstartedServer(nil)
	other.Config.ErrorLog = server.Config.ErrorLog
	other.StartTLS()
	t.Cleanup(other.Close)
	stranger := account("secret", []byte("no certificate"))
	stranger.Server = other.Listener.Addr().String()
	if _, err := stranger.PodCIDRs(t.Context(), "worker1"); err == nil {
		t.Error("a stranger is believed")
	}
}

func TestInCluster(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if _, err := InCluster(); err == nil || !strings.Contains(err.Error(), "this is no pod") {
		t.Error(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "fd44::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	if n, err := InCluster(); err != nil || n.Server != "[fd44::1]:443" {
		t.Error(n, err)
	}
}
