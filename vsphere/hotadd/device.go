package hotadd

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// device is an open block device, or a regular file in its place.
type device struct {
	path     string
	direct   *os.File // O_DIRECT; nil where that is refused
	buffered atomic.Pointer[os.File]
	once     sync.Once
	openErr  error
}

// openDevice opens for reading, past the page cache where the device allows it:
// what is read once must not push out what is used.
func openDevice(path string) (*device, error) {
	d := &device{path: path}
	if directFlag != 0 {
		f, err := os.OpenFile(path, os.O_RDONLY|directFlag, 0)
		if err == nil {
			d.direct = f
			return d, nil
		}
		if !errors.Is(err, syscall.EINVAL) {
			return nil, err
		}
	}
	_, err := d.fallback()
	return d, err
}

// fallback opens the device with the page cache, once.
func (d *device) fallback() (*os.File, error) {
	d.once.Do(func() {
		var f *os.File
		if f, d.openErr = os.OpenFile(d.path, os.O_RDONLY, 0); d.openErr == nil {
			d.buffered.Store(f)
		}
	})
	return d.buffered.Load(), d.openErr
}

// readAt fills p; less is an error. A read that O_DIRECT refuses, for a buffer
// or a sector size that does not fit, goes through the page cache and leaves
// nothing there.
func (d *device) readAt(p []byte, off int64) (int, error) {
	if d.direct != nil {
		n, err := full(d.direct.ReadAt(p, off))
		if !errors.Is(err, syscall.EINVAL) {
			return n, err
		}
	}
	f, err := d.fallback()
	if err != nil {
		return 0, err
	}
	n, err := full(f.ReadAt(p, off))
	forget(f, off, int64(n))
	return n, err
}

// full turns the end of the device into what it is within a disk's bounds.
// os.File.ReadAt has read in a loop already.
func full(n int, err error) (int, error) {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (d *device) file() *os.File {
	if d.direct != nil {
		return d.direct
	}
	return d.buffered.Load()
}

// size in bytes; seeking works on block devices too.
func (d *device) size() (int64, error) { return d.file().Seek(0, io.SeekEnd) }

// close flushes and closes.
func (d *device) close() error {
	var errs []error
	for _, f := range []*os.File{d.direct, d.buffered.Load()} {
		if f != nil {
			flush(f)
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
