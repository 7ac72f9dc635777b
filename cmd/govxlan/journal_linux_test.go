package main

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/govxlan/govxlan/internal/config"
	"go.uber.org/zap"
)

// Lines for the journal begin with their priority, and have no time of their own.
func TestJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	id, err := fileID(w)
	if err != nil {
		t.Fatal(err)
	}
	c, err := config.New(config.Values{"vni": {Texts: []string{"1"}}, "log-level": {Texts: []string{"debug"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", "1:1")
	if isJournal(w) {
		t.Error("another stream is taken for the journal")
	}
	t.Setenv("JOURNAL_STREAM", id)
	log := newLogger(w, c.Endpoint).With(zap.Int("vni", 7))
	log.Debug("one")
	log.Info("two", zap.Error(errors.New("cause")))
	log.Warn("three")
	log.Error("four")
	w.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	want := `<7>one  {"vni": 7}
<6>two  {"vni": 7, "error": "cause"}
<4>three  {"vni": 7}
<3>four  {"vni": 7}
`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if isJournal(io.Discard) {
		t.Error("what is no file is taken for the journal")
	}
}
