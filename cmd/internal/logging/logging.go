package logging

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// Options say how to log. The zero value is text from info on, with the time
// unless the journal takes the log.
type Options struct {
	Format string // "text" or "json"; anything else is text
	Level  string // "debug", "info", "warn" or "error"; anything else is info
	// Getenv is os.Getenv where it is nil.
	Getenv func(string) string
}

// New returns a logger that writes whole lines to w. Where w is the stream that
// systemd reads into the journal, lines carry a priority instead of a time.
func New(w io.Writer, o Options) *slog.Logger {
	getenv := o.Getenv
	if getenv == nil {
		getenv = os.Getenv
	}
	return slog.New(newHandler(w, o, isJournal(w, getenv("JOURNAL_STREAM"))))
}

// ParseLevel reads a level's name; ok is false where it is none.
func ParseLevel(name string) (level slog.Level, ok bool) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, true
	case "info":
		return slog.LevelInfo, true
	case "warn", "warning":
		return slog.LevelWarn, true
	case "error":
		return slog.LevelError, true
	}
	return slog.LevelInfo, false
}

func newHandler(w io.Writer, o Options, journal bool) slog.Handler {
	level, _ := ParseLevel(o.Level)
	json := o.Format == "json"
	out := &line{w: w}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		return replace(groups, a, json, journal)
	}}
	var inner slog.Handler = slog.NewTextHandler(out, options)
	if json {
		inner = slog.NewJSONHandler(out, options)
	}
	return handler{Handler: inner, out: out, journal: journal}
}

// replace puts one attribute into the form that the log has.
func replace(groups []string, a slog.Attr, json, journal bool) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		if journal {
			return slog.Attr{} // it has its own
		}
		return slog.String(a.Key, a.Value.Time().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	}
	if a.Value.Kind() == slog.KindDuration && json {
		return slog.Float64(a.Key, a.Value.Duration().Round(time.Microsecond).Seconds())
	}
	return redactAttr(a)
}

// line takes one formatted line at a time, under the handler's lock.
type line struct {
	mu     sync.Mutex
	prefix string
	w      io.Writer
}

// Write implements io.Writer for slog's handlers, which write a record with one
// call. What it returns is about the line that they gave.
func (l *line) Write(text []byte) (int, error) {
	out := redactLine(text)
	if l.prefix != "" {
		out = append([]byte(l.prefix), out...)
	}
	if _, err := l.w.Write(out); err != nil {
		return 0, err
	}
	return len(text), nil
}

// handler is slog's own, before a line that is redacted as a whole.
type handler struct {
	slog.Handler
	out     *line
	journal bool
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	if h.journal {
		h.out.prefix = priority(r.Level)
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.Handler = h.Handler.WithAttrs(attrs)
	return h
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	h.Handler = h.Handler.WithGroup(name)
	return h
}
