package console

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"snapferry/schedule"
)

const (
	// heartbeat keeps proxies from taking a quiet stream for a dead one; the
	// shortest of their usual time-outs is 30 seconds.
	heartbeat = 15 * time.Second
	// slowWrite is when a reader that does not take what is sent is dropped.
	slowWrite = 10 * time.Second
	// maxStreams open ones: a connection and a goroutine each.
	maxStreams = 500
	// atOnce lines or events of a look.
	atOnce = 500
)

// streams are what is followed by server-sent events.
type streams struct {
	ctx    context.Context // ends with Close
	close  context.CancelFunc
	open   atomic.Int64
	events *poller
	logs   *poller
}

func newStreams(b Backend, every time.Duration, log *slog.Logger) *streams {
	ctx, cancel := context.WithCancel(context.Background())
	return &streams{
		ctx: ctx, close: cancel,
		events: newPoller(every, log, fetchEvents(b)),
		logs:   newPoller(every, log, fetchLog(b)),
	}
}

func fetchEvents(b Backend) fetch {
	return func(ctx context.Context, _ *topic, after int64) (out batch, more bool, err error) {
		events, err := b.Events(ctx, after, atOnce)
		if err != nil {
			return out, false, err
		}
		for _, e := range events {
			f, err := encode(e.ID, "", e)
			if err != nil {
				return out, false, err
			}
			out.frames = append(out.frames, f)
		}
		return out, len(events) == atOnce, nil
	}
}

// fetchLog brings the lines of a run, and the run itself (event "run") whenever
// it has changed. A run that ended gets one more look: its last lines may be
// written behind its end.
func fetchLog(b Backend) fetch {
	return func(ctx context.Context, t *topic, after int64) (out batch, more bool, err error) {
		run, err := b.Run(ctx, t.id)
		if err != nil {
			return out, false, err
		}
		lines, err := b.RunLog(ctx, t.id, after, atOnce)
		if err != nil {
			return out, false, err
		}
		for _, l := range lines {
			f, err := encode(l.Seq, "", l)
			if err != nil {
				return out, false, err
			}
			out.frames = append(out.frames, f)
		}
		if len(lines) == atOnce {
			return out, true, nil
		}
		f, err := encode(0, "run", run)
		if err != nil {
			return out, false, err
		}
		if t.state != string(f.data) {
			t.state = string(f.data)
			out.frames = append(out.frames, f)
		}
		out.last = t.ended
		t.ended = run.State.Ended()
		return out, false, nil
	}
}

// wantsStream reports that the reader asks for server-sent events.
func wantsStream(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == "text/event-stream" {
			return true
		}
	}
	return false
}

// resumed is where a reader that was here before goes on.
func resumed(r *http.Request, after int64) (int64, bool, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		return after, false, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, false, badRequest("Last-Event-ID is not a number", "")
	}
	return n, true, nil
}

// streamEvents follows the events; last is the newest there is.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request, after, last int64) error {
	after, _, err := resumed(r, after)
	if err != nil {
		return err
	}
	// Nobody is ahead of what there is, or the others would wait with them.
	return s.stream(w, r, s.streams.events, 0, min(after, last))
}

// streamLog follows a run until it has ended. A browser comes back after that;
// 204 tells it that there is no more.
func (s *Server) streamLog(w http.ResponseWriter, r *http.Request, run schedule.Run, after int64) error {
	after, again, err := resumed(r, after)
	if err != nil {
		return err
	}
	if again && run.State.Ended() {
		more, err := s.config.Backend.RunLog(r.Context(), run.ID, after, 1)
		if err != nil {
			return err
		}
		if len(more) == 0 {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
	}
	if after > 0 { // there must be such a line: see streamEvents
		line, err := s.config.Backend.RunLog(r.Context(), run.ID, after-1, 1)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			after = 0
		}
	}
	return s.stream(w, r, s.streams.logs, run.ID, after)
}

// stream sends what a topic brings until it ends, the reader goes or is too
// slow, its session is over, or the server shuts down.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, p *poller, id, after int64) error {
	defer s.streams.open.Add(-1)
	if s.streams.open.Add(1) > maxStreams || s.streams.ctx.Err() != nil {
		return &Error{http.StatusServiceUnavailable, codeUnavailable, "no more streams can be followed now", "Ask without Accept: text/event-stream."}
	}
	out := &sender{w: w, flush: http.NewResponseController(w), sent: after}
	out.begin()
	// However much there is already, the reader takes it at its own pace, and
	// only then waits with the others for news.
	err := s.catchUp(r.Context(), out, p, id, math.MaxInt64)
	news, pos, leave := p.follow(s.streams.ctx, id, out.sent)
	defer leave()
	if err == nil {
		err = s.catchUp(r.Context(), out, p, id, pos)
	}
	if err != nil {
		s.config.Log.Warn("console: catch up with a stream", "error", err)
		return nil // the header is out; the reader comes back
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for out.err == nil {
		select {
		case b, ok := <-news:
			if !ok {
				return nil // too slow
			}
			out.send(b)
			if b.last {
				out.write("event: end\ndata: {}\n\n")
				return nil
			}
		case <-beat.C:
			if who, err := s.identify(r); err != nil || who.door == nil {
				return nil // logged out meanwhile
			}
			out.write(":\n\n")
		case <-r.Context().Done():
			return nil
		case <-s.streams.ctx.Done():
			return nil
		}
	}
	return nil
}

// catchUp brings a reader to a position, or as far as there is anything.
func (s *Server) catchUp(ctx context.Context, out *sender, p *poller, id, pos int64) error {
	own := &topic{id: id} // the poller's own has a state that is not ours to touch
	for more := true; more && out.sent < pos && out.err == nil; {
		var b batch
		var err error
		if b, more, err = p.fetch(ctx, own, out.sent); err != nil {
			return err
		}
		// What has no ID the topic tells by itself.
		out.send(batch{frames: slices.DeleteFunc(b.frames, func(f frame) bool { return f.id == 0 })})
	}
	return nil
}

// sender writes frames, each of them once.
type sender struct {
	w     http.ResponseWriter
	flush *http.ResponseController
	sent  int64 // the ID of the last
	err   error
}

func (o *sender) begin() {
	h := o.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would collect the stream
	o.w.WriteHeader(http.StatusOK)
	o.write("retry: 3000\n\n")
}

func (o *sender) send(b batch) {
	var text bytes.Buffer
	for _, f := range b.frames {
		if f.id != 0 {
			if f.id <= o.sent {
				continue
			}
			o.sent = f.id
			fmt.Fprintf(&text, "id: %d\n", f.id)
		}
		if f.event != "" {
			fmt.Fprintf(&text, "event: %s\n", f.event)
		}
		fmt.Fprintf(&text, "data: %s\n\n", f.data) // JSON of one line
	}
	if text.Len() > 0 {
		o.write(text.String())
	}
}

func (o *sender) write(text string) {
	if o.err != nil {
		return
	}
	// Not every ResponseWriter has deadlines; those of a server do.
	_ = o.flush.SetWriteDeadline(time.Now().Add(slowWrite))
	if _, o.err = o.w.Write([]byte(text)); o.err == nil {
		o.err = o.flush.Flush()
	}
}
