package main

import (
	"io"
	"sync"
	"time"

	"snapferry/cmd/internal/cli"
)

// track is one thing that moves: a disk of a cycle, or of a reading back.
type track struct {
	name        string
	done, total int64 // bytes; total 0 while it is not known
	rate        float64
	left        time.Duration
}

// subject is what runs: a cycle, or a reading back. Its methods may be called
// at any time while it runs.
type subject interface {
	title() string
	step() string
	tracks() []track
	event() any // as a JSON document
}

// painter shows subjects in one way. The display calls it under a lock.
type painter interface {
	stepped(s subject) // a step began
	tick(s subject)    // some time went by
	ended(s subject)
	close()
}

// display shows what runs, on stderr.
type display struct {
	mu    sync.Mutex
	paint painter
	every time.Duration
}

// The modes of --progress.
const (
	progressAuto  = "auto"
	progressBars  = "bars"
	progressLines = "lines"
	progressJSON  = "json"
	progressNone  = "none"
)

const (
	// barsEvery is as often as a person sees a difference.
	barsEvery = 150 * time.Millisecond
	// linesEvery keeps the log of a nightly job readable.
	linesEvery = 10 * time.Second
	// eventsEvery is as often as a program that draws something wants to know.
	eventsEvery = time.Second
)

// newDisplay chooses the painter.
func newDisplay(mode string, std cli.Streams) (*display, error) {
	if mode == progressAuto {
		mode = progressLines
		if std.ShowTerminal && !std.Logs { // log lines and bars would tear each other
			mode = progressBars
		}
	}
	switch mode {
	case progressBars:
		return &display{paint: newBars(std.Err), every: barsEvery}, nil
	case progressLines:
		return &display{paint: &lines{w: std.Err}, every: linesEvery}, nil
	case progressJSON:
		return &display{paint: &events{w: std.Err}, every: eventsEvery}, nil
	case progressNone:
		return &display{paint: silence{}, every: time.Hour}, nil
	}
	return nil, cli.Usagef("--progress %s: it is auto, bars, lines, json or none", mode)
}

// follow shows s until stop is called.
func (d *display) follow(s subject) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(d.every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				d.locked(func() { d.paint.tick(s) })
			case <-quit:
				d.locked(func() { d.paint.ended(s) })
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// stepped tells that a step of s began.
func (d *display) stepped(s subject) { d.locked(func() { d.paint.stepped(s) }) }

// close ends the display; nothing is followed any more.
func (d *display) close() { d.locked(d.paint.close) }

func (d *display) locked(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// writer is w for lines that come while the display is on: bars that are drawn
// anew would wipe out what was written beside them.
func (d *display) writer(w io.Writer) io.Writer {
	return writerFunc(func(b []byte) (n int, err error) {
		d.locked(func() {
			if bars, ok := d.paint.(*bars); ok {
				if n, err = bars.p.Write(b); err == nil {
					return
				} // closed already
			}
			n, err = w.Write(b)
		})
		return n, err
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// silence shows nothing.
type silence struct{}

func (silence) stepped(subject) {}
func (silence) tick(subject)    {}
func (silence) ended(subject)   {}
func (silence) close()          {}
