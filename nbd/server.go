package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	// defaultMaxConns times defaultMemory bounds the payloads that clients can
	// make a server hold: 1 GiB. A guest uses one connection, qemu-img and nbdcopy
	// up to four.
	defaultMaxConns = 16
	// defaultMemory holds two of the largest requests, or 128 of 512 KiB.
	defaultMemory = 2 * defaultMaxPayload
	// defaultServerTimeout bounds steps that depend on the client alone: to
	// negotiate, to send the rest of a request, to take a reply.
	defaultServerTimeout = time.Minute
	// stopGrace is how long requests under way may take when the server stops.
	stopGrace = 5 * time.Second
)

// Server offers disks over NBD. Its fields must not change while it serves.
type Server struct {
	// Export returns the disk for an export name; most clients use the empty
	// name unless told otherwise. Its error is shown to the client: one that wraps
	// fs.ErrNotExist says that there is no such export. It is called from many
	// goroutines, at least once for each connection.
	Export func(name string) (Backend, error)
	// Names lists the exports for clients that ask. If nil, the server keeps its
	// list to itself.
	Names func() []string

	MaxConns    int           // connections at once; more are turned away; 0 means 16
	MaxInFlight int           // requests at once, each connection; 0 means 64
	Memory      int64         // bytes of payload at once, each connection; at least, and if 0, 64 MiB
	Timeout     time.Duration // for a client to negotiate, to complete a request, to take a reply; 0 means a minute
	Log         *slog.Logger  // connections that ended badly, errors of backends; nil: nowhere
}

// Serve offers what exports returns for a name on l, with the defaults of
// [Server].
func Serve(ctx context.Context, l net.Listener, exports func(name string) (Backend, error)) error {
	return (&Server{Export: exports}).Serve(ctx, l)
}

// longPast is a deadline that interrupts what is waiting.
var longPast = time.Unix(1, 0)

func (s *Server) maxConns() int           { return orDefault(s.MaxConns, defaultMaxConns) }
func (s *Server) maxInFlight() int        { return orDefault(s.MaxInFlight, defaultMaxInFlight) }
func (s *Server) memory() int64           { return max(s.Memory, defaultMemory) }
func (s *Server) patience() time.Duration { return orDefault(s.Timeout, defaultServerTimeout) }

func orDefault[T int | time.Duration](v, d T) T {
	if v > 0 {
		return v
	}
	return d
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Serve accepts connections from l until ctx ends, which is no error, or l
// fails, and closes l. Requests under way when ctx ends get 5 s to finish. When
// it returns, no backend is in use any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var conns sync.WaitGroup
	defer conns.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer func() {
		if stop() {
			l.Close()
		}
	}()
	slots := make(chan struct{}, s.maxConns())
	for {
		conn, err := s.accept(ctx, l)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("nbd: accept connections on %s: %w", l.Addr(), err)
		}
		select {
		case slots <- struct{}{}:
		default:
			s.log().Warn("nbd: connection turned away: too many", "limit", s.maxConns())
			conn.Close()
			continue
		}
		conns.Go(func() {
			defer func() { <-slots }()
			if err := s.ServeConn(ctx, conn); err != nil {
				s.log().Warn("nbd: connection ended", "error", err)
			}
		})
	}
}

// accept waits out what passes by itself: a lack of descriptors, a client that
// left before it was accepted.
func (s *Server) accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	const longest = time.Second
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, longest) {
		conn, err := l.Accept()
		passing := errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ECONNABORTED)
		if !passing {
			return conn, err
		}
		s.log().Warn("nbd: accept", "error", err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// ServeConn serves one connection, and closes it, until the client leaves or ctx
// ends, neither of which is an error.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	n := newNegotiation(s, conn)
	conn.SetDeadline(time.Now().Add(s.patience())) // for the whole negotiation
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(longPast) })
	defer stop()
	if err := n.run(); err != nil {
		if ctx.Err() != nil || errors.Is(err, errAborted) {
			return nil
		}
		return fmt.Errorf("negotiate: %w", err)
	}
	t := newTransmission(n)
	err := t.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("export %q: %w", n.name, err)
	}
	return nil
}
