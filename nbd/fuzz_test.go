package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"
)

// fuzzStart is a good negotiation of an export of 1 MiB, from the server.
var fuzzStart = wire(greeting, optReply(optStructuredReply, repAck),
	optReply(optSetMeta, repMeta, uint32(7), ContextAllocation), optReply(optSetMeta, repAck),
	optReply(optGo, repInfo, uint16(infoExport), uint64(lieSize), uint16(tfHasFlags|tfFlush)), optReply(optGo, repAck))

// FuzzClientReply lets a server say anything in reply to a read (cookie 1), a
// write (2), a block status (3) and a flush (4). Whatever it says, every request
// ends, and a read that succeeds has every byte replaced.
func FuzzClientReply(f *testing.F) {
	cookies := map[uint16]uint64{cmdRead: 1, cmdWrite: 2, cmdBlockStatus: 3, cmdFlush: 4}
	for _, lie := range lies {
		f.Add(lie.reply(cookies[lie.cmd]))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		conn := &canned{stream: append(bytes.Clone(fuzzStart), stream...), hold: len(fuzzStart), requests: 4}
		c, err := NewClient(t.Context(), conn, "disk", Options{Contexts: []string{ContextAllocation}})
		if err != nil {
			t.Fatal(err)
		}
		within(t, 10*time.Second, "a request", func() { askAll(t, c, stream) })
		within(t, 10*time.Second, "Close", func() { c.Close() })
		c.mu.Lock()
		defer c.mu.Unlock()
		if len(c.calls) != 0 || len(c.slots) != 0 || c.ops != 0 {
			t.Errorf("left over: %d calls, %d slots, %d methods", len(c.calls), len(c.slots), c.ops)
		}
	})
}

// askAll sends the four requests in their order and awaits them.
func askAll(t *testing.T, c *Client, stream []byte) {
	const mark = 0xa7
	buf := bytes.Repeat([]byte{mark}, lieLen)
	read := c.newCall(cmdRead, 0, lieOff, lieLen)
	read.buf = buf
	write := c.newCall(cmdWrite, 0, lieOff, lieLen)
	write.payload = make([]byte, lieLen)
	status := c.newCall(cmdBlockStatus, 0, lieOff, lieLen)
	calls := []*call{read, write, status, c.newCall(cmdFlush, 0, 0, 0)}
	for _, cl := range calls {
		if err := c.send(t.Context(), cl); err != nil {
			t.Fatal(err)
		}
	}
	for _, cl := range calls {
		<-cl.done
	}
	if read.err == nil && bytes.IndexByte(buf, mark) >= 0 && bytes.IndexByte(stream, mark) < 0 {
		t.Error("a successful read left bytes as they were")
	}
	if status.err == nil {
		for _, list := range status.extents {
			if len(list) == 0 || list[0].Offset != lieOff {
				t.Errorf("block status = %v", list)
			}
		}
	}
}

// FuzzClientNegotiation lets a server say anything from the start.
func FuzzClientNegotiation(f *testing.F) {
	f.Add(fuzzStart)
	f.Add(wire(greeting, optReply(optStructuredReply, repErrUnsup), optReply(optGo, repErrUnknown, "gone")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		within(t, 10*time.Second, "the negotiation", func() {
			c, err := negotiateWith(t.Context(), stream, Options{Contexts: []string{ContextAllocation}})
			if err != nil {
				return
			}
			if i := c.Info(); i.Size < 0 || i.MinBlock <= 0 || i.MaxPayload < i.MinBlock || i.MaxPayload%i.MinBlock != 0 {
				t.Errorf("Info = %+v", i)
			}
			c.Close()
		})
	})
}

// serveCanned lets a server answer stream, and returns what it said.
func serveCanned(t *testing.T, d *memDisk, stream []byte) []byte {
	conn := &canned{stream: stream}
	within(t, 10*time.Second, "ServeConn", func() {
		// The error is the stream's, whatever it is: it is the panic that would tell.
		_ = (&Server{Export: one(d)}).ServeConn(context.Background(), conn)
	})
	return conn.said
}

// FuzzServerNegotiation lets a client say anything from the start.
func FuzzServerNegotiation(f *testing.F) {
	info := wire(uint32(4), "disk", uint16(1), uint16(3))
	f.Add(wire(uint32(3), option(optStructuredReply), option(optSetMeta, uint32(4), "disk", uint32(1), uint32(15), ContextAllocation),
		option(optInfo, info), option(optGo, info), req(cmdRead, 0, 0, 100)))
	f.Add(wire(uint32(1), option(optList), option(optExportName, "disk"), req(cmdWrite, 0, 0, 3, "abc")))
	f.Fuzz(func(t *testing.T, stream []byte) {
		said := serveCanned(t, newMemDisk(t, 8*grain), stream)
		if !bytes.HasPrefix(said, greeting) {
			t.Errorf("the server began with %x", said[:min(len(said), 20)])
		}
	})
}

var serverStart = wire(uint32(3), option(optStructuredReply),
	option(optSetMeta, uint32(4), "disk", uint32(1), uint32(15), ContextAllocation),
	option(optGo, uint32(4), "disk", uint16(0)))

// FuzzServerRequest lets a client say anything after a good negotiation. What
// the server answers must be whole, well-formed replies.
func FuzzServerRequest(f *testing.F) {
	f.Add(wire(req(cmdRead, 0, 0, 3*grain), req(cmdWrite, 0, grain, 5, "hello"), req(cmdBlockStatus, 0, 100, 10000)))
	f.Add(wire(req(cmdWriteZeroes, cfNoHole, 5, 10000), req(cmdTrim, 0, 0, 1), req(cmdFlush, cfFUA, 0, 0), req(cmdDisc, 0, 0, 0)))
	f.Add(req(cmdRead, cfDF, ^uint64(0), 10))
	empty := serveCannedLength()
	f.Fuzz(func(t *testing.T, stream []byte) {
		d := newMemDisk(t, 8*grain)
		pattern(d.data[grain:2*grain], 1)
		said := serveCanned(t, d, append(bytes.Clone(serverStart), stream...))
		for b := said[empty:]; len(b) > 0; {
			n := 16
			if len(b) < 16 {
				t.Fatalf("the server's words end in a header: %x", b)
			}
			if binary.BigEndian.Uint32(b) == magicStructured && len(b) >= 20 {
				n = 20 + int(binary.BigEndian.Uint32(b[16:]))
			} else if binary.BigEndian.Uint32(b) != magicSimple {
				t.Fatalf("the server said %x", b[:16])
			}
			if n > len(b) {
				t.Fatalf("reply of %d bytes, of which %d are there", n, len(b))
			}
			b = b[n:]
		}
	})
}

// serveCannedLength is how much the server says to serverStart alone.
var serveCannedLength = sync.OnceValue(func() int {
	conn := &canned{stream: serverStart}
	_ = (&Server{Export: one(newMemDisk(nil, 8*grain))}).ServeConn(context.Background(), conn)
	return len(conn.said)
})

var _ net.Conn = (*canned)(nil)
