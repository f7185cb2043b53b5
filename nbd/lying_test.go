package nbd

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	lieSize = 1 << 20
	lieOff  = 4096
	lieLen  = 1024
)

// lies are streams that a server sends in reply to one request, with the
// error's words that they have to lead to.
var lies = []struct {
	name  string
	cmd   uint16
	plain bool // no structured replies
	reply func(cookie uint64) []byte
	want  string
}{
	{"bad magic", cmdRead, false, func(c uint64) []byte { return wire(uint32(0xdeadbeef), uint32(0), c) }, "reply starts with 0xdeadbeef"},
	{"unknown cookie", cmdRead, false, func(c uint64) []byte { return chunk(c+1, 1, chunkNone) }, "which no outstanding request has"},
	{"structured though not agreed", cmdRead, true, func(c uint64) []byte { return chunk(c, 1, chunkNone) }, "although none were agreed"},
	{"simple though structured", cmdRead, false, func(c uint64) []byte { return simple(c, 0, make([]byte, lieLen)) }, "simple reply to a read"},
	{"unknown chunk flags", cmdRead, false, func(c uint64) []byte { return chunk(c, 3, chunkNone) }, "unknown flags"},
	{"unknown chunk type", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, 77) }, "unexpected chunk of type 77"},
	{"none with payload", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkNone, "x") }, "unexpected chunk of type 0"},
	{"none but not done", cmdRead, false, func(c uint64) []byte { return chunk(c, 0, chunkNone) }, "unexpected chunk of type 0"},
	{"nothing delivered", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkNone) }, "ends without bytes 0 to 1024"},
	{"half delivered", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkData, uint64(lieOff), make([]byte, lieLen/2))
	}, "ends without bytes 512 to 1024"},
	{"second half only", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkHole, uint64(lieOff+512), uint32(512))
	}, "ends without bytes 0 to 512"},
	{"gap in the middle", cmdRead, false, func(c uint64) []byte {
		return wire(chunk(c, 0, chunkHole, uint64(lieOff), uint32(500)), chunk(c, 1, chunkHole, uint64(lieOff+501), uint32(523)))
	}, "ends without bytes 500 to 501"},
	{"delivered twice", cmdRead, false, func(c uint64) []byte {
		return wire(chunk(c, 0, chunkData, uint64(lieOff), make([]byte, lieLen)), chunk(c, 1, chunkHole, uint64(lieOff+1023), uint32(1)))
	}, "already delivered"},
	{"overlap", cmdRead, false, func(c uint64) []byte {
		return wire(chunk(c, 0, chunkHole, uint64(lieOff+512), uint32(512)), chunk(c, 1, chunkData, uint64(lieOff), make([]byte, 513)))
	}, "already delivered"},
	{"before the request", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkData, uint64(lieOff-1), make([]byte, lieLen))
	}, "outside of the request"},
	{"after the request", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkHole, uint64(lieOff+1), uint32(lieLen))
	}, "outside of the request"},
	{"offset that wraps around", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkHole, ^uint64(0)-100, uint32(lieLen))
	}, "outside of the request"},
	{"enormous data", cmdRead, false, func(c uint64) []byte {
		return wire(uint32(magicStructured), uint16(1), uint16(chunkData), c, ^uint32(0), uint64(lieOff))
	}, "outside of the request"},
	{"enormous hole", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkHole, uint64(lieOff), ^uint32(0))
	}, "outside of the request"},
	{"empty data", cmdRead, false, func(c uint64) []byte { return chunk(c, 0, chunkData, uint64(lieOff)) }, "data chunk of 8 bytes"},
	{"empty hole", cmdRead, false, func(c uint64) []byte { return chunk(c, 0, chunkHole, uint64(lieOff), uint32(0)) }, "outside of the request"},
	{"hole too short", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkHole, uint64(lieOff)) }, "hole chunk of 8 bytes"},
	{"data for a write", cmdWrite, false, func(c uint64) []byte {
		return chunk(c, 1, chunkData, uint64(lieOff), make([]byte, lieLen))
	}, "unexpected chunk of type 1"},
	{"status for a read", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkStatus, uint32(7), uint32(lieLen), uint32(0))
	}, "unexpected chunk of type 5"},
	{"error without a code", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkError, uint32(0), uint16(0)) }, "code 0"},
	{"error too short", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkError, uint32(5)) }, "error chunk of 4 bytes"},
	{"error too long", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkError, uint32(5), uint16(9000), make([]byte, 9000))
	}, "error chunk of 9006 bytes"},
	{"error's message too long", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkError, uint32(5), uint16(4), "abc") }, "a message of 4"},
	{"error with a rest", cmdRead, false, func(c uint64) []byte { return chunk(c, 1, chunkError, uint32(5), uint16(1), "abc") }, "2 bytes after the message"},
	{"error elsewhere", cmdRead, false, func(c uint64) []byte {
		return chunk(c, 1, chunkErrorOffset, uint32(5), uint16(0), uint64(0))
	}, "outside of the request"},
	{"endless errors", cmdRead, false, func(c uint64) []byte {
		return []byte(strings.Repeat(string(chunk(c, 0, chunkError, uint32(5), uint16(0))), 1000))
	}, "error chunks"},
	{"simple status", cmdBlockStatus, false, func(c uint64) []byte { return simple(c, 0) }, "cannot carry block status"},
	{"no status", cmdBlockStatus, false, func(c uint64) []byte { return chunk(c, 1, chunkNone) }, "without the status in"},
	{"status in an unknown context", cmdBlockStatus, false, func(c uint64) []byte {
		return chunk(c, 1, chunkStatus, uint32(8), uint32(lieLen), uint32(0))
	}, "was not agreed"},
	{"status twice", cmdBlockStatus, false, func(c uint64) []byte {
		s := chunk(c, 0, chunkStatus, uint32(7), uint32(lieLen), uint32(0))
		return wire(s, s)
	}, "second block status"},
	{"status of nothing", cmdBlockStatus, false, func(c uint64) []byte { return chunk(c, 1, chunkStatus, uint32(7)) }, "block status chunk of 4 bytes"},
	{"status cut", cmdBlockStatus, false, func(c uint64) []byte {
		return chunk(c, 1, chunkStatus, uint32(7), uint32(lieLen), uint32(0), uint32(1))
	}, "block status chunk of 16 bytes"},
	{"empty extent", cmdBlockStatus, false, func(c uint64) []byte {
		return chunk(c, 1, chunkStatus, uint32(7), uint32(0), uint32(0))
	}, "extent of 0 bytes"},
	{"extent after the end", cmdBlockStatus, false, func(c uint64) []byte {
		return chunk(c, 1, chunkStatus, uint32(7), uint32(lieLen), uint32(0), uint32(1), uint32(0))
	}, "extent of 1 bytes"},
	{"enormous status", cmdBlockStatus, false, func(c uint64) []byte {
		return wire(uint32(magicStructured), uint16(1), uint16(chunkStatus), c, uint32(0xfffffffc))
	}, "block status chunk of 4294967292 bytes"},
}

// ask sends one request of a kind and returns its error.
func ask(ctx context.Context, c *Client, cmd uint16) (err error) {
	switch cmd {
	case cmdRead:
		_, err = c.ReadAtContext(ctx, make([]byte, lieLen), lieOff)
	case cmdWrite:
		_, err = c.WriteAtContext(ctx, make([]byte, lieLen), lieOff)
	case cmdBlockStatus:
		_, err = c.BlockStatus(ctx, ContextAllocation, lieOff, lieLen)
	default:
		err = c.Flush(ctx)
	}
	return err
}

func liar(plain bool) *script {
	return &script{size: lieSize, flags: tfFlush, simple: plain, contexts: []string{ContextAllocation}}
}

func TestLyingServer(t *testing.T) {
	for _, tc := range lies {
		t.Run(tc.name, func(t *testing.T) {
			c := liar(tc.plain).play(t, Options{}, func(s *script) {
				req, _, err := s.request()
				if err != nil {
					return
				}
				s.conn.Write(tc.reply(req.cookie))
				io.Copy(io.Discard, s.br) // the connection stays open
			})
			within(t, 20*time.Second, "the request", func() {
				err := ask(t.Context(), c, tc.cmd)
				if !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), `export "disk"`) {
					t.Errorf("error = %v\nwant %v … %q", err, ErrProtocol, tc.want)
				}
				if err := ask(t.Context(), c, cmdFlush); !errors.Is(err, ErrProtocol) {
					t.Errorf("the next request's error = %v", err)
				}
			})
		})
	}
}

// TestTruncatedReply cuts a good stream of replies at every byte.
func TestTruncatedReply(t *testing.T) {
	good := func(cookie uint64) []byte {
		return wire(chunk(cookie, 0, chunkData, uint64(lieOff), make([]byte, 20)),
			chunk(cookie, 0, chunkHole, uint64(lieOff+20), uint32(lieLen-20)), chunk(cookie, 1, chunkNone))
	}
	for cut := range good(0) {
		c := liar(false).play(t, Options{}, func(s *script) {
			if req, _, err := s.request(); err == nil {
				s.conn.Write(good(req.cookie)[:cut])
			}
		})
		within(t, 20*time.Second, "the request", func() {
			if err := ask(t.Context(), c, cmdRead); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		})
	}
}

// TestGoodOddReplies are replies that are unusual, and right.
func TestGoodOddReplies(t *testing.T) {
	for _, tc := range []struct {
		name  string
		cmd   uint16
		reply func(cookie uint64) []byte
		want  error
	}{
		{"backwards", cmdRead, func(c uint64) []byte {
			return wire(chunk(c, 0, chunkHole, uint64(lieOff+1000), uint32(24)), chunk(c, 0, chunkData, uint64(lieOff), make([]byte, 10)),
				chunk(c, 0, chunkData, uint64(lieOff+11), make([]byte, 989)), chunk(c, 1, chunkHole, uint64(lieOff+10), uint32(1)))
		}, nil},
		{"structured reply to a write", cmdWrite, func(c uint64) []byte { return chunk(c, 1, chunkNone) }, nil},
		{"simple error to a read", cmdRead, func(c uint64) []byte { return simple(c, nbdEIO) }, syscall.EIO},
		{"error after data", cmdRead, func(c uint64) []byte {
			return wire(chunk(c, 0, chunkData, uint64(lieOff), make([]byte, 10)),
				chunk(c, 0, chunkErrorOffset, uint32(nbdENOMEM), uint16(3), "why", uint64(lieOff+10)), chunk(c, 1, chunkNone))
		}, syscall.ENOMEM},
		{"unknown error type", cmdRead, func(c uint64) []byte { return chunk(c, 1, chunkErrBit|99, uint32(nbdENOSPC), uint16(0), "later") }, syscall.ENOSPC},
		{"last extent beyond the request", cmdBlockStatus, func(c uint64) []byte {
			return chunk(c, 1, chunkStatus, uint32(7), uint32(1<<31), uint32(0))
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := liar(false).play(t, Options{}, func(s *script) {
				for {
					req, _, err := s.request()
					if err != nil || req.cmd == cmdDisc {
						return
					}
					s.conn.Write(tc.reply(req.cookie))
				}
			})
			for range 2 { // the connection goes on
				err := ask(t.Context(), c, tc.cmd)
				if !errors.Is(err, tc.want) {
					t.Errorf("error = %v, want %v", err, tc.want)
				}
				var remote *RemoteError
				if tc.name == "error after data" && (!errors.As(err, &remote) || remote.Message != "why" || remote.Offset != lieOff+10) {
					t.Errorf("error = %#v", err)
				}
			}
		})
	}
}

// TestStatusWithoutProgress: extents that never leave the aligned-down start.
func TestStatusWithoutProgress(t *testing.T) {
	s := liar(false)
	s.min, s.pref, s.max = 4096, 4096, 1<<20
	c := s.play(t, Options{}, func(s *script) {
		for {
			req, _, err := s.request()
			if err != nil {
				return
			}
			s.conn.Write(chunk(req.cookie, 1, chunkStatus, uint32(7), uint32(512), uint32(0)))
		}
	})
	within(t, 20*time.Second, "BlockStatus", func() {
		_, err := c.BlockStatus(t.Context(), ContextAllocation, 1024, 1024)
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("error = %v", err)
		}
	})
}

// TestLyingNegotiation: what a server may say before the transmission phase.
func TestLyingNegotiation(t *testing.T) {
	flags := uint16(tfHasFlags)
	started := wire(greeting, optReply(optStructuredReply, repAck))
	ctx := wire(started, optReply(optSetMeta, repMeta, uint32(1), ContextAllocation))
	set := wire(ctx, optReply(optSetMeta, repAck))
	export := func(size uint64, f uint16) []byte { return optReply(optGo, repInfo, uint16(infoExport), size, f) }
	blocks := func(lo, pref, hi uint32) []byte {
		return wire(set, export(1<<20, flags), optReply(optGo, repInfo, uint16(infoBlockSize), lo, pref, hi))
	}
	for _, tc := range []struct {
		name, want string
		stream     []byte
		is         error
	}{
		{"silence", "closed the connection", nil, io.ErrUnexpectedEOF},
		{"not NBD", "not NBD's", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), ErrProtocol},
		{"oldstyle", "oldstyle", wire(uint64(magicGreeting), uint64(magicOldstyle), make([]byte, 136)), nil},
		{"unfixed", "unfixed", wire(uint64(magicGreeting), uint64(magicOption), uint16(0)), nil},
		{"second magic", "greeting continues", wire(uint64(magicGreeting), uint64(1), uint16(3)), ErrProtocol},
		{"reply magic", "option reply starts", wire(greeting, uint64(5), make([]byte, 12)), ErrProtocol},
		{"reply to another option", "reply to NBD_OPT_GO", wire(greeting, optReply(optGo, repAck)), ErrProtocol},
		{"long reply", "option reply of 4294967295", wire(greeting, uint64(magicOptionReply), uint32(optStructuredReply), uint32(repAck), ^uint32(0)), ErrProtocol},
		{"information instead of ack", "reply 3 to", wire(greeting, optReply(optStructuredReply, repInfo)), ErrProtocol},
		{"TLS", "requires TLS", wire(greeting, optReply(optStructuredReply, repErrTLSReqd)), os.ErrPermission},
		{"context not asked for", "not asked for", wire(started, optReply(optSetMeta, repMeta, uint32(1), "x-evil:y")), ErrProtocol},
		{"context twice", "granted twice", wire(ctx, optReply(optSetMeta, repMeta, uint32(2), ContextAllocation)), ErrProtocol},
		{"context too short", "reply 4 of 4 bytes", wire(started, optReply(optSetMeta, repMeta, uint32(1))), ErrProtocol},
		{"no such export", `no such export: "gone"`, wire(set, optReply(optGo, repErrUnknown, "gone")), os.ErrNotExist},
		{"export unknown to contexts", "no such export", wire(started, optReply(optSetMeta, repErrUnknown)), os.ErrNotExist},
		{"old server", "not supported", wire(set, optReply(optGo, repErrUnsup)), errors.ErrUnsupported},
		{"no size", "without the export's size", wire(set, optReply(optGo, repAck)), ErrProtocol},
		{"negative size", "export of", wire(set, export(1<<63, flags)), ErrProtocol},
		{"no flags", "transmission flags", wire(set, export(1, 0)), ErrProtocol},
		{"short export", "export information of 2", wire(set, optReply(optGo, repInfo, uint16(infoExport), uint16(1))), ErrProtocol},
		{"block size 0", "block sizes", blocks(0, 4096, 1<<20), ErrProtocol},
		{"block size 3", "block sizes", blocks(3, 4096, 1<<20), ErrProtocol},
		{"block size huge", "block sizes", blocks(1<<20, 1<<20, 1<<20), ErrProtocol},
		{"maximum below minimum", "block sizes", blocks(512, 4096, 256), ErrProtocol},
		{"short blocks", "block size information", wire(set, optReply(optGo, repInfo, uint16(infoBlockSize), uint16(1))), ErrProtocol},
		{"endless information", "more than", append(set, []byte(strings.Repeat(string(optReply(optGo, repInfo, uint16(9))), maxOptionReplies))...), ErrProtocol},
		{"much information", "more than", append(set, []byte(strings.Repeat(string(optReply(optGo, repInfo, uint16(9), make([]byte, 60000))), 80))...), ErrProtocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			within(t, 20*time.Second, "the negotiation", func() {
				_, err := negotiateWith(t.Context(), tc.stream, Options{Contexts: []string{ContextAllocation}})
				if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
					t.Errorf("error = %v\nwant %v … %q", err, tc.is, tc.want)
				}
			})
		})
	}
}

// negotiateWith lets a client negotiate with a server that says stream and hangs
// up, whatever the client says.
func negotiateWith(ctx context.Context, stream []byte, opts Options) (*Client, error) {
	return NewClient(ctx, &canned{stream: stream}, "disk", opts)
}

// TestTruncatedNegotiation cuts a good negotiation at every byte.
func TestTruncatedNegotiation(t *testing.T) {
	good := wire(greeting, optReply(optStructuredReply, repAck),
		optReply(optSetMeta, repMeta, uint32(1), ContextAllocation), optReply(optSetMeta, repAck),
		optReply(optGo, repInfo, uint16(infoExport), uint64(5), uint16(tfHasFlags)),
		optReply(optGo, repInfo, uint16(infoBlockSize), uint32(1), uint32(4096), uint32(1<<20)),
		optReply(optGo, repAck))
	opts := Options{Contexts: []string{ContextAllocation}}
	for cut := range good {
		within(t, 20*time.Second, "the negotiation", func() {
			if _, err := negotiateWith(t.Context(), good[:cut], opts); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		})
	}
	c, err := negotiateWith(t.Context(), good, opts)
	if err != nil || c.Size() != 5 {
		t.Fatalf("whole: %v", err)
	}
	c.Close()
}
