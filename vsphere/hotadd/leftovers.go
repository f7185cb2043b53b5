package hotadd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// Leftovers is the vSphere side of a transfer.Reaper.
type Leftovers struct {
	Client *vsphere.Client
	// Appliance that this program runs in; nil where it runs on none. Its disks
	// are let go by its guest first, those of other VMs by vCenter alone.
	Appliance *Appliance
}

var _ transfer.ReapSource = Leftovers{}

// Snapshots implements transfer.ReapSource.
func (l Leftovers) Snapshots(ctx context.Context, vms []transfer.VMID) ([]transfer.MarkedSnapshot, error) {
	return l.Client.Leftovers(ctx, vms)
}

// Remove implements transfer.ReapSource.
func (l Leftovers) Remove(ctx context.Context, s transfer.MarkedSnapshot) error {
	return l.Client.RemoveOurs(ctx, s.VM, vsphere.OwnSnapshot{Moref: s.Snapshot, Name: s.Name, Appliance: s.Appliance, Cycle: s.Cycle, Created: s.Created})
}

// Disks implements transfer.ReapSource: one call for the appliance, three more
// for all VMs.
func (l Leftovers) Disks(ctx context.Context, everywhere bool) ([]transfer.MarkedDisk, error) {
	var all []transfer.MarkedDisk
	self := ""
	if l.Appliance != nil {
		self = l.Appliance.vm.Value
		attached, err := l.Appliance.Attached(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range attached {
			all = append(all, l.marked(self, a.Mark, a.Slot, a.Live))
		}
	}
	if !everywhere {
		return all, nil
	}
	err := l.Client.EachExtraConfig(ctx, func(moref string, options []types.BaseOptionValue) {
		if moref == self {
			return
		}
		for _, o := range options {
			v := o.GetOptionValue()
			controller, unit, m, ok := readMark(strings.ToLower(v.Key), fmt.Sprint(v.Value))
			if ok {
				all = append(all, l.marked(moref, m, place(controller, unit), false))
			}
		}
	})
	slices.SortFunc(all, func(a, b transfer.MarkedDisk) int {
		return cmp.Or(cmp.Compare(a.Holder, b.Holder), cmp.Compare(a.Slot, b.Slot))
	})
	return all, err
}

// place names a slot of a VM of which only the marks were read.
func place(controller, unit int32) string { return fmt.Sprintf("%d:%d", controller, unit) }

func (l Leftovers) marked(holder string, m Mark, slot string, live bool) transfer.MarkedDisk {
	return transfer.MarkedDisk{
		VM: transfer.VMID{VCenter: l.Client.ID(), Moref: m.VM}, Disk: m.Disk, File: m.File,
		Holder: holder, Slot: slot, Appliance: m.Appliance, Cycle: m.Cycle, Live: live,
	}
}

// Detach implements transfer.ReapSource. It looks at the marks once more; a disk
// that is gone, or has another mark by now, is none of this one's business.
func (l Leftovers) Detach(ctx context.Context, d transfer.MarkedDisk) error {
	if l.Appliance != nil && d.Holder == l.Appliance.vm.Value {
		attached, err := l.Appliance.Attached(ctx)
		if err != nil {
			return err
		}
		for _, a := range attached {
			if a.Slot == d.Slot && l.marked(d.Holder, a.Mark, a.Slot, a.Live) == d {
				return l.Appliance.Detach(ctx, a)
			}
		}
		return nil
	}
	return l.detachFrom(ctx, d)
}

// detachFrom takes a disk off another VM than the one we run in. Nobody there
// lets go of the device first: it is the VM of an appliance that is dead, or
// that was this one before.
func (l Leftovers) detachFrom(ctx context.Context, d transfer.MarkedDisk) error {
	op := fmt.Sprintf("detach %s from VM %s", d.File, d.Holder)
	other := &Appliance{c: l.Client, vm: types.ManagedObjectReference{Type: "VirtualMachine", Value: d.Holder},
		lock: make(chan struct{}, 1), cfg: Config{Timing: Timing{}.withDefaults()}}
	h, err := other.fetch(ctx)
	if err != nil {
		return vsphere.Explain(op, err)
	}
	for s, m := range h.marks {
		if place(s.controller, s.unit) == d.Slot && l.marked(d.Holder, m, d.Slot, false) == d {
			err := other.remove(ctx, op, attachment{slot: s, mark: m})
			if isForeign(err) {
				return errors.Join(err, fmt.Errorf("its mark at %s stays until somebody clears it", d.Slot))
			}
			return err
		}
	}
	return nil
}
