package vcenter

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// streamWriter writes a stream-optimized sparse extent with 64 KiB grains, the
// form of an NFC export. (govmomi's vmdk.StreamOptimizedWriter of v0.56.0
// neither pads grains to sectors nor writes 32-bit grain tables.)
type streamWriter struct {
	w    io.Writer
	r    io.ReaderAt
	size int64
	pos  int64 // sectors written
	err  error
}

// The markers of the format, and the entries of one grain table.
const (
	markerTable     = 1
	markerDirectory = 2
	markerFooter    = 3
	tableEntries    = 512
	overhead        = 128 // sectors before the first grain
)

func (s *streamWriter) write() error {
	s.put(s.header(^uint64(0))) // the grain directory is at the end
	s.put(append([]byte(s.descriptor()), make([]byte, (overhead-1)*512-len(s.descriptor()))...))
	grains := (s.size + grain - 1) / grain
	var directory []byte
	for g := int64(0); g < grains; g += tableEntries {
		directory = binary.LittleEndian.AppendUint32(directory, s.table(g, min(g+tableEntries, grains)))
	}
	s.marker(int64(len(directory)+511)/512, markerDirectory)
	at := s.pos
	s.put(directory)
	s.marker(1, markerFooter)
	s.put(s.header(uint64(at)))
	s.marker(0, 0)
	return s.err
}

// put writes b padded to whole sectors.
func (s *streamWriter) put(b []byte) {
	if s.err != nil {
		return
	}
	b = append(bytes.Clone(b), make([]byte, -len(b)&511)...)
	_, s.err = s.w.Write(b)
	s.pos += int64(len(b) / 512)
}

func (s *streamWriter) header(directory uint64) []byte {
	h, le := make([]byte, 512), binary.LittleEndian
	copy(h, "KDMV")
	le.PutUint32(h[4:], 3)
	le.PutUint32(h[8:], 0x30001)
	for i, v := range []uint64{uint64((s.size + grain - 1) / grain * grain / 512), grain / 512, 1, 20} { // capacity, grain, descriptor at, its size
		le.PutUint64(h[12+8*i:], v)
	}
	le.PutUint32(h[44:], tableEntries)
	le.PutUint64(h[56:], directory)
	le.PutUint64(h[64:], overhead)
	copy(h[73:], "\n \r\n\x01")
	return h
}

func (s *streamWriter) descriptor() string {
	return fmt.Sprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"+
		"RW %d SPARSE \"disk.vmdk\"\n\nddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%d\"\nddb.geometry.heads = \"255\"\n"+
		"ddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"4\"\n", s.size/512, s.size/512/255/63)
}

func (s *streamWriter) marker(sectors int64, kind uint32) {
	m := make([]byte, 512)
	binary.LittleEndian.PutUint64(m, uint64(sectors))
	binary.LittleEndian.PutUint32(m[12:], kind)
	s.put(m)
}

// table writes the grains [first, end) and their table, and returns where the
// table is; 0 if all of them are zero.
func (s *streamWriter) table(first, end int64) uint32 {
	table, any := make([]byte, 4*tableEntries), false
	for g := first; g < end; g++ {
		raw := make([]byte, grain)
		if _, err := s.r.ReadAt(raw, g*grain); err != nil && !errors.Is(err, io.EOF) {
			s.err = errors.Join(s.err, err)
			return 0
		}
		if bytes.Count(raw, []byte{0}) == len(raw) {
			continue
		}
		any = true
		binary.LittleEndian.PutUint32(table[4*(g-first):], uint32(s.pos))
		s.put(compressed(g, raw))
	}
	if !any {
		return 0
	}
	s.marker(4, markerTable)
	at := s.pos
	s.put(table)
	return uint32(at)
}

// compressed is a grain marker with its data.
func compressed(g int64, raw []byte) []byte {
	var z bytes.Buffer
	z.Write(make([]byte, 12))
	zw := zlib.NewWriter(&z)
	_, _ = zw.Write(raw) // a bytes.Buffer never fails
	_ = zw.Close()
	binary.LittleEndian.PutUint64(z.Bytes(), uint64(g*grain/512))
	binary.LittleEndian.PutUint32(z.Bytes()[8:], uint32(z.Len()-12))
	return z.Bytes()
}
