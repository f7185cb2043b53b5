package hotadd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// letGo takes a disk out of the guest, then off the VM. Where vCenter refuses
// the removal the guest is rescanned, as the disk may be back in it, and the
// whole is tried again.
func (a *Appliance) letGo(ctx context.Context, t attachment) error {
	op := "detach " + t.String()
	pause := a.cfg.Timing.RetryFirst
	var err error
	for try := range removals {
		if try > 0 {
			if sleep(ctx, pause) != nil {
				break
			}
			pause *= 2
			a.guest.rescan()
			a.guest.returned(ctx, t.want)
		}
		// An idle disk that is read only may also be pulled from under the
		// guest: not to remove it from the VM would be worse.
		gone := a.guest.drop(ctx, t.want)
		if err = a.remove(ctx, op, t); err == nil {
			a.setLive(t.slot, false)
			return nil
		}
		err = errors.Join(err, gone)
		if isForeign(err) {
			return err
		}
	}
	return transfer.Fail(transfer.Retry, op, fmt.Errorf("it is still attached: %w", err),
		"Remove the disk from the appliance in the vSphere Client WITHOUT deleting its files; never delete the appliance while it is attached.")
}

// errForeign: what hangs there is not provably ours, and is not touched.
var errForeign = errors.New("it does not carry our mark")

func isForeign(err error) bool { return errors.Is(err, errForeign) }

// remove takes the disk off the VM, with its mark, if it is ours. What is gone
// already is fine.
func (a *Appliance) remove(ctx context.Context, op string, t attachment) error {
	if err := a.acquire(ctx); err != nil {
		return vsphere.Explain(op, err)
	}
	defer a.release()
	for range conflicts {
		h, err := a.fetch(ctx)
		if err != nil {
			return vsphere.Explain(op, err)
		}
		disk, there := h.diskAt(t.slot)
		marked, same := h.marks[t.slot] == t.mark, there && disk.file == t.mark.File
		spec := clearSpec(h.version, t.slot)
		switch {
		case !marked && !same:
			return nil // ours is gone; what hangs there now came later
		case marked && same:
			spec = detachSpec(h.version, disk)
		case there:
			return transfer.Fail(transfer.Permanent, op, fmt.Errorf("%w: at %v there is %s", errForeign, t.slot, disk.file),
				"Look in vCenter at what hangs on the appliance; remove disks WITHOUT deleting their files.")
		}
		err = a.reconfigure(ctx, spec)
		switch {
		case err == nil:
			return nil
		case vsphere.IsLost(err):
			if err := a.c.UntilQuiet(ctx, a.vm); err != nil {
				return vsphere.Explain(op, err)
			}
		case !isConflict(err):
			return vsphere.Explain(op, err)
		}
	}
	return transfer.Fail(transfer.Retry, op, errors.New("the appliance's configuration keeps changing"), "")
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
