package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// Pages are written by a test, and not by the program, for which the library
// would weigh too much.
var manDir = flag.String("man", "", "write the manual pages into this directory")

// manDate is in the pages when SOURCE_DATE_EPOCH is not set.
const manDate = "2026-11-26"

// TestManPages makes a page for section 8 of each command, with all its flags.
func TestManPages(t *testing.T) {
	date, err := time.Parse(time.DateOnly, manDate)
	if err != nil {
		t.Fatal(err)
	}
	root := newRootCommand()
	root.DisableAutoGenTag = true
	root.InitDefaultCompletionCmd("govxlan")
	for _, c := range documented(root) {
		c.InitDefaultHelpFlag()
		name := strings.ReplaceAll(c.CommandPath(), " ", "-")
		var flags []string
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				flags = append(flags, f.Name)
			}
			f.Usage = literal(f.Usage)
		})
		c.Short, c.Long = literal(c.Short), literal(c.Long)
		var page bytes.Buffer
		header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "8", Source: "govxlan " + version, Manual: "govxlan"}
		if os.Getenv("SOURCE_DATE_EPOCH") == "" {
			header.Date = &date
		}
		if err := doc.GenMan(c, header, &page); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range flags {
			if !strings.Contains(page.String(), "--"+f) {
				t.Errorf("%s(8) has no --%s", name, f)
			}
		}
		if name == "govxlan-up" && !strings.Contains(page.String(), "<port>") {
			t.Error("what is in angle brackets is lost")
		}
		if *manDir == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(*manDir, name+".8"), page.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// literal is text of which the library, that takes it for Markdown, changes
// nothing.
func literal(s string) string {
	return strings.NewReplacer("<", `\<`, ">", `\>`, "*", `\*`, "_", `\_`).Replace(s)
}

// documented lists a command and those below it that a user sees.
func documented(c *cobra.Command) []*cobra.Command {
	list := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && !sub.IsAdditionalHelpTopicCommand() {
			list = append(list, documented(sub)...)
		}
	}
	return list
}

// TestInstances: the unit of many endpoints is that of one, with the instance's
// name for that of the file.
func TestInstances(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("dist", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := strings.ReplaceAll(read("govxlan.service"), "/etc/govxlan/govxlan.yaml", "/etc/govxlan/%i.yaml")
	want = strings.Replace(want, "VXLAN tunnel endpoint", "VXLAN tunnel endpoint %i", 1)
	if got := read("govxlan@.service"); got != want {
		t.Errorf("govxlan@.service is\n%s\nwant\n%s", got, want)
	}
	for _, line := range strings.Split(want, "\n") {
		name, found := strings.CutPrefix(line, "ExecStart=/usr/bin/govxlan ")
		if !found {
			continue
		}
		args := strings.Fields(name)
		c, rest, err := newRootCommand().Find(args)
		if err == nil {
			err = c.ParseFlags(rest)
		}
		if err != nil || c.Name() != "up" {
			t.Errorf("%s: %v", line, err)
		}
	}
}
