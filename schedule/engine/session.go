package engine

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"snapferry/schedule"
	"snapferry/transfer"
)

// session is an appliance's place in a fleet on PostgreSQL: an advisory lock,
// held by a connection of its own. The server ends the connection, and with it
// the lock, when nothing was heard on it for Liveness.Silence.
type session struct {
	e   *Engine
	key int64

	mu   sync.Mutex // of conn, and of writing our row
	conn *pgx.Conn  // nil while it is lost

	look  sync.Mutex
	lost  time.Time // since when there is no session; zero while there is one
	free  map[transfer.ApplianceID]vacancy
	saved time.Time // when our row was written last
}

// vacancy is a lock that nobody holds.
type vacancy struct{ since, seen time.Time }

func newSession(e *Engine) *session {
	return &session{e: e, key: lockKey("appliance/" + string(e.Appliance)), free: map[transfer.ApplianceID]vacancy{}}
}

// lockKey is the advisory lock's number for a name.
func lockKey(name string) int64 {
	h := fnv.New64a()
	h.Write([]byte("snapferry/" + name))
	return int64(h.Sum64())
}

// join connects and takes the lock. The lock of a process that was killed is
// free at once, or after Silence.
func (s *session) join(ctx context.Context) error {
	deadline := time.Now().Add(s.e.Liveness.Wait)
	for {
		got, err := s.connect(ctx)
		if got || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("appliance %s already runs elsewhere: give every appliance an ID of its own", s.e.Appliance)
		}
		sleep(ctx, 200*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// connect opens the connection if there is none, and tries to take the lock.
func (s *session) connect(ctx context.Context) (got bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		c := s.e.Pool.Config().ConnConfig.Copy()
		ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
		for k, v := range map[string]string{
			"idle_session_timeout": ms(s.e.Liveness.Silence),
			"application_name":     "snapferry " + string(s.e.Appliance),
			// A host that is switched off closes nothing.
			"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
		} {
			c.RuntimeParams[k] = v
		}
		c.ConnectTimeout = s.e.Liveness.Silence
		conn, err := pgx.ConnectConfig(ctx, c)
		if err != nil {
			return false, fmt.Errorf("open liveness session: %w", err)
		}
		s.conn = conn
	}
	err = s.ask(ctx, func(ctx context.Context) error {
		return s.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, s.key).Scan(&got)
	})
	if err != nil {
		s.drop()
		return false, fmt.Errorf("take the lock of appliance %s: %w", s.e.Appliance, err)
	}
	return got, nil
}

// ask bounds a question to the server: silence is an answer too.
func (s *session) ask(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.e.Liveness.Silence)
	defer cancel()
	return f(ctx)
}

// drop closes the connection; s.mu is held.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // it is of no use any more
	s.conn = nil
}

// keep pings until ctx ends. A session that is lost is opened anew, and the
// lock taken again; when this appliance was given up in between, or another
// process has its ID, the process ends here.
func (s *session) keep(ctx context.Context) {
	tick := time.NewTicker(s.e.Liveness.Ping)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.beat(ctx); err != nil && ctx.Err() == nil {
			s.e.Log.Warn("liveness", "error", err)
		}
	}
}

func (s *session) beat(ctx context.Context) error {
	if err := s.ping(ctx); err != nil {
		s.lose()
		if err := s.regain(ctx); err != nil {
			return err
		}
	}
	if s.stale() {
		if err := s.present(ctx); err != nil {
			return err
		}
	}
	return s.others(ctx)
}

func (s *session) ping(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pingLocked(ctx)
}

func (s *session) pingLocked(ctx context.Context) error {
	if s.conn == nil {
		return pgx.ErrTxClosed
	}
	err := s.ask(ctx, s.conn.Ping)
	if err != nil {
		s.drop()
	}
	return err
}

func (s *session) lose() {
	s.look.Lock()
	defer s.look.Unlock()
	if s.lost.IsZero() {
		s.lost = time.Now()
		s.e.Log.Warn("lost the liveness session", "appliance", s.e.Appliance)
	}
	clear(s.free) // who cannot see must not judge
}

// regain opens the session anew.
func (s *session) regain(ctx context.Context) error {
	got, err := s.connect(ctx)
	if err != nil {
		return err
	}
	// With the lock in hand what the row says is final; without it somebody is
	// about to take over, or is done.
	if err := s.stillUs(ctx); err != nil {
		return err
	}
	if !got {
		return fmt.Errorf("the lock of appliance %s is held by somebody else", s.e.Appliance)
	}
	s.look.Lock()
	s.lost = time.Time{}
	s.look.Unlock()
	s.e.Log.Info("liveness session is back", "appliance", s.e.Appliance)
	return nil
}

// stillUs ends the process when the fleet has given it up.
func (s *session) stillUs(ctx context.Context) error {
	var all []schedule.Appliance
	err := bounded(ctx, func(ctx context.Context) (err error) {
		all, err = s.e.Store.Appliances(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.ID != s.e.Appliance {
			continue
		}
		if !a.Alive {
			s.e.fence(fmt.Errorf("%w: appliance %s was given up while it did not answer", ErrFenced, a.ID))
		}
		if a.Started.UnixMilli() != s.e.started.UnixMilli() {
			s.e.fence(fmt.Errorf("%w: another process runs as appliance %s", ErrFenced, a.ID))
		}
	}
	return nil
}

// present writes our row while the lock is ours: the row of an appliance that
// was given up must stay as it is.
func (s *session) present(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.pingLocked(ctx); err != nil {
		return fmt.Errorf("say that appliance %s lives: %w", s.e.Appliance, err)
	}
	if s.doubted() {
		return nil
	}
	err := bounded(ctx, func(ctx context.Context) error { return s.e.Store.SaveAppliance(ctx, s.e.me()) })
	if err == nil {
		s.look.Lock()
		s.saved = time.Now()
		s.look.Unlock()
	}
	return err
}

// stale reports that our row should say again that we were seen.
func (s *session) stale() bool {
	s.look.Lock()
	defer s.look.Unlock()
	return time.Since(s.saved) >= seenEvery
}

func (s *session) doubted() bool {
	s.look.Lock()
	defer s.look.Unlock()
	return !s.lost.IsZero()
}

// doubtful reports that the session is lost for so long that another may have
// taken over.
func (s *session) doubtful() bool {
	s.look.Lock()
	defer s.look.Unlock()
	return !s.lost.IsZero() && time.Since(s.lost) > s.e.Liveness.Free
}

// others looks for appliances whose locks have been free for long enough.
func (s *session) others(ctx context.Context) error {
	all, err := s.e.Store.Appliances(ctx)
	if err != nil {
		return err
	}
	held, err := s.held(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.ID == s.e.Appliance || !a.Alive || !s.overdue(a.ID, held) {
			continue
		}
		if err := s.giveUp(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// held are the keys of all advisory locks that somebody has.
func (s *session) held(ctx context.Context) (map[int64]bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil, pgx.ErrTxClosed
	}
	held := map[int64]bool{}
	err := s.ask(ctx, func(ctx context.Context) error {
		rows, err := s.conn.Query(ctx, `SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks
			WHERE locktype = 'advisory' AND objsubid = 1 AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
		if err != nil {
			return err
		}
		keys, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, k := range keys {
			held[k] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look at the appliances' locks: %w", err)
	}
	return held, nil
}

// overdue notes what was seen of a lock and reports that it has been free for
// Liveness.Free, seen again and again: one look before and one after a freeze
// of our own prove nothing.
func (s *session) overdue(id transfer.ApplianceID, held map[int64]bool) bool {
	s.look.Lock()
	defer s.look.Unlock()
	now := time.Now()
	v, was := s.free[id]
	switch {
	case held[lockKey("appliance/"+string(id))]:
		delete(s.free, id)
		return false
	case !was || now.Sub(v.seen) > 3*s.e.Liveness.Ping:
		v.since = now
	}
	v.seen = now
	s.free[id] = v
	return now.Sub(v.since) >= s.e.Liveness.Free
}

// giveUp takes a dead appliance's lock, so that it cannot come back meanwhile,
// and marks it as lost. The next admission gives its runs to others.
func (s *session) giveUp(ctx context.Context, a schedule.Appliance) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return pgx.ErrTxClosed
	}
	key := lockKey("appliance/" + string(a.ID))
	var got bool
	err := s.ask(ctx, func(ctx context.Context) error {
		return s.conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&got)
	})
	if err != nil || !got {
		return err // it is back, or another appliance is at it
	}
	var first bool
	err = bounded(ctx, func(ctx context.Context) (err error) {
		first, err = s.e.Store.Lost(ctx, a.ID)
		return err
	})
	unlock := s.ask(ctx, func(ctx context.Context) error {
		_, err := s.conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, key)
		return err
	})
	if unlock != nil {
		s.drop() // and the lock with it
	}
	if err != nil || !first {
		return err
	}
	s.e.lost(ctx, a)
	return nil
}

// lost tells of an appliance that was given up.
func (e *Engine) lost(ctx context.Context, a schedule.Appliance) {
	text := fmt.Sprintf("appliance %s does not answer and was given up", a.ID)
	if a.Draining {
		text = fmt.Sprintf("appliance %s was stopped; what it had begun goes to others", a.ID)
	} else {
		e.raise(ctx, downAlarm(a))
	}
	e.Log.Warn("appliance lost", "appliance", a.ID, "draining", a.Draining)
	e.record(ctx, schedule.Event{Kind: schedule.EventApplianceDown, Actor: string(e.Appliance), Text: text}, map[string]any{"appliance": a.ID})
	poke(e.admit)
}

// lockPause is how often a lock that another appliance has is asked for.
const lockPause = 100 * time.Millisecond

// exclusive waits until no other appliance runs f. It asks again and again: a
// session that waits inside pg_advisory_lock has a snapshot, for which the CREATE
// INDEX CONCURRENTLY of the one that has the lock would wait for ever.
func (s *session) exclusive(ctx context.Context, name string, f func(context.Context) error) error {
	for {
		got, err := s.e.locked(ctx, name, f)
		if got || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(lockPause):
		}
	}
}

// alonePostgres runs f unless another appliance does so just now: then that
// one does for all.
func (e *Engine) alonePostgres(ctx context.Context, name string, f func(context.Context) error) error {
	_, err := e.locked(ctx, name, f)
	return err
}

// locked runs f while a session of the pool holds a lock, if it gets it. Not a
// transaction: the server ends those that idle.
func (e *Engine) locked(ctx context.Context, name string, f func(context.Context) error) (got bool, err error) {
	conn, err := e.Pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	key := lockKey(name)
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || !got {
		return false, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dbTimeout)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, key); err != nil {
			_ = conn.Conn().Close(ctx) // and the lock with it; the pool takes no closed one back
		}
	}()
	return true, f(ctx)
}

// leave gives the lock back.
func (s *session) leave(context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
}
