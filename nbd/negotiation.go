package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
)

const (
	// maxOption is the longest option that the server reads: a list of contexts
	// is the longest there is, and clients know a handful.
	maxOption = 64 << 10
	// maxSkip is the longest option or write that is skipped with an error, twice
	// what a well-meaning client sends; one who sends more loses the connection.
	maxSkip = 2 * defaultMaxPayload
	// preferredBlock is what clients are told to align to: page caches and guest
	// file systems use no smaller unit.
	preferredBlock = 4096
	// allocationID is the server's id for its only metadata context.
	allocationID = 1
)

// errAborted ends a negotiation that the client ended properly.
var errAborted = errors.New("the client aborted")

// negotiation is the server's side of one handshake.
type negotiation struct {
	srv  *Server
	conn net.Conn
	br   *bufio.Reader

	noZeroes   bool
	structured bool
	name       string // the export that disk is
	disk       *disk
	allocation string // the export for which base:allocation was agreed …
	allocated  bool   // … if any
}

func newNegotiation(s *Server, conn net.Conn) *negotiation {
	return &negotiation{srv: s, conn: conn, br: bufio.NewReaderSize(conn, 64<<10)}
}

// run returns nil when the client has chosen an export.
func (n *negotiation) run() error {
	b := binary.BigEndian.AppendUint64(nil, magicGreeting)
	b = binary.BigEndian.AppendUint64(b, magicOption)
	b = binary.BigEndian.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	if _, err := n.conn.Write(b); err != nil {
		return err
	}
	var flags [4]byte
	if _, err := io.ReadFull(n.br, flags[:]); err != nil {
		return fmt.Errorf("read the client's flags: %w", err)
	}
	f := binary.BigEndian.Uint32(flags[:])
	if f&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("client has unknown flags %#x", f)
	}
	n.noZeroes = f&flagNoZeroes != 0
	for {
		done, err := n.option()
		if err != nil || done {
			return err
		}
	}
}

// option takes one option; done means that transmission begins.
func (n *negotiation) option() (done bool, err error) {
	var h [16]byte
	if _, err := io.ReadFull(n.br, h[:]); err != nil {
		return false, fmt.Errorf("read an option: %w", err)
	}
	if m := binary.BigEndian.Uint64(h[:]); m != magicOption {
		return false, fmt.Errorf("bad option magic %#x", m)
	}
	opt, size := binary.BigEndian.Uint32(h[8:]), binary.BigEndian.Uint32(h[12:])
	if size > maxOption {
		if size > maxSkip || opt == optExportName {
			return false, fmt.Errorf("%s of %d bytes", optionName(opt), size)
		}
		if _, err := io.CopyN(io.Discard, n.br, int64(size)); err != nil {
			return false, err
		}
		return false, n.refuse(opt, repErrTooBig, fmt.Sprintf("options end at %d bytes", maxOption))
	}
	d := make([]byte, size)
	if _, err := io.ReadFull(n.br, d); err != nil {
		return false, fmt.Errorf("read %s: %w", optionName(opt), err)
	}
	switch opt {
	case optExportName:
		return true, n.exportName(d)
	case optAbort:
		n.send(opt, repAck, nil) // the client need not wait for it
		return false, errAborted
	case optList:
		return false, n.list(d)
	case optInfo, optGo:
		return n.goOption(opt, d)
	case optStructuredReply:
		if len(d) != 0 {
			return false, n.refuse(opt, repErrInvalid, "this option has no data")
		}
		n.structured = true
		return false, n.send(opt, repAck, nil)
	case optListMeta, optSetMeta:
		return false, n.metaContext(opt, d)
	}
	return false, n.refuse(opt, repErrUnsup, "")
}

// exportName is the old way to choose an export: it cannot be refused.
func (n *negotiation) exportName(d []byte) error {
	if len(d) > maxString {
		return fmt.Errorf("export name of %d bytes", len(d))
	}
	if err := n.open(string(d)); err != nil {
		return fmt.Errorf("open export %q: %w", d, err)
	}
	n.settle()
	b := binary.BigEndian.AppendUint64(nil, uint64(n.disk.size))
	b = binary.BigEndian.AppendUint16(b, n.disk.flags(n.structured))
	if !n.noZeroes {
		b = append(b, make([]byte, 124)...)
	}
	_, err := n.conn.Write(b)
	return err
}

// open looks the export up, once for options that name the same one.
func (n *negotiation) open(name string) error {
	if n.disk != nil && n.name == name {
		return nil
	}
	b, err := n.srv.Export(name)
	if err != nil {
		return err
	}
	d, err := newDisk(b)
	if err != nil {
		return err
	}
	n.name, n.disk = name, d
	return nil
}

// settle forgets a metadata context that was agreed for another export.
func (n *negotiation) settle() {
	n.allocated = n.allocated && n.structured && n.allocation == n.name
}

func (n *negotiation) list(d []byte) error {
	if len(d) != 0 {
		return n.refuse(optList, repErrInvalid, "this option has no data")
	}
	if n.srv.Names == nil {
		return n.refuse(optList, repErrPolicy, "the list is not public")
	}
	for _, name := range n.srv.Names() {
		if err := n.send(optList, repServer, appendString(nil, name)); err != nil {
			return err
		}
	}
	return n.send(optList, repAck, nil)
}

// goOption answers NBD_OPT_INFO and NBD_OPT_GO.
func (n *negotiation) goOption(opt uint32, d []byte) (done bool, err error) {
	name, rest, ok := cutString(d)
	if !ok || len(rest) < 2 || len(rest) != 2+2*int(binary.BigEndian.Uint16(rest)) {
		return false, n.refuse(opt, repErrInvalid, "lengths do not fit")
	}
	if err := n.open(name); err != nil {
		return false, n.refuseExport(opt, name, err)
	}
	b := binary.BigEndian.AppendUint16(nil, infoExport)
	b = binary.BigEndian.AppendUint64(b, uint64(n.disk.size))
	b = binary.BigEndian.AppendUint16(b, n.disk.flags(n.structured))
	if err := n.send(opt, repInfo, b); err != nil {
		return false, err
	}
	// Told whether it was asked for or not: clients skip what they do not know.
	b = binary.BigEndian.AppendUint16(nil, infoBlockSize)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, preferredBlock)
	b = binary.BigEndian.AppendUint32(b, defaultMaxPayload)
	if err := n.send(opt, repInfo, b); err != nil {
		return false, err
	}
	if opt == optGo {
		n.settle()
	}
	return opt == optGo, n.send(opt, repAck, nil)
}

// metaContext answers NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
func (n *negotiation) metaContext(opt uint32, d []byte) error {
	if opt == optSetMeta {
		n.allocated = false // whatever was agreed before is void
	}
	name, rest, ok := cutString(d)
	if !ok || len(rest) < 4 {
		return n.refuse(opt, repErrInvalid, "lengths do not fit")
	}
	count, rest := binary.BigEndian.Uint32(rest), rest[4:]
	var queries []string
	for range count {
		var q string
		if q, rest, ok = cutString(rest); !ok {
			return n.refuse(opt, repErrInvalid, "lengths do not fit")
		}
		queries = append(queries, q)
	}
	if len(rest) != 0 {
		return n.refuse(opt, repErrInvalid, "lengths do not fit")
	}
	if !n.structured {
		return n.refuse(opt, repErrInvalid, "structured replies come first")
	}
	if err := n.open(name); err != nil {
		return n.refuseExport(opt, name, err)
	}
	match := slices.Contains(queries, ContextAllocation)
	if opt == optListMeta {
		match = match || count == 0 || slices.Contains(queries, "base:")
	}
	if match && n.disk.extents != nil {
		id := uint32(allocationID)
		if opt == optListMeta {
			id = 0
		} else {
			n.allocated, n.allocation = true, name
		}
		b := append(binary.BigEndian.AppendUint32(nil, id), ContextAllocation...)
		if err := n.send(opt, repMeta, b); err != nil {
			return err
		}
	}
	return n.send(opt, repAck, nil)
}

func (n *negotiation) refuseExport(opt uint32, name string, err error) error {
	code := uint32(repErrPlatform)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		code = repErrUnknown
	case errors.Is(err, fs.ErrPermission):
		code = repErrPolicy
	default:
		n.srv.log().Warn("nbd: open export", "name", name, "error", err)
	}
	return n.refuse(opt, code, err.Error())
}

func (n *negotiation) refuse(opt, code uint32, message string) error {
	return n.send(opt, code, []byte(message[:min(len(message), maxString)]))
}

func (n *negotiation) send(opt, typ uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicOptionReply)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, typ)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	_, err := n.conn.Write(append(b, data...))
	return err
}
