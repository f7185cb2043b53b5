package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
	"snapferry/vsphere/pages"
)

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
	err := pages.Walk(q.disk.Size, func(from int64) (pages.Page, error) { return q.page(ctx, from) }, yield)
	if broken := new(*pages.Broken); errors.As(err, broken) {
		return q.lost(*broken)
	}
	return err
}

// page asks for one page.
func (q *areaQuery) page(ctx context.Context, from int64) (pages.Page, error) {
	res, err := methods.QueryChangedDiskAreas(ctx, q.f.c.vim, &types.QueryChangedDiskAreas{
		This: q.f.vm, Snapshot: &q.f.snapshot, DeviceKey: q.disk.ID.Key, StartOffset: from, ChangeId: string(q.since)})
	if err != nil {
		return pages.Page{}, q.explain(err)
	}
	p := pages.Page{Extent: transfer.Extent{Offset: res.Returnval.StartOffset, Length: res.Returnval.Length}}
	for _, a := range res.Returnval.ChangedArea {
		p.Areas = append(p.Areas, transfer.Extent{Offset: a.Start, Length: a.Length})
	}
	return p, nil
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
