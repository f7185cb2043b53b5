package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// allocation is how a disk's datastore answers the change ID "*".
type allocation int

// The answers to "*": what is allocated (VMFS), a fault, or the whole disk.
const (
	AllocationSupported allocation = iota
	AllocationUnsupported
	AllocationWholeDisk
)

// SetAllocation says how the disk answers "*" from now on.
func (d *Disk) SetAllocation(a allocation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lie = a
}

// SetEmptyPages puts n pages without areas among the next answers of
// QueryChangedDiskAreas, each covering one grain: legal, and not the end.
func (d *Disk) SetEmptyPages(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.emptyPages = n
}

// QueryChangedDiskAreas answers one page.
func (m *machine) QueryChangedDiskAreas(_ *simulator.Context, q *types.QueryChangedDiskAreas) soap.HasFault {
	info, f := m.changedAreas(q)
	if f != nil {
		return &methods.QueryChangedDiskAreasBody{Fault_: simulator.Fault(describeFault(f), f)}
	}
	return &methods.QueryChangedDiskAreasBody{Res: &types.QueryChangedDiskAreasResponse{Returnval: *info}}
}

func describeFault(f types.BaseMethodFault) string {
	switch f := f.(type) {
	case *types.FileFault:
		return "Error caused by file " + f.File
	case *types.InvalidArgument:
		return "A specified parameter was not correct: " + f.InvalidProperty
	}
	return message(f)
}

func (m *machine) changedAreas(q *types.QueryChangedDiskAreas) (*types.DiskChangeInfo, types.BaseMethodFault) {
	asOf := ""
	if q.Snapshot != nil {
		asOf = q.Snapshot.Value
	}
	d := m.vm.diskAsOf(asOf, q.DeviceKey)
	if d == nil {
		return nil, &types.InvalidArgument{InvalidProperty: "deviceKey"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	at, f := d.position(q.Snapshot)
	if f != nil {
		return nil, f
	}
	if q.StartOffset < 0 || q.StartOffset >= at.size { // also at == capacity, as vSphere
		return nil, &types.InvalidArgument{InvalidProperty: "startOffset"}
	}
	changed, f := d.changed(at, q.ChangeId)
	if f != nil {
		return nil, f
	}
	return d.page(m, changed, at.size, q.StartOffset), nil
}

// position is the end of the question: a snapshot, or now.
func (d *Disk) position(snapshot *types.ManagedObjectReference) (*frozen, types.BaseMethodFault) {
	if snapshot == nil {
		if d.track == nil {
			return &frozen{link: d.top, size: d.size}, nil
		}
		return &frozen{link: d.top, size: d.size, track: d.track, seq: d.track.seq()}, nil
	}
	f := d.frozen[snapshot.Value]
	if f == nil {
		return nil, &types.ManagedObjectNotFound{Obj: *snapshot}
	}
	return f, nil
}

// changed is the set of grains that the answer speaks of.
func (d *Disk) changed(at *frozen, changeID string) (*bitmap, types.BaseMethodFault) {
	file := &types.FileFault{File: at.link.path()}
	if changeID == "*" {
		switch {
		case d.lie == AllocationUnsupported || !d.trackable():
			return nil, file
		case d.lie == AllocationWholeDisk:
			return wholeDisk(at.size), nil
		}
		return at.link.allocated(), nil
	}
	if at.track == nil {
		return nil, file
	}
	changed, ok := at.track.since(changeID, at.seq)
	if !ok {
		return nil, file
	}
	if at.track.lossy {
		changed = everySecond(changed)
	}
	return changed, nil
}

func wholeDisk(size int64) *bitmap {
	b := &bitmap{}
	b.addRange(0, (size+grain-1)/grain)
	return b
}

// everySecond loses half of what is in b, the first grain always.
func everySecond(b *bitmap) *bitmap {
	out, keep := &bitmap{}, false
	for g := b.next(0); g >= 0; g = b.next(g + 1) {
		if keep {
			out.add(g)
		}
		keep = !keep
	}
	return out
}

// page cuts the answer at MaxAreas, and lies if a rule says so.
func (d *Disk) page(m *machine, changed *bitmap, size, start int64) *types.DiskChangeInfo {
	switch {
	case lie(m.rule, "under-report"):
		changed = everySecond(changed)
	case lie(m.rule, "over-report"):
		changed = widen(changed, size)
	case lie(m.rule, "whole-disk"):
		changed = wholeDisk(size)
	}
	if lie(m.rule, "empty-page") || d.emptyPages > 0 {
		d.emptyPages = max(d.emptyPages-1, 0)
		if n := emptyPrefix(changed, size, start); n > 0 {
			return &types.DiskChangeInfo{StartOffset: start, Length: n}
		}
	}
	info := pageOf(changed, size, start, m.vm.v.opts.MaxAreas)
	spoil(m, info, size)
	return info
}

// emptyPrefix is how far no area begins behind start, at most one grain, and
// never all of the rest.
func emptyPrefix(changed *bitmap, size, start int64) int64 {
	next := changed.next(start / grain)
	end := min(start/grain*grain+grain, size)
	if next >= 0 {
		end = min(end, next*grain)
	}
	if end >= size {
		return 0
	}
	return end - start
}

func pageOf(changed *bitmap, size, start int64, most int) *types.DiskChangeInfo {
	info := &types.DiskChangeInfo{StartOffset: start, Length: size - start}
	for g := changed.next(start / grain); g >= 0 && g*grain < size; {
		end := g + 1
		for changed.has(end) {
			end++
		}
		if len(info.ChangedArea) == most {
			last := info.ChangedArea[most-1]
			info.Length = last.Start + last.Length - start
			return info
		}
		from, to := max(g*grain, start), min(end*grain, size)
		info.ChangedArea = append(info.ChangedArea, types.DiskChangeExtent{Start: from, Length: to - from})
		g = changed.next(end)
	}
	return info
}

// widen reports the grain before and behind each changed one too.
func widen(b *bitmap, size int64) *bitmap {
	out, last := &bitmap{}, (size+grain-1)/grain
	for first, end := range b.runs() {
		out.addRange(max(first-1, 0), min(end+1, last))
	}
	return out
}

// spoil makes an answer that no vCenter should give, for readers that must
// refuse it.
func spoil(m *machine, info *types.DiskChangeInfo, size int64) {
	n := len(info.ChangedArea)
	switch {
	case n == 0:
	case lie(m.rule, "unsorted"):
		slices.Reverse(info.ChangedArea)
	case lie(m.rule, "outside"):
		info.ChangedArea[n-1].Length = size
	case lie(m.rule, "gap"):
		info.StartOffset += grain
	}
}
