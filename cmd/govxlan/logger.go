package main

import (
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// loggerFor checks --log-level and --log-format and returns what makes a
// logger from them.
func loggerFor(level, format string) (func(io.Writer) *zap.Logger, error) {
	var l zapcore.Level
	if err := l.UnmarshalText([]byte(level)); err != nil || l > zapcore.ErrorLevel {
		return nil, fmt.Errorf("--log-level %q: give debug, info, warn or error", level)
	}
	if format != "text" && format != "json" {
		return nil, fmt.Errorf("--log-format %q: give text or json", format)
	}
	return func(w io.Writer) *zap.Logger {
		config := zap.NewProductionEncoderConfig()
		config.EncodeTime = zapcore.ISO8601TimeEncoder
		encoder := zapcore.NewJSONEncoder(config)
		if format == "text" {
			config.EncodeLevel = zapcore.CapitalLevelEncoder
			if hasColor(w) {
				config.EncodeLevel = zapcore.CapitalColorLevelEncoder
			}
			config.ConsoleSeparator = "  "
			encoder = zapcore.NewConsoleEncoder(config)
		}
		return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), l))
	}, nil
}
