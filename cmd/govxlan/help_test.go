package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/govxlan/govxlan/vtep"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// each calls f for every command of ours; those that cobra adds are its own.
func each(c *cobra.Command, f func(*cobra.Command)) {
	if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
		return
	}
	f(c)
	for _, sub := range c.Commands() {
		each(sub, f)
	}
}

// commandLines are those of a text, each in a line of its own, indented, as a
// shell has their words.
func commandLines(t *testing.T, text string) (lines [][]string) {
	t.Helper()
	var parts []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "  ") {
			parts = append(parts, strings.Split(line, "&&")...)
		}
	}
	for _, line := range parts {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "govxlan ")
		if !ok {
			continue
		}
		var words []string
		for line = strings.TrimSpace(line); line != "" && !strings.ContainsAny(line[:1], "#|>;&"); line = strings.TrimSpace(line) {
			if quoted, ok := strings.CutPrefix(line, "'"); ok {
				word, rest, closed := strings.Cut(quoted, "'")
				if !closed {
					t.Errorf("unbalanced quotes: %s", line)
				}
				words, line = append(words, word), rest
				continue
			}
			word, rest, _ := strings.Cut(line, " ")
			words, line = append(words, strings.ReplaceAll(word, "'", "")), rest
		}
		lines = append(lines, words)
	}
	return lines
}

// parse reads a command line as the program does, without doing it.
func parse(words []string) (*cobra.Command, error) {
	cmd, args, err := newRootCommand().Find(words)
	if err != nil {
		return nil, err
	}
	if err := cmd.ParseFlags(args); err != nil {
		return cmd, err
	}
	return cmd, cmd.ValidateArgs(cmd.Flags().Args())
}

// TestHelp: every command says what it does, in one manner, with an example that
// can be typed as it is.
func TestHelp(t *testing.T) {
	each(newRootCommand(), func(c *cobra.Command) {
		path := c.CommandPath()
		if s := c.Short; s == "" || strings.HasSuffix(s, ".") || strings.ToUpper(s[:1]) != s[:1] || len(s) > 80 {
			t.Errorf("%s: Short is %q, want one line like \"Show the flood list\"", path, s)
		}
		for line := range strings.Lines(c.Long) {
			if len(strings.TrimRight(line, "\n")) > 84 {
				t.Errorf("%s: a long line in Long: %q", path, line)
			}
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || strings.HasSuffix(f.Usage, ".") {
				t.Errorf("%s --%s: usage %q", path, f.Name, f.Usage)
			}
		})
		text := c.Example
		if c.Parent() == nil {
			text = c.Long // where a newcomer looks
		}
		mine := false
		for _, words := range commandLines(t, text) {
			got, err := parse(words)
			if err != nil {
				t.Errorf("%s: the example %q: %v", path, strings.Join(words, " "), err)
				continue
			}
			mine = mine || strings.HasPrefix(got.CommandPath(), path)
		}
		if !mine {
			t.Errorf("%s has no example of its own", path)
		}
	})
}

var (
	quotedCommand = regexp.MustCompile(`'govxlan ([^']+)'`)
	flagWord      = regexp.MustCompile(`--([a-z][a-z0-9-]+)`)
)

// TestAdviceCanBeTaken: the commands and flags that the explanations of drops
// name are there.
func TestAdviceCanBeTaken(t *testing.T) {
	known := make(map[string]bool)
	each(newRootCommand(), func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
	})
	for _, e := range vtep.Explanations() {
		for _, m := range quotedCommand.FindAllStringSubmatch(e.Do, -1) {
			// What stands for something else is in capitals.
			var words []string
			for _, w := range strings.Fields(m[1]) {
				if strings.ToLower(w) == w {
					words = append(words, w)
				}
			}
			if cmd, _, err := newRootCommand().Find(words); err != nil || cmd.Name() != words[len(words)-1] {
				t.Errorf("%s: there is no '%s'", e.Counter, m[0])
			}
		}
		for _, m := range flagWord.FindAllStringSubmatch(e.Do, -1) {
			if !known[m[1]] {
				t.Errorf("%s: there is no --%s", e.Counter, m[1])
			}
		}
	}
}

// TestPagesParse: the command lines in pages for users are ones that the program
// takes.
func TestPagesParse(t *testing.T) {
	for _, page := range []string{"ping.md", "troubleshooting.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range regexp.MustCompile("`(govxlan [^`]+)`|(?m)^(?:\\$ )?(govxlan .*)$").FindAllStringSubmatch(string(text), -1) {
			for _, words := range commandLines(t, "  "+m[1]+m[2]) {
				n++
				if _, err := parse(words); err != nil && !strings.Contains(err.Error(), "given 0 arguments") {
					t.Errorf("%s: govxlan %v: %v", page, words, err)
				}
			}
		}
		if n < 2 {
			t.Errorf("%s: only %d command lines found", page, n)
		}
	}
}
