package console

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"snapferry/schedule"
)

// frame is a message of a stream, encoded once for all its readers.
type frame struct {
	id    int64  // 0 has none: a reader that comes back does not ask from it on
	event string // "" is an EventSource's "message"
	data  []byte
}

// batch is what a look at the database brought.
type batch struct {
	frames []frame
	last   bool // nothing more will come
}

// fetch looks for what is behind after. More means that there is still more.
type fetch func(ctx context.Context, t *topic, after int64) (b batch, more bool, err error)

// poller looks for news of one kind in the name of all readers: one goroutine
// while there are any, one query for each topic and tick however many they are.
type poller struct {
	fetch fetch
	every time.Duration
	log   *slog.Logger

	mu      sync.Mutex
	topics  map[int64]*topic
	running bool
	wake    chan struct{} // holds one: a new topic is looked at right away
}

// topic is one thing that is followed: a run's log, or the events.
type topic struct {
	id      int64
	pos     int64 // of the last frame that was handed out; the poller's lock guards it
	readers map[chan batch]bool

	// What the poller's goroutine alone touches.
	ended bool   // the run had ended at the last look
	state string // the run as it was last told
	// current is the newest frame of the state, which a new reader gets first;
	// the poller's lock guards it.
	current *frame
}

// maxBehind batches may wait for a reader. One comes a second; who does not
// read for so long is dropped, and comes back with the last ID it has.
const maxBehind = 30

func newPoller(every time.Duration, log *slog.Logger, f fetch) *poller {
	return &poller{fetch: f, every: every, log: log, topics: map[int64]*topic{}, wake: make(chan struct{}, 1)}
}

// follow adds a reader of a topic that has everything up to after. It gets what
// comes behind pos; what lies between it must fetch itself. The channel is
// closed when the reader is too slow.
func (p *poller) follow(ctx context.Context, id, after int64) (news chan batch, pos int64, leave func()) {
	news = make(chan batch, maxBehind)
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.topics[id]
	if t == nil {
		t = &topic{id: id, pos: after, readers: map[chan batch]bool{}}
		p.topics[id] = t
	}
	t.readers[news] = true
	if t.current != nil {
		news <- batch{frames: []frame{*t.current}}
	}
	if !p.running {
		p.running = true
		go p.loop(ctx)
	}
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
	return news, t.pos, func() { p.leave(t, news) }
}

func (p *poller) leave(t *topic, news chan batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(t.readers, news)
	if len(t.readers) == 0 && p.topics[t.id] == t {
		delete(p.topics, t.id)
	}
}

// loop runs while anything is followed and ctx, which is the server's, holds.
func (p *poller) loop(ctx context.Context) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-p.wake:
		}
		followed := p.followed(ctx.Err() != nil)
		if followed == nil {
			return
		}
		for _, t := range followed {
			p.look(ctx, t)
		}
	}
}

// followed are the topics; none ends the loop.
func (p *poller) followed(over bool) (all []*topic) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !over {
		for _, t := range p.topics {
			all = append(all, t)
		}
	}
	p.running = len(all) > 0
	return all
}

// look hands what is new of a topic to its readers.
func (p *poller) look(ctx context.Context, t *topic) {
	for more := true; more; {
		p.mu.Lock()
		after := t.pos
		p.mu.Unlock()
		var b batch
		var err error
		b, more, err = p.fetch(ctx, t, after)
		switch {
		case errors.Is(err, schedule.ErrNotFound):
			b, more = batch{last: true}, false // kept no longer
		case err != nil:
			if ctx.Err() == nil {
				p.log.Warn("console: look for news", "error", err)
			}
			return
		}
		if len(b.frames) > 0 || b.last {
			p.hand(t, b)
		}
	}
}

func (p *poller) hand(t *topic, b batch) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range b.frames {
		t.pos = max(t.pos, f.id)
		if f.id == 0 {
			t.current = &b.frames[i]
		}
	}
	for news := range t.readers {
		select {
		case news <- b:
		default:
			close(news)
			delete(t.readers, news)
		}
	}
	if b.last && p.topics[t.id] == t {
		delete(p.topics, t.id)
	}
}

// encode makes a frame of a value.
func encode(id int64, event string, v any) (frame, error) {
	data, err := json.Marshal(v)
	return frame{id, event, data}, err
}
