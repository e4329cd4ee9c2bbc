package member

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// logger passes on what etcd warns of, until ending is true: the end is full of errors.
func logger(log *slog.Logger, ending *atomic.Bool) *zap.Logger {
	if log == nil {
		return zap.NewNop()
	}
	return zap.New(core{log.With("part", "etcd"), ending})
}

// core is a zapcore.Core that writes to a slog.Logger: errors as warnings, since whether the
// master can go on without is the master's to say, and warnings as information.
type core struct {
	log    *slog.Logger
	ending *atomic.Bool
}

func (c core) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel && !c.ending.Load() }

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log.With(attributes(fields)...), c.ending}
}

func (c core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelInfo
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, e.Message, attributes(fields)...)
	return nil
}

func (c core) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(encoder)
	}
	list := make([]any, 0, 2*len(encoder.Fields))
	for _, f := range fields {
		if value, ok := encoder.Fields[f.Key]; ok {
			list = append(list, f.Key, value)
		}
	}
	return list
}
