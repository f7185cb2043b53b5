package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

const (
	// maxOptionReply is the longest reply to an option that the client takes: two
	// strings of the protocol's greatest length and some fields fit many times.
	maxOptionReply = 64 << 10
	// maxOptionReplies bounds the replies to one option: a list of exports longer
	// than this is no list for people.
	maxOptionReplies = 16384
	// maxOptionBytes bounds the replies to one option taken together, since they
	// are kept in memory.
	maxOptionBytes = 4 << 20
)

// handshake is the client's side of the negotiation. It ends with the
// transmission phase or with the connection.
type handshake struct{ c *Client }

// open negotiates the export.
func (h *handshake) open(export string, contexts []string) error {
	if len(export) > maxString {
		return fmt.Errorf("the export's name has %d bytes, more than %d", len(export), maxString)
	}
	if err := h.greet(); err != nil {
		return err
	}
	if err := h.structuredReplies(); err != nil {
		return err
	}
	h.c.contexts = map[uint32]string{}
	if h.c.structured && len(contexts) > 0 {
		if err := h.setContexts(export, contexts); err != nil {
			return err
		}
	}
	return h.enter(export)
}

func (h *handshake) greet() error {
	var b [18]byte
	if err := h.read(b[:16]); err != nil {
		return fmt.Errorf("read the server's greeting: %w", err)
	}
	if m := binary.BigEndian.Uint64(b[:]); m != magicGreeting {
		return violation("greeting %q is not NBD's", b[:8])
	}
	switch m := binary.BigEndian.Uint64(b[8:]); m {
	case magicOption:
	case magicOldstyle:
		return errors.New("the server speaks oldstyle NBD only, which cannot negotiate")
	default:
		return violation("greeting continues with %#x", m)
	}
	if err := h.read(b[16:]); err != nil {
		return fmt.Errorf("read the server's flags: %w", err)
	}
	flags := binary.BigEndian.Uint16(b[16:])
	if flags&flagFixedNewstyle == 0 {
		return errors.New("the server speaks unfixed newstyle NBD only, which cannot negotiate")
	}
	var reply [4]byte
	binary.BigEndian.PutUint32(reply[:], uint32(flags&(flagFixedNewstyle|flagNoZeroes)))
	if _, err := h.c.conn.Write(reply[:]); err != nil {
		return fmt.Errorf("send the client's flags: %w", err)
	}
	return nil
}

func (h *handshake) structuredReplies() error {
	if err := h.send(optStructuredReply, nil); err != nil {
		return err
	}
	err := h.replies(optStructuredReply, nil)
	var refused *OptionError
	switch {
	case err == nil:
		h.c.structured, h.c.info.Structured = true, true
	case !errors.As(err, &refused), refused.Code == repErrTLSReqd, refused.Code == repErrShutdown:
		return err
	}
	return nil
}

// setContexts asks for metadata contexts. A server that knows none, or not
// these, is no error here: Info.Contexts tells.
func (h *handshake) setContexts(export string, contexts []string) error {
	b := appendString(nil, export)
	b = binary.BigEndian.AppendUint32(b, uint32(len(contexts)))
	for _, name := range contexts {
		b = appendString(b, name)
	}
	if err := h.send(optSetMeta, b); err != nil {
		return err
	}
	granted := map[string]bool{}
	err := h.replies(optSetMeta, func(typ uint32, d []byte) error {
		if typ != repMeta || len(d) < 5 {
			return violation("reply %d of %d bytes to %s", typ, len(d), optionName(optSetMeta))
		}
		id, name := binary.BigEndian.Uint32(d), string(d[4:])
		if !slices.Contains(contexts, name) {
			return violation("metadata context %q granted, which was not asked for", name)
		}
		if _, ok := h.c.contexts[id]; ok || granted[name] {
			return violation("metadata context %q (id %d) granted twice", name, id)
		}
		h.c.contexts[id], granted[name] = name, true
		return nil
	})
	var refused *OptionError
	if errors.As(err, &refused) && (refused.Code == repErrUnsup || refused.Code == repErrPolicy) {
		clear(h.c.contexts)
		return nil
	}
	for _, name := range contexts {
		if granted[name] && !slices.Contains(h.c.info.Contexts, name) {
			h.c.info.Contexts = append(h.c.info.Contexts, name)
		}
	}
	return err
}

// enter asks for the export and ends the negotiation.
func (h *handshake) enter(export string) error {
	b := appendString(nil, export)
	b = binary.BigEndian.AppendUint16(b, 1) // one information wanted
	b = binary.BigEndian.AppendUint16(b, infoBlockSize)
	if err := h.send(optGo, b); err != nil {
		return err
	}
	i := &h.c.info
	i.Name, i.MinBlock, i.PreferredBlock, i.MaxPayload = export, 1, 4096, defaultMaxPayload
	described := false
	err := h.replies(optGo, func(typ uint32, d []byte) error {
		if typ != repInfo || len(d) < 2 {
			return violation("reply %d of %d bytes to %s", typ, len(d), optionName(optGo))
		}
		switch kind := binary.BigEndian.Uint16(d); kind {
		case infoExport:
			described = true
			return i.setExport(d[2:])
		case infoBlockSize:
			return i.setBlockSizes(d[2:])
		}
		return nil // names, descriptions and what is yet to be invented
	})
	if err != nil {
		return err
	}
	if !described {
		return violation("%s succeeded without the export's size", optionName(optGo))
	}
	limit := min(i.MaxPayload, h.c.opts.MaxRequest)
	i.MaxPayload = max(limit-limit%i.MinBlock, i.MinBlock)
	return nil
}

func (i *Info) setExport(d []byte) error {
	if len(d) != 10 {
		return violation("export information of %d bytes", len(d))
	}
	size := binary.BigEndian.Uint64(d)
	if size > math.MaxInt64 {
		return violation("export of %d bytes", size)
	}
	flags := binary.BigEndian.Uint16(d[8:])
	if flags&tfHasFlags == 0 {
		return violation("transmission flags %#x lack the bit that is always set", flags)
	}
	i.Size = int64(size)
	i.ReadOnly = flags&tfReadOnly != 0
	i.CanFlush = flags&tfFlush != 0
	i.CanFUA = flags&tfFUA != 0
	i.CanTrim = flags&tfTrim != 0
	i.CanWriteZeroes = flags&tfWriteZeroes != 0
	i.CanMultiConn = flags&tfMultiConn != 0
	return nil
}

func (i *Info) setBlockSizes(d []byte) error {
	if len(d) != 12 {
		return violation("block size information of %d bytes", len(d))
	}
	lo, pref, hi := binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:]), binary.BigEndian.Uint32(d[8:])
	if lo == 0 || lo&(lo-1) != 0 || lo > maxBlockSize || pref < lo || hi < lo {
		return violation("block sizes minimum %d, preferred %d, maximum %d", lo, pref, hi)
	}
	i.MinBlock, i.PreferredBlock = int(lo), int(min(pref, math.MaxInt32))
	i.MaxPayload = int(min(hi, defaultMaxPayload))
	return nil
}

// list asks for the exports and ends the negotiation.
func (h *handshake) list() ([]Export, error) {
	if err := h.greet(); err != nil {
		return nil, err
	}
	if err := h.send(optList, nil); err != nil {
		return nil, err
	}
	var exports []Export
	err := h.replies(optList, func(typ uint32, d []byte) error {
		name, rest, ok := cutString(d)
		if typ != repServer || !ok {
			return violation("reply %d of %d bytes to %s", typ, len(d), optionName(optList))
		}
		exports = append(exports, Export{Name: name, Description: string(rest)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return exports, h.send(optAbort, nil) // courtesy: its reply is not awaited
}

func (h *handshake) send(opt uint32, data []byte) error {
	b := binary.BigEndian.AppendUint64(nil, magicOption)
	b = binary.BigEndian.AppendUint32(b, opt)
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	if _, err := h.c.conn.Write(append(b, data...)); err != nil {
		return fmt.Errorf("send %s: %w", optionName(opt), err)
	}
	return nil
}

// replies hands the replies to opt to f until the server's acknowledgement,
// which is nil, or its refusal, which is an [OptionError].
func (h *handshake) replies(opt uint32, f func(typ uint32, data []byte) error) error {
	total := 0
	for range maxOptionReplies {
		typ, data, err := h.reply(opt)
		if err != nil {
			return fmt.Errorf("read the reply to %s: %w", optionName(opt), err)
		}
		total += len(data)
		switch {
		case typ == repAck:
			return nil
		case typ&repErrBit != 0:
			return &OptionError{Option: optionName(opt), Code: typ, Message: string(data)}
		case total > maxOptionBytes:
			return violation("more than %d bytes of replies to %s", maxOptionBytes, optionName(opt))
		case f == nil:
			return violation("reply %d to %s", typ, optionName(opt))
		}
		if err := f(typ, data); err != nil {
			return err
		}
	}
	return violation("more than %d replies to %s", maxOptionReplies, optionName(opt))
}

func (h *handshake) reply(opt uint32) (typ uint32, data []byte, err error) {
	var b [20]byte
	if err := h.read(b[:]); err != nil {
		return 0, nil, err
	}
	if m := binary.BigEndian.Uint64(b[:]); m != magicOptionReply {
		return 0, nil, violation("option reply starts with %#x", m)
	}
	if got := binary.BigEndian.Uint32(b[8:]); got != opt {
		return 0, nil, violation("it is a reply to %s", optionName(got))
	}
	n := binary.BigEndian.Uint32(b[16:])
	if n > maxOptionReply {
		return 0, nil, violation("option reply of %d bytes", n)
	}
	data = make([]byte, n)
	return binary.BigEndian.Uint32(b[12:]), data, h.read(data)
}

// read fills b. The end of the stream is never expected here.
func (h *handshake) read(b []byte) error {
	_, err := io.ReadFull(h.c.br, b)
	if err == io.EOF && len(b) > 0 {
		err = fmt.Errorf("the server closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}
