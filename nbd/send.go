package nbd

import (
	"encoding/binary"
	"net"
	"time"
)

// simpleHeader builds a simple reply's header.
func simpleHeader(req request, code uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, magicSimple)
	b = binary.BigEndian.AppendUint32(b, code)
	return binary.BigEndian.AppendUint64(b, req.cookie)
}

// chunkHeader builds the header of a chunk with n bytes of payload.
func chunkHeader(req request, typ uint16, done bool, n int) []byte {
	flags := uint16(0)
	if done {
		flags = chunkDone
	}
	b := binary.BigEndian.AppendUint32(nil, magicStructured)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint64(b, req.cookie)
	return binary.BigEndian.AppendUint32(b, uint32(n))
}

// sendRead sends the parts of a read. Without structured replies they are one.
func (t *transmission) sendRead(req request, parts []part) error {
	if !t.structured {
		b := net.Buffers{simpleHeader(req, 0)}
		for _, p := range parts {
			b = append(b, p.data)
		}
		return t.send(b)
	}
	if len(parts) == 0 {
		return t.send(net.Buffers{chunkHeader(req, chunkNone, true, 0)})
	}
	var b net.Buffers
	for i, p := range parts {
		done := i == len(parts)-1
		if p.data == nil {
			h := binary.BigEndian.AppendUint64(chunkHeader(req, chunkHole, done, 12), uint64(p.off))
			b = append(b, binary.BigEndian.AppendUint32(h, uint32(p.n)))
			continue
		}
		h := chunkHeader(req, chunkData, done, 8+len(p.data))
		b = append(b, binary.BigEndian.AppendUint64(h, uint64(p.off)), p.data)
	}
	return t.send(b)
}

func (t *transmission) sendStatus(req request, list []Extent) error {
	b := chunkHeader(req, chunkStatus, true, 4+8*len(list))
	b = binary.BigEndian.AppendUint32(b, allocationID)
	for _, e := range list {
		b = binary.BigEndian.AppendUint32(b, uint32(e.Length))
		b = binary.BigEndian.AppendUint32(b, e.Flags)
	}
	return t.send(net.Buffers{b})
}

func (t *transmission) sendDone(req request) error {
	return t.send(net.Buffers{simpleHeader(req, 0)})
}

// refuse sends an error. With structured replies the reason goes along.
func (t *transmission) refuse(req request, reason error) error {
	code := codeOf(reason)
	if !t.structured {
		return t.send(net.Buffers{simpleHeader(req, code)})
	}
	message := reason.Error()
	message = message[:min(len(message), maxString)]
	b := chunkHeader(req, chunkError, true, 6+len(message))
	b = binary.BigEndian.AppendUint32(b, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(message)))
	return t.send(net.Buffers{append(b, message...)})
}

// send writes one whole reply. After a failure, which may have left half a reply
// behind, the connection is closed and nothing more is sent.
func (t *transmission) send(b net.Buffers) error {
	t.wmu.Lock()
	defer t.wmu.Unlock()
	if t.werr != nil {
		return t.werr
	}
	t.conn.SetWriteDeadline(time.Now().Add(t.srv.patience()))
	if _, err := b.WriteTo(t.conn); err != nil {
		t.werr = err
		t.conn.Close()
	}
	return t.werr
}
