package main

import (
	"fmt"
	"io"
	"os"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// isJournal says whether what is written to w ends in systemd's journal, which
// notes times itself.
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	id, err := fileID(f)
	return err == nil && id == os.Getenv("JOURNAL_STREAM")
}

// journalEncoder writes lines as the journal wants them: the level as a prefix
// <N> (sd-daemon(3)), which it takes off again, and no time.
type journalEncoder struct{ zapcore.Encoder }

func newJournalEncoder() zapcore.Encoder {
	return journalEncoder{zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		MessageKey: "message", ConsoleSeparator: "  ",
		EncodeDuration: zapcore.StringDurationEncoder,
	})}
}

func (e journalEncoder) Clone() zapcore.Encoder { return journalEncoder{e.Encoder.Clone()} }

func (e journalEncoder) EncodeEntry(entry zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := e.Encoder.EncodeEntry(entry, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	b := buffers.Get()
	b.AppendString(fmt.Sprintf("<%d>", priority(entry.Level)))
	_, err = b.Write(line.Bytes())
	return b, err
}

var buffers = buffer.NewPool()

// priority is that of syslog.
func priority(l zapcore.Level) int {
	switch {
	case l >= zapcore.DPanicLevel:
		return 2
	case l == zapcore.ErrorLevel:
		return 3
	case l == zapcore.WarnLevel:
		return 4
	case l == zapcore.InfoLevel:
		return 6
	}
	return 7
}
