package aws

import (
	"fmt"
	"io"
	"sync"
)

// diskPage is the unit in which writes to a volume are kept, in bytes: small,
// since a guest writes small, and the pages are in memory.
const diskPage = 4096

// Disk is the bytes of a volume: what its snapshot gave it, and over that what
// was written since. It may be read and written by many goroutines at once, and
// while the volume lives on; it stays readable after the volume is gone, until
// the emulator is closed. Written pages are kept in memory.
type Disk struct {
	mu    sync.RWMutex
	base  io.ReaderAt
	size  int64
	pages map[int64][]byte
}

func newDisk(base io.ReaderAt, size int64) *Disk {
	return &Disk{base: base, size: size, pages: map[int64][]byte{}}
}

// Size is the size in bytes, whole GiB.
func (d *Disk) Size() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.size
}

// grow makes the disk larger; what is new reads as zeros.
func (d *Disk) grow(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.size = size
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if off < 0 {
		return 0, fmt.Errorf("read volume at %d: negative offset", off)
	}
	n := int(max(0, min(int64(len(p)), d.size-off)))
	if n > 0 {
		got, err := d.base.ReadAt(p[:n], off)
		if err != nil && err != io.EOF {
			return 0, err
		}
		clear(p[got:n])
		d.lay(p[:n], off)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// lay copies the written pages over what the base gave.
func (d *Disk) lay(p []byte, off int64) {
	for at := off / diskPage; at*diskPage < off+int64(len(p)); at++ {
		page, ok := d.pages[at]
		if !ok {
			continue
		}
		if from := at * diskPage; from >= off {
			copy(p[from-off:], page)
		} else {
			copy(p, page[off-from:])
		}
	}
}

// WriteAt implements io.WriterAt.
func (d *Disk) WriteAt(p []byte, off int64) (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("write %d bytes to volume at %d: beyond its %d bytes", len(p), off, d.size)
	}
	for n < len(p) {
		at, in := off/diskPage, off%diskPage
		part := p[n:min(len(p), n+int(diskPage-in))]
		page := d.pages[at]
		if page == nil {
			page = make([]byte, diskPage)
			if len(part) < diskPage {
				if _, err := d.base.ReadAt(page, at*diskPage); err != nil && err != io.EOF {
					return n, err
				}
			}
			d.pages[at] = page
		}
		copy(page[in:], part)
		n, off = n+len(part), off+int64(len(part))
	}
	return n, nil
}

// Volume returns the bytes of a volume, to read what a launched guest would
// find, or to serve them to a machine that boots from them. Absent blocks of an
// encrypted volume read as garbage, as with [Emulator.Image].
func (e *Emulator) Volume(volumeID string) (*Disk, error) {
	defer e.lockCloud()()
	v := e.cloud.volumes[volumeID]
	if v == nil {
		return nil, fmt.Errorf("open volume %s: no such volume", volumeID)
	}
	return v.disk, nil
}

// VolumeImage returns what a volume reads, and its size in bytes.
func (e *Emulator) VolumeImage(volumeID string) (io.ReaderAt, int64, error) {
	d, err := e.Volume(volumeID)
	if err != nil {
		return nil, 0, fmt.Errorf("open image of %s: no such volume", volumeID)
	}
	return d, d.Size(), nil
}
