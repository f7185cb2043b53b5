package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// trackingGrain is the finest that CBT reports, 64 KiB. A page that covers less
// is no honest progress, which bounds the number of pages.
const trackingGrain = 64 << 10

// Areas implements transfer.Frozen. It pages by row 5 of the CBT table.
func (f *frozen) Areas(ctx context.Context, id transfer.DiskID, since transfer.ChangeID, yield func(transfer.Extent) error) error {
	disk, ok := f.state.Disk(id)
	if !ok {
		return transfer.Fail(transfer.Permanent, "query changed areas of disk "+id.String(), errors.New("it is not in the VM snapshot"), "")
	}
	q := areaQuery{f: f, disk: disk, since: since, op: fmt.Sprintf("query changed areas of %s of %s", disk.Label, f.state.VM.Name)}
	if since == transfer.AllAllocated {
		q.op = fmt.Sprintf("query allocated areas of %s of %s", disk.Label, f.state.VM.Name)
	}
	if since == "" {
		return q.lost(errors.New("there is no change ID to ask for"))
	}
	return q.run(ctx, transfer.CheckAreas(disk.Size, yield))
}

type areaQuery struct {
	f     *frozen
	disk  transfer.Disk
	since transfer.ChangeID
	op    string
}

func (q *areaQuery) run(ctx context.Context, yield func(transfer.Extent) error) error {
	most := q.disk.Size/trackingGrain + 2
	for off, pages := int64(0), int64(0); off < q.disk.Size; pages++ {
		if pages == most {
			return q.lost(fmt.Errorf("no end after %d pages", pages))
		}
		res, err := methods.QueryChangedDiskAreas(ctx, q.f.c.vim, &types.QueryChangedDiskAreas{
			This: q.f.vm, Snapshot: &q.f.snapshot, DeviceKey: q.disk.ID.Key, StartOffset: off, ChangeId: string(q.since)})
		if err != nil {
			return q.explain(err)
		}
		page := transfer.Extent{Offset: res.Returnval.StartOffset, Length: res.Returnval.Length}
		if err := q.checkPage(off, page); err != nil {
			return err
		}
		for _, a := range res.Returnval.ChangedArea {
			e := transfer.Extent{Offset: a.Start, Length: a.Length}
			if e.Offset < page.Offset || e.Length > page.End()-e.Offset {
				return q.lost(fmt.Errorf("area %v is outside its page %v", e, page))
			}
			if err := yield(e); err != nil {
				return err
			}
		}
		off = page.End() // a page without areas says that nothing changed in it
	}
	return nil
}

// checkPage refuses pages that do not join, do not get on, or leave the disk.
func (q *areaQuery) checkPage(off int64, page transfer.Extent) error {
	switch {
	case page.Offset != off:
		return q.lost(fmt.Errorf("asked from %d, the page begins at %d", off, page.Offset))
	case page.Length <= 0:
		return q.lost(fmt.Errorf("the page at %d covers %d bytes", off, page.Length))
	case page.Length > q.disk.Size-page.Offset:
		return q.lost(fmt.Errorf("page %v is not inside the disk of %d bytes", page, q.disk.Size))
	}
	return nil
}

func (q *areaQuery) lost(err error) error {
	return transfer.Fail(transfer.BaselineLost, q.op, err, "")
}

// explain tells a change ID that does not serve (rows 4, 6 and 9) from a call
// that failed for other reasons.
func (q *areaQuery) explain(err error) error {
	explained := q.f.explain(q.op, err)
	var argument *types.InvalidArgument
	_, isArgument := fault.As(err, &argument)
	var file *types.FileFault
	_, isFile := fault.As(err, &file)
	switch {
	case !hasFault(err):
		return explained
	case isArgument && argument.InvalidProperty == "deviceKey":
		return explained
	case isFile, isArgument:
		return q.lost(fmt.Errorf("vSphere does not accept the change ID %q: %w", q.since, errors.Unwrap(explained)))
	case q.since == transfer.AllAllocated && !isRefusal(err):
		return q.lost(fmt.Errorf("vSphere cannot list allocated areas here: %w", errors.Unwrap(explained)))
	}
	return explained
}

// isRefusal: the fault is about the caller, the objects or the moment, and not
// about what was asked.
func isRefusal(err error) bool {
	for _, f := range []types.BaseMethodFault{
		&types.NoPermission{}, &types.NotAuthenticated{}, &types.InvalidLogin{}, &types.ManagedObjectNotFound{}, &types.MethodDisabled{},
		&types.TaskInProgress{}, &types.HostNotConnected{}, &types.HostCommunication{}, &types.HostNotReachable{},
	} {
		if fault.Is(err, f) {
			return true
		}
	}
	return false
}
