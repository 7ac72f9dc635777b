package control

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/govxlan/govxlan/vxlan"
)

// example is a command of a page, and what it prints.
type example struct{ command, output string }

// examples are those of the blocks "console" of a page.
func examples(t *testing.T, page string) (all []example) {
	t.Helper()
	text, err := os.ReadFile(page)
	must(t, err)
	inside := false
	for line := range strings.Lines(string(text)) {
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = strings.TrimSpace(line) == "```console"
		case !inside:
		case isCommand:
			all = append(all, example{command: strings.TrimSpace(command)})
		default:
			all[len(all)-1].output += line
		}
	}
	return all
}

// matches compares an output with that of a page, where … stands for anything.
func matches(want, got string) bool {
	parts := strings.Split(want, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(got)
}

// TestControlPage runs the examples of docs/control.md, in their order, against
// one endpoint.
func TestControlPage(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatalf("the examples want curl: %v", err)
	}
	path := serve(t, fakeProcess{newEndpoint(t, 4097)})
	all := examples(t, "../../docs/control.md")
	if len(all) < 10 {
		t.Fatalf("only %d examples", len(all))
	}
	env := append(os.Environ(), "SOCK="+path)
	asked := make(map[string]bool)
	for _, e := range all {
		if strings.HasPrefix(e.command, "SOCK=") {
			continue // where it is of those who installed it; here it is elsewhere
		}
		for _, r := range routes(t) {
			_, p, _ := strings.Cut(r, " ")
			asked[p] = asked[p] || strings.Contains(e.command, "http://govxlan"+p)
		}
		if strings.HasSuffix(e.command, "/v1/watch") {
			watchExample(t, env, path, e)
			continue
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", e.command)
		cmd.Env = env
		out, err := cmd.CombinedOutput()
		if err != nil || !matches(e.output, string(out)) {
			t.Errorf("$ %s\n%s%v\nthe page says:\n%s", e.command, out, err, e.output)
		}
	}
	for p, ok := range asked {
		if !ok && !pagesOfTheirOwn[p] {
			t.Errorf("%s has no example in docs/control.md", p)
		}
	}
}

// pagesOfTheirOwn are paths with examples elsewhere.
var pagesOfTheirOwn = map[string]bool{"/v1/capture": true, "/v1/takeover": true}

// collector is what a process has written so far.
type collector struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (c *collector) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.Write(b)
}

func (c *collector) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// watchExample runs a command that ends when it is ended, and makes events until
// it has told of one.
func watchExample(t *testing.T, env []string, path string, e example) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "exec "+e.command)
	cmd.Env = env
	var out collector
	cmd.Stdout = &out
	must(t, cmd.Start())
	mac, err := vxlan.ParseMAC("02:42:0a:00:01:70")
	must(t, err)
	c, told := NewClient(path), false
	for !told && ctx.Err() == nil {
		for _, verb := range []string{"add", "del"} {
			wish := FDBChange{Verb: verb, MAC: mac}
			if verb == "add" {
				wish.VTEP = netip.MustParseAddr("192.168.52.204")
			}
			_, err := c.ChangeFDB(t.Context(), wish)
			must(t, err)
		}
		for line := range strings.Lines(out.String()) {
			told = told || matches(e.output, line)
		}
	}
	if !told {
		t.Errorf("$ %s\n%s\nthe page says:\n%s", e.command, out.String(), e.output)
	}
	cancel()
	_ = cmd.Wait() // killed
}
