package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// tutorialStep is a command of docs/tutorial.md with what it prints.
type tutorialStep struct {
	line    int // of the page
	node    string
	command string
	want    []string
}

var tutorialPrompt = regexp.MustCompile(`^(node[12])# (.*)$`)

// tutorialSteps are those of a page, in its console blocks.
func tutorialSteps(t *testing.T, page string) (steps []tutorialStep) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	must(t, err)
	inside, open := false, false // in a block; in a command that goes on
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside, open = line == "```console", false
		case !inside:
		case open:
			s := &steps[len(steps)-1]
			s.command += "\n" + line
			open = strings.HasSuffix(line, `\`)
		default:
			if m := tutorialPrompt.FindStringSubmatch(line); m != nil {
				steps = append(steps, tutorialStep{line: i + 1, node: m[1], command: m[2]})
				open = strings.HasSuffix(line, `\`)
				continue
			}
			if len(steps) == 0 {
				t.Fatalf("%s:%d: output without a command", page, i+1)
			}
			s := &steps[len(steps)-1]
			s.want = append(s.want, line)
		}
	}
	return steps
}

// matches compares what is printed with what the page says: "…" stands for anything in
// a line, alone for any lines.
func (s *tutorialStep) matches(printed string) bool {
	var b strings.Builder
	b.WriteString(`^`)
	for _, line := range s.want {
		if line == "…" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(line, "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		b.WriteString(strings.Join(parts, `.*`) + `\n`)
	}
	b.WriteString(`$`)
	if printed != "" && !strings.HasSuffix(printed, "\n") {
		printed += "\n"
	}
	return regexp.MustCompile(b.String()).MatchString(printed)
}

func TestTutorialMatches(t *testing.T) {
	s := tutorialStep{want: []string{"a … c", "…", "end."}}
	for printed, want := range map[string]bool{
		"a b c\nend.\n": true, "a b c\nx\ny\nend.": true, "a b\nend.\n": false, "a b c\nend!\n": false, "a b c\nend.\nmore\n": false, "": false,
	} {
		if got := s.matches(printed); got != want {
			t.Errorf("%q: %v", printed, got)
		}
	}
	if none := (tutorialStep{}); !none.matches("") || none.matches("x\n") {
		t.Error("a command that prints nothing")
	}
}

// TestDockerTutorial runs each command of docs/tutorial.md on two nodes with Docker, and
// holds the page to what is printed. The Chinese page has the same commands.
func TestDockerTutorial(t *testing.T) {
	t.Parallel()
	steps, chinese := tutorialSteps(t, "tutorial.md"), tutorialSteps(t, "tutorial.zh.md")
	if len(steps) < 20 || len(steps) != len(chinese) {
		t.Fatalf("%d commands, and %d in Chinese", len(steps), len(chinese))
	}
	for i, s := range steps {
		if z := chinese[i]; s.node != z.node || s.command != z.command || strings.Join(s.want, "\n") != strings.Join(z.want, "\n") {
			t.Errorf("tutorial.zh.md:%d differs from tutorial.md:%d", z.line, s.line)
		}
	}
	nodes := newDockerNodes(t, "dktut", false)
	bin := t.TempDir()
	buildStatic(t, filepath.Join(bin, "govxlan"))
	t.Cleanup(func() { // whatever the walk has left, should it end in the middle
		for _, n := range nodes {
			if n.Daemon != nil && t.Failed() {
				_, _ = n.Docker(context.Background(), "swarm", "leave", "--force")
			}
		}
	})
	token := ""
	for _, s := range steps {
		n := nodes[0]
		if s.node == "node2" {
			n = nodes[1]
		}
		command := strings.NewReplacer(
			"SWMTKN-…", token, "/var/lib/docker", n.Data(), "/tmp/govxlan-plugin", filepath.Join(bin, s.node),
			"/tmp/overlay.pcap", filepath.Join(bin, "overlay.pcap"),
		).Replace(s.command)
		cmd := n.Daemon.Command(t.Context(), "env", "DOCKER_HOST="+n.Host(), "PATH="+bin+":"+os.Getenv("PATH"), "sh", "-c", command)
		out, err := cmd.CombinedOutput()
		if found := regexp.MustCompile(`SWMTKN-\S+`).Find(out); found != nil {
			token = string(found)
		}
		t.Logf("%s# %s\n%s", s.node, s.command, out)
		if err != nil {
			t.Fatalf("tutorial.md:%d: %s: %v: %s", s.line, s.command, err, out)
		}
		if !s.matches(strings.ReplaceAll(string(out), n.Data(), "/var/lib/docker")) {
			t.Errorf("tutorial.md:%d: %s prints\n%s\nand the page says\n%s", s.line, s.command, out, strings.Join(s.want, "\n"))
		}
	}
	for _, n := range nodes {
		if s := snapshot(t, n.host.Namespace); strings.Contains(s, ":2118") { // 8472
			t.Errorf("the VTEP is left on %s: %s", n.Name(), s)
		}
	}
}
