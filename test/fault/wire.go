package fault

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Wire is the network between a client and a service: the client connects to
// Addr, and the bytes of both directions are passed on. It fails in ways that
// no service can play by itself. All methods may be called by many goroutines
// at once.
type Wire struct {
	addr, target string
	closed       atomic.Bool

	mu       sync.Mutex
	listener net.Listener
	links    map[*link]bool
	deaf     bool // new connections are half-open from the start
	running  sync.WaitGroup
}

// link is one connection through the wire.
type link struct {
	near, far net.Conn
	deaf      atomic.Bool
}

// NewWire opens a wire on a loopback port to the service at target, host:port.
func NewWire(target string) (*Wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a wire to %s: %w", target, err)
	}
	w := &Wire{addr: l.Addr().String(), target: target, listener: l, links: map[*link]bool{}}
	w.accept(l)
	return w, nil
}

// Addr is where the client connects, host:port.
func (w *Wire) Addr() string { return w.addr }

func (w *Wire) accept(l net.Listener) {
	w.running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return // closed
			}
			w.running.Go(func() { w.carry(near) })
		}
	})
}

func (w *Wire) carry(near net.Conn) {
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		_ = near.Close()
		return
	}
	k := &link{near: near, far: far}
	w.mu.Lock()
	if w.closed.Load() {
		w.mu.Unlock()
		k.close()
		return
	}
	k.deaf.Store(w.deaf)
	w.links[k] = true
	w.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { k.pass(far, near) })
	both.Go(func() { k.pass(near, far) })
	both.Wait()
	w.mu.Lock()
	delete(w.links, k)
	w.mu.Unlock()
	k.close()
}

func (k *link) close() {
	_ = k.near.Close() // whatever it says, it is over
	_ = k.far.Close()
}

// pass copies until one end closes. While the link is deaf the bytes are taken
// and lost, and an end that closes is not told to the other.
func (k *link) pass(to, from net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if k.deaf.Load() {
			if err != nil {
				return
			}
			continue
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if t, ok := to.(*net.TCPConn); ok && err == io.EOF {
				_ = t.CloseWrite() // fails where it is closed, which is as good
			} else {
				_ = to.Close()
			}
			return
		}
	}
}

// Swallow makes every connection that exists half-open: bytes are taken and
// lost, and nothing closes. New ones work.
func (w *Wire) Swallow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.links {
		k.deaf.Store(true)
	}
}

// Deaf makes existing and new connections half-open, until Hear.
func (w *Wire) Deaf() {
	w.mu.Lock()
	w.deaf = true
	w.mu.Unlock()
	w.Swallow()
}

// Hear ends Deaf for new connections. Those that were half-open stay so, as they
// do behind a firewall that has lost its table.
func (w *Wire) Hear() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = false
}

// Cut closes every connection that exists.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k := range w.links {
		k.close()
	}
}

// Open is how many connections there are.
func (w *Wire) Open() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.links)
}

// Close ends the wire and waits for what it passes on.
func (w *Wire) Close() {
	w.closed.Store(true)
	_ = w.listener.Close()
	w.Cut()
	w.running.Wait()
}
