package main

import (
	"fmt"
	"io"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// bars shows progress on a terminal: a line for the step of each subject, and
// a bar for each of its tracks.
type bars struct {
	p    *mpb.Progress
	head map[string]*bar
	body map[string]*bar // by subject and track
}

type bar struct {
	*mpb.Bar
	text atomic.Pointer[string]
}

// newBars draws on w. Off a terminal nothing but mpb's last state shows, unless
// options say otherwise.
func newBars(w io.Writer, options ...mpb.ContainerOption) *bars {
	options = append([]mpb.ContainerOption{mpb.WithOutput(w), mpb.WithRefreshRate(barsEvery)}, options...)
	return &bars{p: mpb.New(options...), head: map[string]*bar{}, body: map[string]*bar{}}
}

// barWidth leaves room for a name and four numbers on 100 columns.
const barWidth = 24

func (b *bars) stepped(s subject) { b.tick(s) }

func (b *bars) tick(s subject) {
	h := b.head[s.title()]
	if h == nil {
		h = b.add(mpb.NopStyle())
		b.head[s.title()] = h
	}
	h.say(s.title() + ": " + s.step())
	for _, t := range s.tracks() {
		if t.total == 0 {
			continue
		}
		key := s.title() + "\x00" + t.name
		if b.body[key] == nil {
			b.body[key] = b.add(mpb.BarStyle(), t.name)
		}
		b.body[key].move(t)
	}
}

// ended leaves the last state of the subject's bars on the screen.
func (b *bars) ended(s subject) {
	b.tick(s)
	b.head[s.title()].Abort(false)
	delete(b.head, s.title())
	for _, t := range s.tracks() {
		if bar := b.body[s.title()+"\x00"+t.name]; bar != nil {
			bar.Abort(false)
			delete(b.body, s.title()+"\x00"+t.name)
		}
	}
}

func (b *bars) close() { b.p.Wait() }

// add makes a bar; a named one has its name before and its numbers behind.
func (b *bars) add(style mpb.BarFillerBuilder, name ...string) *bar {
	made := &bar{}
	made.say("")
	text := decor.Any(func(decor.Statistics) string { return *made.text.Load() })
	options := []mpb.BarOption{mpb.PrependDecorators(text), mpb.BarWidth(barWidth)}
	if len(name) == 1 {
		label := decor.Name("  "+name[0], decor.WCSyncSpaceR)
		options = []mpb.BarOption{mpb.PrependDecorators(label), mpb.AppendDecorators(text), mpb.BarWidth(barWidth)}
	}
	made.Bar = b.p.New(0, style, options...)
	return made
}

func (b *bar) say(text string) { b.text.Store(&text) }

func (b *bar) move(t track) {
	b.say(fmt.Sprintf(" %s", t))
	b.SetTotal(t.total, false)
	b.SetCurrent(t.done)
}
