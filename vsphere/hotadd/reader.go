package hotadd

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"snapferry/transfer"
)

// reader reads one attached disk: a transfer.DiskReader.
type reader struct {
	a  *Appliance
	at attachment
	op string

	mu     sync.RWMutex // held for reading by ReadAt, for writing by Close
	device *device      // nil once it is closed
	gone   bool         // detached
}

var errClosed = errors.New("the reader is closed")

// ReadAt implements transfer.DiskReader.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off%transfer.SectorSize != 0 || len(p)%transfer.SectorSize != 0 || off < 0 || off > r.at.want.size-int64(len(p)) {
		return 0, fmt.Errorf("read %d bytes at %d: not whole sectors inside the disk of %d bytes", len(p), off, r.at.want.size)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.device == nil {
		return 0, errClosed
	}
	n, err := r.device.readAt(p, off)
	if err != nil {
		return n, transfer.Fail(transfer.Retry, fmt.Sprintf("read %d bytes at %d of %s", len(p), off, r.at.mark.File), err,
			"Look at the kernel's log of the appliance; a storage migration of the VM, or a snapshot removed by others, ends the reading too.")
	}
	return n, nil
}

// Close implements transfer.DiskReader. It waits for reads under way, and may
// be called again after an error.
func (r *reader) Close(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return nil
	}
	if r.device != nil {
		_ = r.device.close() // it was only read; the descriptor is gone in any case
		r.device = nil
	}
	if err := r.a.letGo(ctx, r.at); err != nil {
		return err
	}
	r.gone = true
	return nil
}
