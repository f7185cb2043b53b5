package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// Digest is the SHA-256 of one block. All zeros means an empty slot: no block
// has that digest.
type Digest = [sha256.Size]byte

// Header says what a table describes.
type Header struct {
	Snapshot string `json:"snapshot"` // the EBS snapshot, "" before StartSnapshot answered
	// Cycle sealed the snapshot; "" in a journal. A draft can be prepared for
	// a seal, be gone on with and be sealed by a later cycle with other bytes:
	// only both names together say which.
	Cycle  string `json:"cycle,omitempty"`
	Blocks int64  `json:"blocks"` // slots
	// Whole: an empty slot is a block of zeros. Otherwise nothing is known
	// about a block whose slot is empty.
	Whole bool `json:"whole"`
	// Spec is the caller's: what the draft was started with.
	Spec json.RawMessage `json:"spec,omitempty"`
}

// The file: header copy A, header copy B, slots. Headers are written in turn,
// so that a power cut in the middle of one leaves the other.
const (
	magic = "snapferry digests 1\n"
	// headerSize holds a spec with 50 tags of the greatest length (19 KiB)
	// twice over, and keeps the slots aligned to pages.
	headerSize = 64 << 10
	slotsAt    = 2 * headerSize
	slotSize   = sha256.Size
	// maxBlocks is the largest EBS volume, 64 TiB, in blocks: a header that
	// says more is not ours.
	maxBlocks = 65536 * 2048
)

// ErrCorrupt is what Open returns for a file that is no table: truncated,
// overwritten, or written by something else.
var ErrCorrupt = errors.New("not a digest table")

// Table is one open file. Get and Set may be called by many goroutines, for
// different blocks; the rest by one.
type Table struct {
	f      *os.File
	header Header
	seq    uint64 // of the header in force
}

// Create makes a new, empty table in place of whatever was at path.
func Create(path string, h Header) (*Table, error) {
	if h.Blocks < 1 || h.Blocks > maxBlocks {
		return nil, fmt.Errorf("create digest table %s: %d blocks", path, h.Blocks)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create digest table: %w", err)
	}
	t := &Table{f: f}
	err = f.Truncate(slotsAt + h.Blocks*slotSize) // sparse: an unwritten slot costs nothing
	if err == nil {
		err = t.SetHeader(h)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("create digest table %s: %w", path, err)
	}
	return t, nil
}

// Open opens a table; the error is ErrCorrupt where the file is none, and
// os.ErrNotExist where there is no file.
func Open(path string) (*Table, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open digest table: %w", err)
	}
	t := &Table{f: f}
	if err := t.readHeader(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open digest table %s: %w", path, err)
	}
	return t, nil
}

func (t *Table) readHeader() error {
	for at := int64(0); at < slotsAt; at += headerSize {
		b := make([]byte, headerSize)
		if _, err := t.f.ReadAt(b, at); err != nil {
			continue // a short file: the size check below decides
		}
		if h, seq, ok := parseHeader(b); ok && seq > t.seq {
			t.header, t.seq = h, seq
		}
	}
	if t.seq == 0 {
		return ErrCorrupt
	}
	st, err := t.f.Stat()
	if err != nil {
		return err
	}
	if want := slotsAt + t.header.Blocks*slotSize; st.Size() != want {
		return fmt.Errorf("%w: %d bytes long instead of %d", ErrCorrupt, st.Size(), want)
	}
	return nil
}

// A header copy: magic, sequence (8 bytes), length of the JSON (4), CRC-32C of
// sequence, length and JSON (4), the JSON.
const headerFixed = len(magic) + 8 + 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func parseHeader(b []byte) (h Header, seq uint64, ok bool) {
	if len(b) < headerFixed || string(b[:len(magic)]) != magic {
		return h, 0, false
	}
	fixed := b[len(magic):]
	seq = binary.BigEndian.Uint64(fixed)
	n := int(binary.BigEndian.Uint32(fixed[8:]))
	if n > len(b)-headerFixed {
		return h, 0, false
	}
	text := b[headerFixed : headerFixed+n]
	if headerSum(fixed[:12], text) != binary.BigEndian.Uint32(fixed[12:]) || json.Unmarshal(text, &h) != nil {
		return h, 0, false
	}
	return h, seq, h.Blocks >= 1 && h.Blocks <= maxBlocks
}

func headerSum(fixed, text []byte) uint32 {
	return crc32.Update(crc32.Checksum(fixed, castagnoli), castagnoli, text)
}

// Header returns the header in force.
func (t *Table) Header() Header { return t.header }

// SetHeader replaces the header, durably: after a power cut the table has
// either the old one or this one, and every slot set before is there.
func (t *Table) SetHeader(h Header) error {
	text, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("encode digest table header: %w", err)
	}
	if len(text) > headerSize-headerFixed {
		return fmt.Errorf("digest table header of %d bytes is too long", len(text))
	}
	b := append(make([]byte, 0, headerFixed+len(text)), magic...)
	b = binary.BigEndian.AppendUint64(b, t.seq+1)
	b = binary.BigEndian.AppendUint32(b, uint32(len(text)))
	b = binary.BigEndian.AppendUint32(b, headerSum(b[len(magic):], text))
	b = append(b, text...)
	if err := t.f.Sync(); err != nil { // slots first: the header may speak of them
		return fmt.Errorf("sync digest table: %w", err)
	}
	if _, err := t.f.WriteAt(b, int64((t.seq+1)%2)*headerSize); err != nil {
		return fmt.Errorf("write digest table header: %w", err)
	}
	if err := t.f.Sync(); err != nil {
		return fmt.Errorf("sync digest table: %w", err)
	}
	t.seq, t.header = t.seq+1, h
	return nil
}

// Get returns the digest of block i and whether its slot is set.
func (t *Table) Get(i int64) (d Digest, set bool, err error) {
	if i < 0 || i >= t.header.Blocks {
		return d, false, fmt.Errorf("digest of block %d: the table has %d", i, t.header.Blocks)
	}
	if _, err := t.f.ReadAt(d[:], slotsAt+i*slotSize); err != nil {
		return d, false, fmt.Errorf("read digest of block %d: %w", i, err)
	}
	return d, d != Digest{}, nil
}

// Set records the digest of block i. A slot never crosses a sector: after a
// power cut it holds the old digest or the new one.
func (t *Table) Set(i int64, d Digest) error {
	if i < 0 || i >= t.header.Blocks {
		return fmt.Errorf("set digest of block %d: the table has %d", i, t.header.Blocks)
	}
	if _, err := t.f.WriteAt(d[:], slotsAt+i*slotSize); err != nil {
		return fmt.Errorf("write digest of block %d: %w", i, err)
	}
	return nil
}

// Clear empties the slot of block i.
func (t *Table) Clear(i int64) error { return t.Set(i, Digest{}) }

// scanSize is how much of a table is read at a time when it is walked: enough
// to make the calls cheap, little beside the budget for blocks.
const scanSize = 256 << 10

// Each calls f for every block in ascending order, with set false where the
// slot is empty.
func (t *Table) Each(f func(i int64, d Digest, set bool) error) error {
	buf := make([]byte, scanSize)
	for first := int64(0); first < t.header.Blocks; first += scanSize / slotSize {
		n := min(scanSize/slotSize, t.header.Blocks-first)
		chunk := buf[:n*slotSize]
		if _, err := t.f.ReadAt(chunk, slotsAt+first*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read digests from block %d: %w", first, err)
		}
		for i := range n {
			d := Digest(chunk[i*slotSize : (i+1)*slotSize])
			if err := f(first+i, d, d != Digest{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Linear returns the number of set slots and EBS's LINEAR checksum over them:
// SHA-256 over the raw digests in ascending order of their blocks.
func (t *Table) Linear() (n int64, sum Digest, err error) {
	h := sha256.New()
	err = t.Each(func(_ int64, d Digest, set bool) error {
		if set {
			n++
			h.Write(d[:])
		}
		return nil
	})
	return n, Digest(h.Sum(nil)), err
}

// Root returns SHA-256 over the digests of all blocks in ascending order,
// empty ones as zero. ok is false where the table is not whole.
func (t *Table) Root(zero Digest) (sum Digest, ok bool, err error) {
	if !t.header.Whole {
		return sum, false, nil
	}
	h := sha256.New()
	err = t.Each(func(_ int64, d Digest, set bool) error {
		if !set {
			d = zero
		}
		h.Write(d[:])
		return nil
	})
	return Digest(h.Sum(nil)), true, err
}

// Close closes the file. What was set stays.
func (t *Table) Close() error { return t.f.Close() }
