// Command soak runs endpoints under traffic, change and faults, and reports: see
// docs/soak.md, or
//
//	make soak TIME=10m
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/govxlan/govxlan/internal/soak"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "soak: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	c := soak.Config{Log: os.Stderr}
	flag.StringVar(&c.Binary, "binary", "bin/govxlan", "the govxlan under test")
	flag.DurationVar(&c.Time, "time", 10*time.Minute, "how long")
	flag.DurationVar(&c.Every, "every", 0, "a fault so often (0: about 30 in all)")
	flag.Uint64Var(&c.Seed, "seed", uint64(time.Now().UnixNano()), "makes the same faults again")
	flag.StringVar(&c.Datapath, "datapath", "", "of the endpoints: auto, user, ebpf")
	out := flag.String("out", "bin/soak", "directory for report.md, report.svg, report.json")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("%q: no arguments, only flags", flag.Args())
	}
	var err error
	if c.Binary, err = filepath.Abs(c.Binary); err != nil {
		return err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "soak for %v, seed %d\n", c.Time, c.Seed)
	r, err := soak.Run(ctx, c)
	if err != nil {
		return err
	}
	text, err := os.Create(filepath.Join(*out, "report.md"))
	if err != nil {
		return err
	}
	defer text.Close()
	picture, err := os.Create(filepath.Join(*out, "report.svg"))
	if err != nil {
		return err
	}
	defer picture.Close()
	numbers, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*out, "report.json"), numbers, 0o644); err != nil {
		return err
	}
	if err := r.WriteMarkdown(text, "report.svg"); err != nil {
		return err
	}
	if err := r.WriteSVG(picture); err != nil {
		return err
	}
	if err := r.WriteMarkdown(os.Stdout, ""); err != nil {
		return err
	}
	if n := len(r.Failures); n > 0 {
		return fmt.Errorf("%d failures, in %s", n, filepath.Join(*out, "report.md"))
	}
	return nil
}
