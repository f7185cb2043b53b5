// Package nbd is a small client and server of the Network Block Device
// protocol: fixed newstyle negotiation, NBD_OPT_GO, simple and structured
// replies, block status with metadata contexts. It uses the standard library
// only. The protocol is the one of
// https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md; section
// names in comments refer to it. TLS, extended headers (64-bit lengths) and
// NBD_CMD_RESIZE are left out.
//
// # Client
//
// [Dial] negotiates one export and returns a [Client] that any number of
// goroutines may use at once: every request is tagged, replies come in any
// order, and one connection carries up to Options.MaxInFlight requests. Reads
// and writes of any size are split at the server's limits, and reads are widened
// to its block size.
//
// The client trusts nothing that the server says. A read succeeds only if the
// reply delivered every requested byte exactly once; a length, an offset, a
// cookie or a chunk that does not fit ends the connection with an error that
// wraps [ErrProtocol] and names what was wrong. A refusal by the server is a
// [RemoteError] (a request) or an [OptionError] (the negotiation) and unwraps to
// the matching error of Go ([syscall.ENOSPC], [io/fs.ErrNotExist], …).
//
// Nothing waits for ever: a connection on which no byte moves for
// Options.Timeout while requests are outstanding is given up, and the methods
// that take a context return at once when it ends. A cancelled request leaves
// the connection usable: its reply is discarded when it comes.
//
// # Server
//
// [Serve] offers whatever [Backend] a function returns for an export name. What
// a backend can do beyond reading it says by further interfaces: [io.WriterAt],
// [Flusher], [Zeroer], [Extenter], [ContextReader], [MultiConner]. Requests of
// a connection run in parallel, within a bound on their number and their memory;
// a client that breaks the protocol gets the protocol's error, or loses its
// connection, and disturbs nobody else.
//
// The server has neither encryption nor passwords. [Listen] therefore listens
// on loopback addresses and on Unix sockets that only their owner may open.
package nbd
