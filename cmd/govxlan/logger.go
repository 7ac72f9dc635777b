package main

import (
	"io"

	"github.com/govxlan/govxlan/internal/config"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger makes the logger of a process that runs on, to standard error.
func newLogger(w io.Writer, e *config.Endpoint) *zap.Logger {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if !e.LogJSON {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		if hasColor(w) {
			c.EncodeLevel = zapcore.CapitalColorLevelEncoder
		}
		c.ConsoleSeparator = "  "
		encoder = zapcore.NewConsoleEncoder(c)
	}
	if !e.LogJSON && isJournal(w) {
		encoder = newJournalEncoder()
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), e.LogLevel))
}
