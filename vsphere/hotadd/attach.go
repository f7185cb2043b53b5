package hotadd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// attachment is a disk of ours on the appliance.
type attachment struct {
	slot slot
	mark Mark
	want want // how the guest sees it
}

func (t attachment) String() string {
	return fmt.Sprintf("%s of %s at %v of the appliance", t.mark.File, t.mark.VM, t.slot)
}

// conflicts bounds how often others may get in between look and change.
const conflicts = 10

// Open implements vsphere.Reader: attach, recognize, open.
func (a *Appliance) Open(ctx context.Context, d vsphere.FrozenDisk) (transfer.DiskReader, error) {
	op := fmt.Sprintf("attach %s of %s", d.Disk.Label, d.VM.Name)
	t, err := a.attach(ctx, op, d)
	if err != nil {
		return nil, err
	}
	r, err := a.openDevice(ctx, op, t)
	if err != nil || ctx.Err() != nil {
		return nil, errors.Join(err, vsphere.Explain(op, ctx.Err()), a.undo(ctx, t, r))
	}
	return r, nil
}

// attach puts the disk into a free slot. On error nothing of it is attached,
// or the error says what is.
func (a *Appliance) attach(ctx context.Context, op string, d vsphere.FrozenDisk) (attachment, error) {
	if err := a.acquire(ctx); err != nil {
		return attachment{}, vsphere.Explain(op, err)
	}
	t, err := a.attachLocked(ctx, op, d)
	a.release()
	if t.mark.File == "" {
		return t, err
	}
	if err == nil && ctx.Err() != nil {
		err = vsphere.Explain(op, ctx.Err())
	}
	if err != nil {
		return attachment{}, errors.Join(err, a.undo(ctx, t, nil))
	}
	return t, nil
}

// attachLocked returns an attachment with a mark as soon as there may be one.
func (a *Appliance) attachLocked(ctx context.Context, op string, d vsphere.FrozenDisk) (attachment, error) {
	var lastSlot slot
	var lastErr error
	m := Mark{Appliance: d.Appliance, Cycle: d.Cycle, VM: d.VM.ID.Moref, Disk: d.Disk.ID, File: d.Disk.File}
	for range conflicts {
		h, err := a.fetch(ctx)
		if err != nil {
			return attachment{}, vsphere.Explain(op, err)
		}
		if err := h.checkSelf(op); err != nil {
			return attachment{}, err
		}
		if err := h.checkSource(op, a.self, d, a.cfg.AllowNFSStun); err != nil {
			return attachment{}, err
		}
		s, ok := h.freeSlot()
		switch {
		case !ok:
			return attachment{}, h.full(op)
		case lastErr != nil && s == lastSlot: // it was refused for another reason than being taken
			return attachment{}, vsphere.Explain(op, lastErr)
		}
		t := attachment{slot: s, mark: m, want: want{
			wwid: wwidOf(d.Disk.ID.UUID), unit: s.unit, size: d.Disk.Size, pci: a.guest.pciAddress(h.buses[s.controller].pciSlot)}}
		if err := a.guest.isUnseen(op, t.want); err != nil {
			return attachment{}, err
		}
		a.setLive(s, true)
		err = a.reconfigure(ctx, attachSpec(h.version, s, m))
		if err == nil || vsphere.IsLost(err) { // whether a lost one had its effect, confirm sees
			return t, a.confirm(ctx, op, t, err)
		}
		a.setLive(s, false)
		switch {
		case isConflict(err):
		case fault.Is(err, &types.InvalidDeviceSpec{}): // how a slot that was taken since is refused, too
			lastSlot, lastErr = s, err
		default:
			return attachment{}, vsphere.Explain(op, err)
		}
	}
	return attachment{}, transfer.Fail(transfer.Retry, op, errors.New("the appliance's configuration keeps changing"), "Look in vCenter at who reconfigures the appliance.")
}

// reconfigure runs one ReconfigVM_Task to its end, whatever becomes of ctx: a
// lost answer could leave a disk.
func (a *Appliance) reconfigure(ctx context.Context, spec types.VirtualMachineConfigSpec) error {
	own, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timing.Undo)
	defer cancel()
	return a.c.WhileBusy(ctx, func() error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		res, err := methods.ReconfigVM_Task(own, a.c.VIM(), &types.ReconfigVM_Task{This: a.vm, Spec: spec})
		if err != nil {
			return err
		}
		_, err = a.c.Await(own, res.Returnval)
		return err
	})
}

// confirm looks at what hangs in the slot now: it must be our file with the
// UUID of the source, or the guest would be asked for another disk. lost is
// how the answer to the change got lost, if it did.
func (a *Appliance) confirm(ctx context.Context, op string, t attachment, lost error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timing.Undo)
	defer cancel()
	if lost != nil {
		if err := a.c.UntilQuiet(ctx, a.vm); err != nil {
			return vsphere.Explain(op, err)
		}
	}
	h, err := a.fetch(ctx)
	if err != nil {
		return vsphere.Explain(op, err)
	}
	return h.verify(op, t, lost)
}

// verify is the pure part of confirm.
func (h *hardware) verify(op string, t attachment, lost error) error {
	got, ok := h.diskAt(t.slot)
	switch {
	case lost != nil && (!ok || h.marks[t.slot] != t.mark):
		return vsphere.Explain(op, lost)
	case !ok || h.marks[t.slot] != t.mark:
		return transfer.Fail(transfer.Retry, op, fmt.Errorf("there is no disk with our mark at %v", t.slot), "Look in vCenter at the tasks of the appliance.")
	case got.file != t.mark.File:
		return transfer.Fail(transfer.Retry, op, fmt.Errorf("at %v there is %s instead of %s", t.slot, got.file, t.mark.File), "")
	case got.uuid != strings.ToLower(t.mark.Disk.UUID):
		return transfer.Fail(transfer.Permanent, op, fmt.Errorf("%s has the UUID %s, the VM's disk %s", got.file, got.uuid, t.mark.Disk.UUID), "")
	}
	return nil
}

// undo takes an attachment back whose Open did not come to its end.
func (a *Appliance) undo(ctx context.Context, t attachment, r *reader) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.Timing.Undo)
	defer cancel()
	if r != nil {
		return r.Close(ctx)
	}
	return a.letGo(ctx, t)
}

// openDevice awaits the disk in the guest and opens it.
func (a *Appliance) openDevice(ctx context.Context, op string, t attachment) (*reader, error) {
	name, err := a.guest.await(ctx, op, t.want)
	if err != nil {
		return nil, err
	}
	d, err := openDevice(a.guest.node(name))
	if err == nil {
		if size, sizeErr := d.size(); sizeErr != nil || size != t.want.size {
			err = errors.Join(sizeErr, fmt.Errorf("%s has %d bytes, the frozen disk %d", name, size, t.want.size))
		} else if again, ok := a.guest.look(name); !ok || !t.want.is(again) {
			err = fmt.Errorf("%s became another disk while it was opened", name)
		}
		if err != nil {
			_ = d.close() // nothing was written
		}
	}
	if err != nil {
		return nil, transfer.Fail(transfer.Retry, op, fmt.Errorf("open the device: %w", err), "The appliance needs to run as root, or with access to its disks.")
	}
	return &reader{a: a, at: t, op: op, device: d}, nil
}
