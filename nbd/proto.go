package nbd

import (
	"encoding/binary"
	"fmt"
)

// Magic numbers.
const (
	magicGreeting    = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption      = 0x49484156454f5054 // "IHAVEOPT"
	magicOldstyle    = 0x00420281861253
	magicOptionReply = 0x0003e889045565a9
	magicRequest     = 0x25609513
	magicSimple      = 0x67446698
	magicStructured  = 0x668e33ef
)

// Handshake flags; the server's and the client's have the same bits.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Options of the negotiation.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMeta        = 9
	optSetMeta         = 10
)

// Replies to options. Errors have the top bit set.
const (
	repAck    = 1
	repServer = 2
	repInfo   = 3
	repMeta   = 4

	repErrBit       = 1 << 31
	repErrUnsup     = repErrBit | 1
	repErrPolicy    = repErrBit | 2
	repErrInvalid   = repErrBit | 3
	repErrPlatform  = repErrBit | 4
	repErrTLSReqd   = repErrBit | 5
	repErrUnknown   = repErrBit | 6
	repErrShutdown  = repErrBit | 7
	repErrBlockReqd = repErrBit | 8
	repErrTooBig    = repErrBit | 9
)

// Information types of NBD_OPT_INFO and NBD_OPT_GO.
const (
	infoExport    = 0
	infoBlockSize = 3
)

// Transmission flags.
const (
	tfHasFlags    = 1 << 0
	tfReadOnly    = 1 << 1
	tfFlush       = 1 << 2
	tfFUA         = 1 << 3
	tfTrim        = 1 << 5
	tfWriteZeroes = 1 << 6
	tfDF          = 1 << 7
	tfMultiConn   = 1 << 8
)

// Commands.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

// Command flags.
const (
	cfFUA    = 1 << 0
	cfNoHole = 1 << 1
	cfDF     = 1 << 2
	cfReqOne = 1 << 3
)

// Structured reply chunks. Error chunks have the top bit set.
const (
	chunkDone = 1 // flag of the last chunk

	chunkNone        = 0
	chunkData        = 1
	chunkHole        = 2
	chunkStatus      = 5
	chunkErrBit      = 1 << 15
	chunkError       = chunkErrBit | 1
	chunkErrorOffset = chunkErrBit | 2
)

const (
	// maxString is the longest string of the protocol ("Values"): export names,
	// context names and error messages.
	maxString = 4096
	// defaultMaxPayload is the largest read or write that both sides have to
	// expect where no block sizes were exchanged ("Block sizes").
	defaultMaxPayload = 32 << 20
	// maxBlockSize is the largest minimum block size that the protocol allows.
	maxBlockSize = 64 << 10

	requestLen = 28
)

// ContextAllocation is the metadata context of holes and zeroes that every
// server with block status knows. Its flags are [StateHole] and [StateZero].
const ContextAllocation = "base:allocation"

// ContextDepth is QEMU's metadata context of backing chains: the flags of an
// extent are the depth at which its bytes are: 0 nowhere, 1 in the image
// itself, 2 in its backing file or deeper.
const ContextDepth = "qemu:allocation-depth"

// Flags of an extent in [ContextAllocation].
const (
	StateHole = 1 << 0 // not allocated
	StateZero = 1 << 1 // reads as zeroes
)

// Extent is a run of bytes with one state in one metadata context.
type Extent struct {
	Offset int64 // bytes from the start of the export
	Length int64 // bytes, never 0
	Flags  uint32
}

// request is the header of one request.
type request struct {
	flags  uint16
	cmd    uint16
	cookie uint64
	off    uint64
	length uint32
}

func (r request) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, magicRequest)
	b = binary.BigEndian.AppendUint16(b, r.flags)
	b = binary.BigEndian.AppendUint16(b, r.cmd)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	b = binary.BigEndian.AppendUint64(b, r.off)
	return binary.BigEndian.AppendUint32(b, r.length)
}

func parseRequest(b []byte) (request, error) {
	if m := binary.BigEndian.Uint32(b); m != magicRequest {
		return request{}, fmt.Errorf("bad request magic %#x", m)
	}
	return request{
		flags:  binary.BigEndian.Uint16(b[4:]),
		cmd:    binary.BigEndian.Uint16(b[6:]),
		cookie: binary.BigEndian.Uint64(b[8:]),
		off:    binary.BigEndian.Uint64(b[16:]),
		length: binary.BigEndian.Uint32(b[24:]),
	}, nil
}

// appendString appends a string with its 32-bit length before it.
func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// cutString takes a string with its 32-bit length off b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxString || int(n) > len(b)-4 {
		return "", nil, false
	}
	return string(b[4 : 4+n]), b[4+n:], true
}

func commandName(cmd uint16) string {
	switch cmd {
	case cmdRead:
		return "read"
	case cmdWrite:
		return "write"
	case cmdDisc:
		return "disconnect"
	case cmdFlush:
		return "flush"
	case cmdTrim:
		return "trim"
	case cmdWriteZeroes:
		return "write zeroes"
	case cmdBlockStatus:
		return "block status"
	}
	return fmt.Sprintf("command %d", cmd)
}

func optionName(opt uint32) string {
	switch opt {
	case optExportName:
		return "NBD_OPT_EXPORT_NAME"
	case optAbort:
		return "NBD_OPT_ABORT"
	case optList:
		return "NBD_OPT_LIST"
	case optInfo:
		return "NBD_OPT_INFO"
	case optGo:
		return "NBD_OPT_GO"
	case optStructuredReply:
		return "NBD_OPT_STRUCTURED_REPLY"
	case optListMeta:
		return "NBD_OPT_LIST_META_CONTEXT"
	case optSetMeta:
		return "NBD_OPT_SET_META_CONTEXT"
	}
	return fmt.Sprintf("option %d", opt)
}
