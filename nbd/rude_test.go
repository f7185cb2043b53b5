package nbd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"
)

// rude is a client that says what it likes.
type rude struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
	done chan error // ServeConn's result
}

// dialRude connects over a pipe, and has read the greeting.
func dialRude(t *testing.T, s *Server) *rude {
	t.Helper()
	near, far := net.Pipe()
	r := &rude{t: t, conn: near, br: bufio.NewReader(near), done: make(chan error, 1)}
	near.SetDeadline(time.Now().Add(30 * time.Second)) // against hanging
	go func() { r.done <- s.ServeConn(context.Background(), far) }()
	t.Cleanup(func() { near.Close() })
	if got := r.read(len(greeting)); !bytes.Equal(got, greeting) {
		t.Fatalf("greeting = %x", got)
	}
	return r
}

func (r *rude) read(n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(r.br, b); err != nil {
		r.t.Fatalf("read %d bytes: got %d, %v", n, k, err)
	}
	return b
}

func (r *rude) say(fields ...any) {
	r.t.Helper()
	if _, err := r.conn.Write(wire(fields...)); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

func option(opt uint32, data ...any) []byte {
	d := wire(data...)
	return wire(uint64(magicOption), opt, uint32(len(d)), d)
}

func (r *rude) optReply(opt uint32) (typ uint32, data string) {
	r.t.Helper()
	h := r.read(20)
	if binary.BigEndian.Uint64(h) != magicOptionReply || binary.BigEndian.Uint32(h[8:]) != opt {
		r.t.Fatalf("reply to option %d = %x", opt, h)
	}
	return binary.BigEndian.Uint32(h[12:]), string(r.read(int(binary.BigEndian.Uint32(h[16:]))))
}

// enter negotiates "disk" with or without structured replies and contexts.
func (r *rude) enter(structured bool) {
	r.t.Helper()
	r.say(uint32(3))
	if structured {
		r.say(option(optStructuredReply))
		r.optReply(optStructuredReply)
		r.say(option(optSetMeta, uint32(4), "disk", uint32(1), uint32(15), ContextAllocation))
		for typ := uint32(0); typ != repAck; {
			typ, _ = r.optReply(optSetMeta)
		}
	}
	r.say(option(optGo, uint32(4), "disk", uint16(0)))
	for typ := uint32(0); typ != repAck; {
		if typ, _ = r.optReply(optGo); typ&repErrBit != 0 {
			r.t.Fatalf("NBD_OPT_GO refused: %#x", typ)
		}
	}
}

func req(cmd, flags uint16, off uint64, length uint32, payload ...any) []byte {
	return wire(request{cmd: cmd, flags: flags, cookie: 42, off: off, length: length}.append(nil), wire(payload...))
}

// code reads a reply without payload and returns its error.
func (r *rude) code(structured bool) uint32 {
	r.t.Helper()
	h := r.read(16)
	if cookie := binary.BigEndian.Uint64(h[8:]); cookie != 42 {
		r.t.Fatalf("reply with cookie %d", cookie)
	}
	if binary.BigEndian.Uint32(h) == magicSimple {
		return binary.BigEndian.Uint32(h[4:])
	}
	if !structured {
		r.t.Fatalf("structured reply that was not agreed: %x", h)
	}
	typ, d := binary.BigEndian.Uint16(h[6:]), r.read(int(binary.BigEndian.Uint32(r.read(4))))
	if typ == chunkError {
		return binary.BigEndian.Uint32(d)
	}
	return 0
}
