package nbd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"
)

// maxBodyless is the largest trim, write-zeroes or block status request. The
// payload maximum does not apply to these, their length field ends below 4 GiB,
// and a power of two is a multiple of every block size.
const maxBodyless = 1 << 31

// call is one request on its way.
type call struct {
	request
	payload []byte        // of a write, until it is sent
	done    chan struct{} // closed when the reply is complete; then err is set

	// The reader goroutine's, until done is closed.
	seen    coverage // bytes of a read
	errors  int      // error chunks
	err     error
	extents map[uint32][]Extent // of a block status, by context id

	mu  sync.Mutex // guards buf
	buf []byte     // where a read goes; nil once the caller has left
}

func (c *Client) newCall(cmd, flags uint16, off int64, length int64) *call {
	return &call{
		request: request{cmd: cmd, flags: flags, off: uint64(off), length: uint32(length)},
		done:    make(chan struct{}),
	}
}

// put copies bytes of a reply to where the caller wants them, if it still does.
func (cl *call) put(at int64, p []byte) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.buf != nil {
		copy(cl.buf[at:], p)
	}
}

func (cl *call) putZeroes(lo, hi int64) {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.buf != nil {
		clear(cl.buf[lo:hi])
	}
}

// abandon makes the reader goroutine leave buf alone from here on.
func (cl *call) abandon() {
	cl.mu.Lock()
	cl.buf = nil
	cl.mu.Unlock()
}

// run sends the requests and waits for their replies. It returns the number of
// requests before the first that failed, and that failure. After it, nothing
// touches the calls' buffers any more.
func (c *Client) run(ctx context.Context, calls []*call) (int, error) {
	sent := 0
	var unsent error
	for _, cl := range calls {
		if unsent = c.send(ctx, cl); unsent != nil {
			break
		}
		sent++
	}
	good, failure := sent, unsent
	for i, cl := range calls[:sent] {
		if err := c.wait(ctx, cl); err != nil && good == sent {
			good, failure = i, err
		}
	}
	var refused *RemoteError
	if failure != nil && ctx.Err() != nil && !errors.As(failure, &refused) {
		failure = context.Cause(ctx) // what ended the connection may be just that
	}
	return good, failure
}

func (c *Client) wait(ctx context.Context, cl *call) error {
	select {
	case <-cl.done:
		return cl.err
	default:
	}
	select {
	case <-cl.done:
		return cl.err
	case <-ctx.Done():
		cl.abandon()
		return context.Cause(ctx)
	}
}

// send waits for a slot and the connection, and sends a request. When it
// returns nil, the reader goroutine will complete the call.
func (c *Client) send(ctx context.Context, cl *call) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.gone:
		return c.deadErr()
	}
	select {
	case c.sending <- struct{}{}:
	case <-ctx.Done():
		<-c.slots
		return context.Cause(ctx)
	case <-c.gone:
		<-c.slots
		return c.deadErr()
	}
	defer func() { <-c.sending }()
	if err := c.register(cl); err != nil {
		<-c.slots
		return err
	}
	if err := c.transmit(ctx, cl); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("it was cancelled half-way, and the server did not take the rest in %v: %w", cancelGrace, err)
		}
		c.fail(fmt.Errorf("send %s request: %w", commandName(cl.cmd), err))
	}
	return nil
}

func (c *Client) deadErr() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *Client) register(cl *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return c.dead
	}
	c.cookie++
	cl.cookie = c.cookie
	c.calls[cl.cookie] = cl
	if len(c.calls) == 1 {
		c.arm()
	}
	return nil
}

// transmit writes a request. Once it has begun it ends well, or the connection
// is lost; ctx ending only shortens its time.
func (c *Client) transmit(ctx context.Context, cl *call) error {
	if ctx.Done() != nil {
		hurried := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			c.conn.SetWriteDeadline(time.Now().Add(cancelGrace))
			close(hurried)
		})
		defer func() {
			if !stop() {
				<-hurried // or it would shorten the next request's time
			}
		}()
	}
	n := min(len(cl.payload), ioChunk)
	c.wbuf = append(cl.append(c.wbuf[:0]), cl.payload[:n]...)
	rest, step := cl.payload[n:], c.wbuf
	cl.payload = nil
	for {
		if ctx.Err() == nil {
			c.conn.SetWriteDeadline(time.Now().Add(c.opts.Timeout))
		}
		if _, err := c.conn.Write(step); err != nil {
			return err
		}
		if len(rest) == 0 {
			return nil
		}
		c.mu.Lock()
		c.arm() // sending is progress too
		c.mu.Unlock()
		n := min(len(rest), ioChunk)
		step, rest = rest[:n], rest[n:]
	}
}

// do runs the calls of one method and names it in its error.
func (c *Client) do(ctx context.Context, what string, calls []*call) (int, error) {
	if err := c.begin(); err != nil {
		return 0, c.wrap(what, err)
	}
	defer c.end()
	n, err := c.run(ctx, calls)
	if err != nil {
		return n, c.wrap(what, err)
	}
	return n, nil
}

func (c *Client) wrap(what string, err error) error {
	return fmt.Errorf("nbd: %s of export %q at %s: %w", what, c.info.Name, c.addr, err)
}

// ReadAt is ReadAtContext without a context, for [io.ReaderAt].
func (c *Client) ReadAt(p []byte, off int64) (int, error) {
	return c.ReadAtContext(context.Background(), p, off)
}

// ReadAtContext reads len(p) bytes at off, in parallel requests where they are
// more than the server takes at once. Like [io.ReaderAt] it returns [io.EOF]
// with fewer bytes at the end of the export. n counts the bytes before the first
// that could not be read; what lies after them in p is undefined.
func (c *Client) ReadAtContext(ctx context.Context, p []byte, off int64) (n int, err error) {
	what := fmt.Sprintf("read %d bytes at %d", len(p), off)
	if off < 0 {
		return 0, c.wrap(what, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if off >= c.info.Size {
		return 0, io.EOF
	}
	want := min(int64(len(p)), c.info.Size-off)
	n, err = c.read(ctx, what, p[:want], off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// read reads p, which lies within the export. Where p does not begin or end on
// the server's block size, the first or the last request goes to a buffer of its
// own.
func (c *Client) read(ctx context.Context, what string, p []byte, off int64) (int, error) {
	end, block := off+int64(len(p)), int64(c.info.MinBlock)
	last := alignUp(end, block, c.info.Size)
	var calls []*call
	var bufs [][]byte
	for at := off - off%block; at < last; {
		n := min(last-at, int64(c.info.MaxPayload))
		cl := c.newCall(cmdRead, 0, at, n)
		if at >= off && at+n <= end {
			cl.buf = p[at-off : at-off+n]
		} else {
			cl.buf = make([]byte, n)
		}
		calls, bufs = append(calls, cl), append(bufs, cl.buf)
		at += n
	}
	good, err := c.do(ctx, what, calls)
	got := int64(0)
	for i, cl := range calls[:good] {
		at := int64(cl.off)
		if hi := min(at+int64(cl.length), end); at < off || hi < at+int64(cl.length) {
			copy(p[max(at, off)-off:hi-off], bufs[i][max(off-at, 0):])
		}
		got = min(at+int64(cl.length), end) - off
	}
	return int(got), err
}

// alignUp rounds n up to a multiple of block, but not above limit.
func alignUp(n, block, limit int64) int64 {
	if rest := n % block; rest != 0 {
		n += min(block-rest, limit-n)
	}
	return n
}

// WriteAt is WriteAtContext without a context, for [io.WriterAt].
func (c *Client) WriteAt(p []byte, off int64) (int, error) {
	return c.WriteAtContext(context.Background(), p, off)
}

// WriteAtContext writes p at off, in parallel requests where it is more than the
// server takes at once. p has to lie within the export, and on multiples of
// Info.MinBlock. n counts the bytes before the first that may not have been
// written. The bytes are durable after a Flush that follows the write.
func (c *Client) WriteAtContext(ctx context.Context, p []byte, off int64) (n int, err error) {
	return c.write(ctx, p, off, 0)
}

// WriteFUA is WriteAtContext with the bytes durable when it returns. It needs
// Info.CanFUA.
func (c *Client) WriteFUA(ctx context.Context, p []byte, off int64) (n int, err error) {
	if !c.info.CanFUA {
		return 0, c.wrap(fmt.Sprintf("write %d bytes through the cache at %d", len(p), off), errNotOffered)
	}
	return c.write(ctx, p, off, cfFUA)
}

func (c *Client) write(ctx context.Context, p []byte, off int64, flags uint16) (int, error) {
	what := fmt.Sprintf("write %d bytes at %d", len(p), off)
	if err := c.checkWrite(off, int64(len(p))); err != nil {
		return 0, c.wrap(what, err)
	}
	var calls []*call
	for at := 0; at < len(p); {
		n := min(len(p)-at, c.info.MaxPayload)
		cl := c.newCall(cmdWrite, flags, off+int64(at), int64(n))
		cl.payload = p[at : at+n]
		calls = append(calls, cl)
		at += n
	}
	good, err := c.do(ctx, what, calls)
	if err != nil {
		return good * c.info.MaxPayload, err
	}
	return len(p), nil
}

var (
	errNotOffered = fmt.Errorf("the server does not offer it: %w", syscall.ENOTSUP)
	errReadOnly   = fmt.Errorf("the export is read-only: %w", syscall.EPERM)
)

// checkWrite tells whether a changing request fits the export, so that the
// server is not bothered with one that does not.
func (c *Client) checkWrite(off, n int64) error {
	switch block := int64(c.info.MinBlock); {
	case c.info.ReadOnly:
		return errReadOnly
	case off < 0, n < 0:
		return syscall.EINVAL
	case off > c.info.Size || n > c.info.Size-off:
		return fmt.Errorf("beyond the end of the export at %d: %w", c.info.Size, syscall.ENOSPC)
	case off%block != 0, n%block != 0:
		return fmt.Errorf("not on multiples of the server's block size %d: %w", block, syscall.EINVAL)
	}
	return nil
}

// Flush makes the writes that returned before it durable. On a server without
// a flush command there is nothing to do.
func (c *Client) Flush(ctx context.Context) error {
	if !c.info.CanFlush {
		return nil
	}
	_, err := c.do(ctx, "flush", []*call{c.newCall(cmdFlush, 0, 0, 0)})
	return err
}

// Trim tells the server that n bytes at off are no longer needed; what they
// read as afterwards is undefined. It needs Info.CanTrim.
func (c *Client) Trim(ctx context.Context, off, n int64) error {
	return c.bodyless(ctx, cmdTrim, off, n, c.info.CanTrim)
}

// WriteZeroes makes n bytes at off read as zeroes; the server may deallocate
// them. It needs Info.CanWriteZeroes.
func (c *Client) WriteZeroes(ctx context.Context, off, n int64) error {
	return c.bodyless(ctx, cmdWriteZeroes, off, n, c.info.CanWriteZeroes)
}

func (c *Client) bodyless(ctx context.Context, cmd uint16, off, n int64, offered bool) error {
	what := fmt.Sprintf("%s %d bytes at %d", commandName(cmd), n, off)
	if err := c.checkWrite(off, n); err != nil {
		return c.wrap(what, err)
	}
	if !offered {
		return c.wrap(what, errNotOffered)
	}
	var calls []*call
	for end := off + n; off < end; {
		k := min(end-off, maxBodyless)
		calls = append(calls, c.newCall(cmd, 0, off, k))
		off += k
	}
	_, err := c.do(ctx, what, calls)
	return err
}
