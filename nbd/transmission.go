package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"syscall"
	"time"
)

// transmission is the server's side of one connection after the negotiation.
// One goroutine takes requests; each runs in its own and sends its reply.
type transmission struct {
	srv        *Server
	conn       net.Conn
	br         *bufio.Reader
	disk       *disk
	flags      uint16 // transmission flags as told to the client
	structured bool
	allocated  bool // base:allocation was agreed

	slots  chan struct{} // one token for each request under way
	memory *budget       // of payloads
	cancel context.CancelFunc

	wmu  sync.Mutex // held while a reply is written
	werr error      // guarded by wmu: the first failure to write
}

func newTransmission(n *negotiation) *transmission {
	return &transmission{
		srv: n.srv, conn: n.conn, br: n.br, disk: n.disk,
		flags: n.disk.flags(n.structured), structured: n.structured, allocated: n.allocated,
		slots:  make(chan struct{}, n.srv.maxInFlight()),
		memory: newBudget(n.srv.memory()),
	}
}

// run takes requests until the client leaves, breaks the protocol, or stop ends.
// Requests under way are finished first if the client said goodbye or stop
// ended; one that just went away gets its requests cancelled.
func (t *transmission) run(stop context.Context) error {
	// The requests' context outlives stop, so that they can finish; it ends with
	// the connection, or stopGrace after stop.
	ctx, cancel := context.WithCancel(context.WithoutCancel(stop))
	t.cancel = cancel
	defer cancel()
	unhook := context.AfterFunc(stop, func() {
		timer := time.NewTimer(stopGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
			t.conn.Close()
		case <-ctx.Done():
		}
	})
	defer unhook()
	var requests sync.WaitGroup
	err := t.serve(ctx, stop, &requests)
	if err != nil && stop.Err() == nil {
		cancel() // nobody will read the replies
	}
	requests.Wait()
	if err == errLeft {
		return nil
	}
	t.wmu.Lock()
	defer t.wmu.Unlock()
	if t.werr != nil {
		return fmt.Errorf("send a reply: %w", t.werr)
	}
	return err
}

// errLeft means that the client closed the connection between two requests.
var errLeft = errors.New("the client left without a goodbye")

// serve is the loop that takes requests. nil means that the client said goodbye.
func (t *transmission) serve(ctx, stop context.Context, requests *sync.WaitGroup) error {
	for {
		req, err := t.next(stop)
		if err == io.EOF {
			return errLeft
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if req.cmd == cmdDisc {
			return nil
		}
		if err := t.check(req); err != nil {
			if err := t.skipPayload(req); err != nil {
				return err
			}
			if err := t.refuse(req, err); err != nil {
				return err
			}
			continue
		}
		select {
		case t.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		size := payloadSize(req)
		if err := t.memory.take(ctx, size); err != nil {
			return err
		}
		buf := getBuffer(size)
		if req.cmd == cmdWrite {
			if _, err := io.ReadFull(t.br, buf.b); err != nil {
				return fmt.Errorf("read %d bytes to write at %d: %w", req.length, req.off, err)
			}
		}
		requests.Go(func() {
			t.handle(ctx, req, buf.b)
			buf.put()
			t.memory.give(size)
			<-t.slots
		})
	}
}

// next waits for a request's first byte as long as it takes, and for the rest of
// it, payload included, as long as the server's patience lasts.
func (t *transmission) next(stop context.Context) (request, error) {
	if t.br.Buffered() == 0 {
		t.setReadDeadline(stop, time.Time{})
		if _, err := t.br.Peek(1); err != nil {
			return request{}, err
		}
	}
	t.setReadDeadline(stop, time.Now().Add(t.srv.patience()))
	var b [requestLen]byte
	if _, err := io.ReadFull(t.br, b[:]); err != nil {
		return request{}, err
	}
	return parseRequest(b[:])
}

func (t *transmission) setReadDeadline(stop context.Context, d time.Time) {
	t.conn.SetReadDeadline(d)
	if stop.Err() != nil {
		t.conn.SetReadDeadline(longPast) // what the end of stop had set, and we overwrote
	}
}

// payloadSize is the memory that a request needs while it is under way.
func payloadSize(req request) int64 {
	if req.cmd == cmdRead || req.cmd == cmdWrite {
		return int64(req.length)
	}
	return 0
}

// skipPayload keeps the stream in step after a write that is refused.
func (t *transmission) skipPayload(req request) error {
	if req.cmd != cmdWrite {
		return nil
	}
	if req.length > maxSkip {
		return fmt.Errorf("write of %d bytes", req.length)
	}
	if _, err := io.CopyN(io.Discard, t.br, int64(req.length)); err != nil {
		return fmt.Errorf("skip %d bytes of a refused write: %w", req.length, err)
	}
	return nil
}

// allowedFlags are the command flags that the client may use, by what it was
// told.
func (t *transmission) allowedFlags(cmd uint16) uint16 {
	var f uint16
	if t.flags&tfFUA != 0 {
		f |= cfFUA // on every command; it means something to those that write
	}
	switch {
	case cmd == cmdRead && t.structured:
		f |= cfDF
	case cmd == cmdWriteZeroes:
		f |= cfNoHole
	case cmd == cmdBlockStatus:
		f |= cfReqOne
	}
	return f
}

// check tells whether a request may be run; its error is for the client.
func (t *transmission) check(req request) error {
	if bad := req.flags &^ t.allowedFlags(req.cmd); bad != 0 {
		return fmt.Errorf("command flags %#x were not offered: %w", bad, syscall.EINVAL)
	}
	switch req.cmd {
	case cmdRead:
		if req.length > defaultMaxPayload {
			return fmt.Errorf("read of more than %d bytes: %w", defaultMaxPayload, syscall.EINVAL)
		}
		return t.inside(req, syscall.EINVAL)
	case cmdBlockStatus:
		if !t.allocated || req.length == 0 {
			return fmt.Errorf("block status without a metadata context or a length: %w", syscall.EINVAL)
		}
		return t.inside(req, syscall.EINVAL)
	case cmdFlush:
		if t.flags&tfFlush == 0 {
			return fmt.Errorf("flush was not offered: %w", syscall.EINVAL)
		}
		if req.off != 0 || req.length != 0 {
			return fmt.Errorf("flush of a range: %w", syscall.EINVAL)
		}
		return nil
	case cmdWrite, cmdWriteZeroes, cmdTrim:
		return t.checkChange(req)
	}
	return fmt.Errorf("unknown command %d: %w", req.cmd, syscall.EINVAL)
}

func (t *transmission) checkChange(req request) error {
	switch {
	case t.disk.writer == nil:
		return fmt.Errorf("the export is read-only: %w", syscall.EPERM)
	case req.cmd == cmdTrim && t.flags&tfTrim == 0:
		return fmt.Errorf("trim was not offered: %w", syscall.EINVAL)
	case req.cmd == cmdTrim:
		return t.inside(req, syscall.EINVAL)
	case req.cmd == cmdWrite && req.length > defaultMaxPayload:
		return fmt.Errorf("write of more than %d bytes: %w", defaultMaxPayload, syscall.EINVAL)
	}
	return t.inside(req, syscall.ENOSPC)
}

func (t *transmission) inside(req request, code syscall.Errno) error {
	size := uint64(t.disk.size)
	if req.off > size || uint64(req.length) > size-req.off {
		return fmt.Errorf("%d bytes at %d are not within the disk's %d: %w", req.length, req.off, size, code)
	}
	return nil
}

// handle runs one request and sends its reply. buf holds what a write writes, or
// takes what a read reads.
func (t *transmission) handle(ctx context.Context, req request, buf []byte) {
	var err, sendErr error
	switch req.cmd {
	case cmdRead:
		var parts []part
		if parts, err = t.read(ctx, req, buf); err == nil {
			sendErr = t.sendRead(req, parts)
		}
	case cmdBlockStatus:
		var list []Extent
		if list, err = t.blockStatus(ctx, req); err == nil {
			sendErr = t.sendStatus(req, list)
		}
	default:
		if err = t.change(ctx, req, buf); err == nil {
			sendErr = t.sendDone(req)
		}
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			t.srv.log().Warn("nbd: request failed", "command", commandName(req.cmd), "error", err)
		}
		sendErr = t.refuse(req, err)
	}
	if sendErr != nil {
		t.cancel()
	}
}

// change runs a request that writes or flushes.
func (t *transmission) change(ctx context.Context, req request, buf []byte) error {
	off, n := int64(req.off), int64(req.length)
	var err error
	switch req.cmd {
	case cmdWrite:
		err = t.disk.write(buf, off)
	case cmdWriteZeroes:
		err = t.disk.zero(ctx, off, n, req.flags&cfNoHole == 0)
	case cmdTrim:
		err = t.disk.zero(ctx, off, n, true)
	}
	if err == nil && (req.cmd == cmdFlush || req.flags&cfFUA != 0) {
		err = t.disk.flusher.Flush(ctx)
	}
	return err
}

// part is a piece of a read: bytes, or n zeroes where data is nil.
type part struct {
	off, n int64
	data   []byte
}

// maxParts bounds the chunks of one read. A disk in smaller shreds is read as
// it is: the headers would cost more than the zeroes.
const maxParts = 64

// read reads what the request asks for. Ranges that the backend knows to be zero
// are not read, if the client can take the reply in pieces.
func (t *transmission) read(ctx context.Context, req request, buf []byte) ([]part, error) {
	off, n := int64(req.off), int64(req.length)
	if n == 0 {
		return nil, nil
	}
	parts := []part{{off, n, buf}}
	if t.disk.extents != nil && t.structured && req.flags&cfDF == 0 {
		list, err := t.disk.status(ctx, off, n)
		if err != nil {
			return nil, err
		}
		if p := split(list, off, buf); len(p) <= maxParts {
			parts = p
		}
	}
	for _, p := range parts {
		if p.data == nil {
			continue
		}
		if err := t.disk.read(ctx, p.data, p.off); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// split divides buf, which starts at off, into zeroes and data. What the extents
// do not reach is data.
func split(list []Extent, off int64, buf []byte) []part {
	var parts []part
	end := off + int64(len(buf))
	add := func(n int64, zero bool) {
		k := len(parts) - 1
		if k >= 0 && (parts[k].data == nil) == zero {
			parts[k].n += n
		} else {
			parts = append(parts, part{off: off, n: n})
			k++
		}
		if !zero {
			at := parts[k].off - (end - int64(len(buf)))
			parts[k].data = buf[at : at+parts[k].n]
		}
		off += n
	}
	for _, e := range list {
		add(e.Length, e.Flags&StateZero != 0)
	}
	if off < end {
		add(end-off, false)
	}
	return parts
}

// maxStatusExtents bounds the extents of one block status reply to 512 KiB; the
// client asks on where it ends.
const maxStatusExtents = 64 << 10

func (t *transmission) blockStatus(ctx context.Context, req request) ([]Extent, error) {
	list, err := t.disk.status(ctx, int64(req.off), int64(req.length))
	if err != nil {
		return nil, err
	}
	if req.flags&cfReqOne != 0 {
		list = list[:1]
	}
	for _, e := range list {
		if e.Length > math.MaxUint32 {
			return nil, fmt.Errorf("extent of %d bytes in a request of %d", e.Length, req.length)
		}
	}
	return list[:min(len(list), maxStatusExtents)], nil
}
