package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// defaultTimeout outlasts a storage path failing over (VMware and Linux
	// multipath both settle within 60 s) and is short enough for a cycle to try
	// again.
	defaultTimeout = 90 * time.Second
	// defaultHandshakeTimeout is longer than a request's: servers open the disk
	// during the negotiation, and nbdkit's VDDK plugin logs in to vCenter there.
	defaultHandshakeTimeout = 2 * time.Minute
	// defaultMaxInFlight keeps a path of 5 ms busy at 6 GB/s with requests of
	// 512 KiB, far more than any source gives.
	defaultMaxInFlight = 64
	// defaultDrainTimeout lets a slow source answer what was asked, and is short
	// beside the clean-up that usually waits for Close.
	defaultDrainTimeout = 10 * time.Second
	// cancelGrace is how long a request that was cancelled half-way through
	// being sent may still take to get out before the connection is given up:
	// what is half sent cannot be taken back.
	cancelGrace = time.Second
	// ioChunk is the step in which payloads are moved. It bounds how long the
	// reader holds a call's lock, and is the size from which larger steps stopped
	// being faster over a Unix socket.
	ioChunk = 256 << 10
)

// Options tunes a client. The zero value is ready to use.
type Options struct {
	// Contexts are the metadata contexts to ask for, by their exact names. Those
	// that the server has are in Info.Contexts.
	Contexts []string
	// Timeout is how long the connection may be silent while a request is
	// outstanding before it is given up; 0 means 90 s. It does not bound a
	// request that makes progress: use a context for that.
	Timeout time.Duration
	// HandshakeTimeout bounds the whole negotiation; 0 means 2 minutes.
	HandshakeTimeout time.Duration
	// DrainTimeout bounds how long Close waits for outstanding requests; 0 means
	// 10 s.
	DrainTimeout time.Duration
	// MaxRequest bounds the bytes of one read or write request, in addition to
	// the server's own maximum; 0 means the server's maximum, 32 MiB at most.
	MaxRequest int
	// MaxInFlight bounds the requests outstanding on the connection; 0 means 64.
	MaxInFlight int
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.HandshakeTimeout <= 0 {
		o.HandshakeTimeout = defaultHandshakeTimeout
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = defaultDrainTimeout
	}
	if o.MaxRequest <= 0 || o.MaxRequest > defaultMaxPayload {
		o.MaxRequest = defaultMaxPayload
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = defaultMaxInFlight
	}
	return o
}

// Info is what the server said about the export.
type Info struct {
	Name           string
	Size           int64 // bytes
	ReadOnly       bool
	CanFlush       bool
	CanFUA         bool
	CanTrim        bool
	CanWriteZeroes bool
	CanMultiConn   bool // several connections see each other's writes and flushes

	Structured     bool     // structured replies were agreed
	Contexts       []string // granted metadata contexts, in the order of Options.Contexts
	MinBlock       int      // bytes: every request is a multiple of it; 1 where the server did not say
	PreferredBlock int      // bytes
	MaxPayload     int      // bytes of one read or write, as this client uses it
}

// Client is one connection to one export. Its methods may be called from many
// goroutines at once.
type Client struct {
	conn       net.Conn
	addr       string
	opts       Options
	info       Info
	structured bool
	contexts   map[uint32]string // granted, by the server's id

	br      *bufio.Reader // of the reader goroutine, once negotiated
	scratch []byte        // likewise
	slots   chan struct{} // one token for each request outstanding
	sending chan struct{} // one token: whoever holds it writes to conn and wbuf
	wbuf    []byte
	gone    chan struct{} // closed when the reader goroutine has ended

	mu       sync.Mutex
	cookie   uint64
	calls    map[uint64]*call
	ops      int           // methods under way
	closing  bool          // no new methods
	drained  chan struct{} // closed when closing and neither calls nor ops are left
	dead     error         // why the connection is of no more use
	deadline time.Time     // read deadline on conn; zero: none
}

// Dial connects to the server at addr ("tcp", "host:port", or "unix", path) and
// negotiates the export. ctx bounds the connecting and the negotiation only; the
// caller must Close the client.
func Dial(ctx context.Context, network, addr, export string, opts Options) (*Client, error) {
	conn, err := dial(ctx, network, addr, opts)
	if err != nil {
		return nil, fmt.Errorf("nbd: open export %q: %w", export, err)
	}
	return newClient(ctx, conn, network+" "+addr, export, opts)
}

// NewClient negotiates the export over a connection that exists already, and
// owns it from then on, also when it fails.
func NewClient(ctx context.Context, conn net.Conn, export string, opts Options) (*Client, error) {
	addr := "the given connection"
	if a := conn.RemoteAddr(); a != nil && a.String() != "" {
		addr = a.Network() + " " + a.String()
	}
	return newClient(ctx, conn, addr, export, opts)
}

func dial(ctx context.Context, network, addr string, opts Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.withDefaults().HandshakeTimeout)
	defer cancel()
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

func newClient(ctx context.Context, conn net.Conn, addr, export string, opts Options) (*Client, error) {
	c := prepareClient(conn, addr, opts)
	err := c.withHandshake(ctx, func(h *handshake) error { return h.open(export, c.opts.Contexts) })
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("nbd: open export %q at %s: %w", export, addr, err)
	}
	go c.receive()
	return c, nil
}

func prepareClient(conn net.Conn, addr string, opts Options) *Client {
	opts = opts.withDefaults()
	c := &Client{
		conn: conn, addr: addr, opts: opts,
		slots:   make(chan struct{}, opts.MaxInFlight),
		sending: make(chan struct{}, 1),
		gone:    make(chan struct{}),
		drained: make(chan struct{}),
		calls:   map[uint64]*call{},
		scratch: make([]byte, ioChunk),
		wbuf:    make([]byte, 0, requestLen+ioChunk),
	}
	c.br = bufio.NewReaderSize(silence{c}, 64<<10)
	return c
}

// withHandshake runs f under the handshake's deadline and ctx.
func (c *Client) withHandshake(ctx context.Context, f func(*handshake) error) error {
	if err := c.conn.SetDeadline(time.Now().Add(c.opts.HandshakeTimeout)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { c.conn.SetDeadline(longPast) })
	err := f(&handshake{c: c})
	if !stop() {
		return fmt.Errorf("negotiate: %w", context.Cause(ctx))
	}
	if err != nil {
		return err
	}
	return c.conn.SetDeadline(time.Time{})
}

// Export describes an export in the server's list.
type Export struct {
	Name        string
	Description string
}

// List asks the server for its exports. A server may keep its list to itself:
// that is an [OptionError] with [fs.ErrPermission] in it.
func List(ctx context.Context, network, addr string, opts Options) ([]Export, error) {
	conn, err := dial(ctx, network, addr, opts)
	if err != nil {
		return nil, fmt.Errorf("nbd: list exports: %w", err)
	}
	defer conn.Close()
	var exports []Export
	err = prepareClient(conn, network+" "+addr, opts).withHandshake(ctx, func(h *handshake) (err error) {
		exports, err = h.list()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("nbd: list exports at %s %s: %w", network, addr, err)
	}
	return exports, nil
}

// Info returns what was negotiated.
func (c *Client) Info() Info { return c.info }

// Size returns the size of the export in bytes.
func (c *Client) Size() int64 { return c.info.Size }

// Close lets the requests under way finish, cancelled ones included, for
// Options.DrainTimeout at most, says goodbye and closes the connection. Methods
// called after it fail with [ErrClosed]. It returns an error only if it had to
// cut requests off.
func (c *Client) Close() error {
	c.mu.Lock()
	again := c.closing
	c.closing = true
	c.checkDrained()
	c.mu.Unlock()
	if again {
		<-c.gone
		return nil
	}
	timer := time.NewTimer(c.opts.DrainTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-c.drained:
		c.disconnect()
	case <-c.gone:
	case <-timer.C:
		c.mu.Lock()
		n := len(c.calls)
		c.mu.Unlock()
		err = fmt.Errorf("nbd: close export %q at %s: %d requests still unanswered after %v", c.info.Name, c.addr, n, c.opts.DrainTimeout)
	}
	c.fail(ErrClosed)
	<-c.gone
	return err
}

// disconnect sends NBD_CMD_DISC, which has no reply.
func (c *Client) disconnect() {
	c.mu.Lock()
	c.cookie++
	req := request{cmd: cmdDisc, cookie: c.cookie}
	c.mu.Unlock()
	c.sending <- struct{}{} // free: nothing is under way
	defer func() { <-c.sending }()
	c.conn.SetWriteDeadline(time.Now().Add(cancelGrace))
	c.conn.Write(req.append(c.wbuf[:0])) // a server that is gone needs no goodbye
}

// checkDrained is called with mu held whenever calls, ops or closing changed.
func (c *Client) checkDrained() {
	if !c.closing || c.ops > 0 || len(c.calls) > 0 {
		return
	}
	select {
	case <-c.drained:
	default:
		close(c.drained)
	}
}

// begin notes that a method is under way; end must follow.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	if c.closing {
		return ErrClosed
	}
	c.ops++
	return nil
}

func (c *Client) end() {
	c.mu.Lock()
	c.ops--
	c.checkDrained()
	c.mu.Unlock()
}

// fail gives the connection up. The reader goroutine then completes the calls.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.dead == nil {
		c.dead = err
	}
	c.mu.Unlock()
	c.conn.Close()
}

// silence reads from the connection, and pushes the deadline out with every
// byte that moves.
type silence struct{ c *Client }

func (s silence) Read(p []byte) (int, error) {
	s.c.mu.Lock()
	s.c.arm()
	s.c.mu.Unlock()
	n, err := s.c.conn.Read(p)
	var nerr net.Error
	if !errors.As(err, &nerr) || !nerr.Timeout() {
		return n, err
	}
	s.c.mu.Lock()
	negotiating := s.c.deadline.IsZero()
	s.c.mu.Unlock()
	if negotiating {
		return n, fmt.Errorf("the negotiation took longer than %v: %w", s.c.opts.HandshakeTimeout, err)
	}
	return n, fmt.Errorf("the server was silent for %v: %w", s.c.opts.Timeout, err)
}

// arm sets the read deadline anew; mu is held. An idle connection has none.
func (c *Client) arm() {
	if len(c.calls) == 0 {
		if !c.deadline.IsZero() {
			c.deadline = time.Time{}
			c.conn.SetReadDeadline(c.deadline)
		}
		return
	}
	// Not at every read: setting it costs more than a small read does.
	if next := time.Now().Add(c.opts.Timeout); next.Sub(c.deadline) > c.opts.Timeout/16 {
		c.deadline = next
		c.conn.SetReadDeadline(next)
	}
}
