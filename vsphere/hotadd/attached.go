package hotadd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"snapferry/transfer"
	"snapferry/vsphere"
)

// Attachment is a disk on the appliance that carries our mark.
type Attachment struct {
	Mark
	Slot string // "scsi1:3"
	Live bool   // a reader of this process has it open
	Gone bool   // only the mark is left; Detach clears it

	at attachment
}

// Attached lists the disks on the appliance that carry our mark, of whatever
// cycle, ordered by slot: after a crash, what it left.
func (a *Appliance) Attached(ctx context.Context) ([]Attachment, error) {
	h, err := a.fetch(ctx)
	if err != nil {
		return nil, vsphere.Explain("list attached disks", err)
	}
	var all []Attachment
	for s, m := range h.marks {
		d, there := h.diskAt(s)
		t := attachment{slot: s, mark: m, want: want{wwid: wwidOf(d.uuid), unit: s.unit, pci: a.guest.pciAddress(h.buses[s.controller].pciSlot)}}
		all = append(all, Attachment{Mark: m, Slot: s.String(), Live: a.isLive(s), at: t, Gone: !there})
	}
	slices.SortFunc(all, func(x, y Attachment) int {
		return cmp.Or(cmp.Compare(x.at.slot.controller, y.at.slot.controller), cmp.Compare(x.at.slot.unit, y.at.slot.unit))
	})
	return all, nil
}

// Detach takes one of Attached off the appliance; its files stay. It refuses a
// live one. Whether the cycle of another process is dead the caller must know.
func (a *Appliance) Detach(ctx context.Context, t Attachment) error {
	if a.isLive(t.at.slot) {
		return transfer.Fail(transfer.Permanent, fmt.Sprintf("detach %v", t.at), errors.New("a reader has it open"), "")
	}
	return a.letGo(ctx, t.at)
}
