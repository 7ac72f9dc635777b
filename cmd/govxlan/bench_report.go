package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/govxlan/govxlan/bench/report"
	"github.com/govxlan/govxlan/internal/wholefile"
	"github.com/spf13/cobra"
)

// benchFiles are what is made of figures beside what goes to standard output.
type benchFiles struct{ plot, markdown string }

func (f *benchFiles) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.plot, "plot", "", "draw the figures into this file, .svg or .png")
	cmd.Flags().StringVar(&f.markdown, "markdown", "", "write a page of documentation into this file")
}

// check looks for what would make the files fail after all the measuring.
func (f *benchFiles) check() error {
	if f.plot != "" && !slices.Contains(report.PlotFormats, f.format()) {
		return usagef("--plot %q: give a name that ends in .svg or .png", f.plot)
	}
	for _, file := range []struct{ flag, path string }{{"--plot", f.plot}, {"--markdown", f.markdown}} {
		if file.path == "" {
			continue
		}
		if dir := filepath.Dir(file.path); !isDirectory(dir) {
			return usagef("%s %q: there is no directory %s", file.flag, file.path, dir)
		}
		if isDirectory(file.path) {
			return usagef("%s %q: that is a directory, give a file", file.flag, file.path)
		}
	}
	return nil
}

func isDirectory(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.IsDir()
}

func (f *benchFiles) format() string {
	return strings.ToLower(strings.TrimPrefix(filepath.Ext(f.plot), "."))
}

// write writes the files that were asked for.
func (f *benchFiles) write(page *report.Page) error {
	if f.plot != "" {
		err := writeBenchFile(f.plot, func(w io.Writer) error { return page.Net.WritePlot(w, f.format()) })
		if err != nil {
			return err
		}
	}
	if f.markdown == "" {
		return nil
	}
	if f.plot != "" {
		page.Picture = filepath.Base(f.plot)
		if link, err := filepath.Rel(filepath.Dir(f.markdown), f.plot); err == nil {
			page.Picture = filepath.ToSlash(link)
		}
	}
	return writeBenchFile(f.markdown, page.WriteMarkdown)
}

// writeBenchFile leaves a file whole or not at all.
func writeBenchFile(path string, write func(io.Writer) error) error {
	if err := wholefile.Write(path, 0o644, write); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func newBenchReportCommand() *cobra.Command {
	var files benchFiles
	cmd := &cobra.Command{
		Use:   "report FILE.json...",
		Short: "Show figures that were measured before, as table, picture or page",
		Long: `Read what bench net --json and bench codec --json wrote, and show it: as tables, or
as a picture and a page of documentation.`,
		Example: `  govxlan bench report net.json
  govxlan bench report net.json codec.json --markdown docs/benchmarks.md --plot docs/benchmarks.svg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := files.check(); err != nil {
				return err
			}
			page, err := readBench(args)
			if err != nil {
				return err
			}
			if files.plot != "" && page.Net == nil {
				return usagef("--plot draws figures of bench net, and there are none in %s", strings.Join(args, ", "))
			}
			if files != (benchFiles{}) {
				return files.write(page)
			}
			out := cmd.OutOrStdout()
			if page.Net != nil {
				if err := page.Net.WriteTable(out, terminalColumns(out)); err != nil {
					return err
				}
			}
			if page.Codec != nil {
				if page.Net != nil {
					fmt.Fprintln(out)
				}
				return page.Codec.WriteTable(out)
			}
			return nil
		},
	}
	files.flags(cmd)
	return cmd
}

// readBench reads reports; each says itself of which kind it is.
func readBench(paths []string) (*report.Page, error) {
	page := &report.Page{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var kind struct {
			Kind string `json:"kind"`
		}
		if err := json.Unmarshal(text, &kind); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		switch {
		case kind.Kind == "net" && page.Net == nil:
			page.Net = &report.Report{}
			err = json.Unmarshal(text, page.Net)
		case kind.Kind == "codec" && page.Codec == nil:
			page.Codec = &report.Codec{}
			err = json.Unmarshal(text, page.Codec)
		case kind.Kind == "net" || kind.Kind == "codec":
			err = fmt.Errorf("a second report of %s; give one", kind.Kind)
		default:
			err = fmt.Errorf("this was not written by bench net --json or bench codec --json")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if page.Net != nil {
			page.Net.Summarize()
		}
	}
	return page, nil
}
