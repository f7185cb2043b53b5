package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// maxErrorChunk is the longest error chunk taken: code, length, a message of
	// the protocol's greatest length, an offset, and as much for types to come.
	maxErrorChunk = 2 * maxString
	// maxErrorChunks bounds the errors in one reply. The first is reported.
	maxErrorChunks = 64
	// maxStatusChunk bounds a block status chunk: nbdkit, the most talkative of
	// the known servers, stops at 2^20 extents of 8 bytes.
	maxStatusChunk = 4 + 8<<20
)

// receive is the reader goroutine: it takes replies until the connection ends,
// and then completes what is left. Only it completes calls.
func (c *Client) receive() {
	var err error
	for err == nil {
		err = c.reply()
	}
	c.fail(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	for cookie, cl := range c.calls {
		cl.err = c.dead
		c.complete(cookie, cl)
	}
	close(c.gone)
}

// complete is called with mu held.
func (c *Client) complete(cookie uint64, cl *call) {
	delete(c.calls, cookie)
	<-c.slots
	close(cl.done)
	c.checkDrained()
}

// reply takes one simple reply or one chunk of a structured one. Its errors end
// the connection.
func (c *Client) reply() error {
	var h [16]byte
	if _, err := io.ReadFull(c.br, h[:]); err != nil {
		return c.endOfStream(err)
	}
	cookie := binary.BigEndian.Uint64(h[8:])
	magic := binary.BigEndian.Uint32(h[:])
	if magic != magicSimple && magic != magicStructured {
		return violation("reply starts with %#x", magic)
	}
	c.mu.Lock()
	cl := c.calls[cookie]
	c.mu.Unlock()
	if cl == nil {
		return violation("reply with cookie %#x, which no outstanding request has", cookie)
	}
	done, err := true, error(nil)
	if magic == magicSimple {
		err = c.simpleReply(cl, binary.BigEndian.Uint32(h[4:]))
	} else {
		done, err = c.chunk(cl, binary.BigEndian.Uint16(h[4:]), binary.BigEndian.Uint16(h[6:]))
	}
	if err == nil && done {
		err = c.checkWhole(cl)
	}
	if err != nil {
		return fmt.Errorf("reply to %s of %d bytes at %d: %w", commandName(cl.cmd), cl.length, cl.off, err)
	}
	if done {
		c.mu.Lock()
		c.complete(cookie, cl)
		c.mu.Unlock()
	}
	return nil
}

func (c *Client) endOfStream(err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("connection lost: %w", err)
	}
	c.mu.Lock()
	n := len(c.calls)
	c.mu.Unlock()
	return fmt.Errorf("the server closed the connection with %d requests outstanding: %w", n, io.ErrUnexpectedEOF)
}

func (c *Client) simpleReply(cl *call, code uint32) error {
	switch {
	case code != 0:
		cl.refuse(&RemoteError{Code: code, Offset: -1})
		return nil
	case cl.cmd == cmdBlockStatus:
		return violation("a simple reply cannot carry block status")
	case cl.cmd != cmdRead:
		return nil
	case c.structured:
		return violation("simple reply to a read although structured replies were agreed")
	}
	return c.fill(cl, 0, int64(cl.length))
}

func (cl *call) refuse(e *RemoteError) {
	if cl.err == nil {
		cl.err = e
	}
}

// chunk takes one chunk of a structured reply, whose flags and type were read.
func (c *Client) chunk(cl *call, flags, typ uint16) (done bool, err error) {
	if !c.structured {
		return false, violation("structured reply although none were agreed")
	}
	if flags&^chunkDone != 0 {
		return false, violation("chunk with unknown flags %#x", flags)
	}
	n, err := c.uint32()
	if err != nil {
		return false, err
	}
	done = flags&chunkDone != 0
	switch {
	case typ&chunkErrBit != 0:
		return done, c.errorChunk(cl, typ, n)
	case typ == chunkNone && n == 0 && done:
		return true, nil
	case typ == chunkData && cl.cmd == cmdRead:
		return done, c.dataChunk(cl, n)
	case typ == chunkHole && cl.cmd == cmdRead:
		return done, c.holeChunk(cl, n)
	case typ == chunkStatus && cl.cmd == cmdBlockStatus:
		return done, c.statusChunk(cl, n)
	}
	return false, violation("unexpected chunk of type %d, length %d, flags %#x", typ, n, flags)
}

// checkWhole tells whether a reply that calls itself complete is.
func (c *Client) checkWhole(cl *call) error {
	if cl.err != nil {
		return nil // the server says itself that it is not
	}
	switch {
	case cl.cmd == cmdRead && c.structured:
		if gap, ok := cl.seen.missing(int64(cl.length)); ok {
			return violation("it ends without bytes %d to %d of the request", gap.lo, gap.hi)
		}
	case cl.cmd == cmdBlockStatus:
		for id, name := range c.contexts {
			if _, ok := cl.extents[id]; !ok {
				return violation("it ends without the status in %s", name)
			}
		}
	}
	return nil
}

func (c *Client) dataChunk(cl *call, n uint32) error {
	if n < 9 {
		return violation("data chunk of %d bytes", n)
	}
	at, err := c.uint64()
	if err != nil {
		return err
	}
	lo, err := cl.claim("data", at, uint64(n)-8)
	if err != nil {
		return err
	}
	return c.fill(cl, lo, int64(n)-8)
}

func (c *Client) holeChunk(cl *call, n uint32) error {
	if n != 12 {
		return violation("hole chunk of %d bytes", n)
	}
	at, err := c.uint64()
	if err != nil {
		return err
	}
	size, err := c.uint32()
	if err != nil {
		return err
	}
	lo, err := cl.claim("hole", at, uint64(size))
	if err != nil {
		return err
	}
	cl.putZeroes(lo, lo+int64(size))
	return nil
}

// claim notes that the reply delivers n bytes at off of the export, and returns
// their place in the request.
func (cl *call) claim(what string, off, n uint64) (int64, error) {
	length := uint64(cl.length)
	if n == 0 || off < cl.off || off-cl.off > length || n > length-(off-cl.off) {
		return 0, violation("%s chunk of %d bytes at %d lies outside of the request", what, n, off)
	}
	lo := int64(off - cl.off)
	if err := cl.seen.add(lo, lo+int64(n)); err != nil {
		return 0, violation("%s chunk of %d bytes at %d %v", what, n, off, err)
	}
	return lo, nil
}

// fill moves n bytes from the connection to the call's buffer.
func (c *Client) fill(cl *call, at, n int64) error {
	for n > 0 {
		k, err := c.br.Read(c.scratch[:min(n, int64(len(c.scratch)))])
		if k > 0 {
			cl.put(at, c.scratch[:k])
			at, n = at+int64(k), n-int64(k)
		}
		if err != nil && n > 0 {
			return truncated(err)
		}
	}
	return nil
}

func (c *Client) errorChunk(cl *call, typ uint16, n uint32) error {
	cl.errors++
	if cl.errors > maxErrorChunks {
		return violation("more than %d error chunks", maxErrorChunks)
	}
	if n < 6 || n > maxErrorChunk {
		return violation("error chunk of %d bytes", n)
	}
	d := make([]byte, n)
	if _, err := io.ReadFull(c.br, d); err != nil {
		return truncated(err)
	}
	e := &RemoteError{Code: binary.BigEndian.Uint32(d), Offset: -1}
	rest, size := d[6:], int(binary.BigEndian.Uint16(d[4:]))
	if e.Code == 0 || size > len(rest) {
		return violation("error chunk of %d bytes with code %d and a message of %d", n, e.Code, size)
	}
	e.Message, rest = string(rest[:size]), rest[size:]
	switch {
	case typ == chunkError && len(rest) != 0, typ == chunkErrorOffset && len(rest) != 8:
		return violation("error chunk of type %#x with %d bytes after the message", typ, len(rest))
	case typ == chunkErrorOffset:
		off := binary.BigEndian.Uint64(rest)
		if off < cl.off || off-cl.off > uint64(cl.length) {
			return violation("error at offset %d, outside of the request", off)
		}
		e.Offset = int64(off)
	}
	cl.refuse(e)
	return nil
}

func (c *Client) uint32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(c.br, b[:])
	return binary.BigEndian.Uint32(b[:]), truncated(err)
}

func (c *Client) uint64() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(c.br, b[:])
	return binary.BigEndian.Uint64(b[:]), truncated(err)
}

// truncated is the error of a stream that ends inside a reply.
func truncated(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("the server closed the connection in the middle of it: %w", io.ErrUnexpectedEOF)
	}
	return err
}
