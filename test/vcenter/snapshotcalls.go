package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// The SOAP side of snapshots: each call starts a task.

func (m *machine) startSnapshot(ctx *simulator.Context, name, description string, quiesce bool) types.ManagedObjectReference {
	return m.vm.start(ctx, "createSnapshot", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		ref, f := m.vm.createSnapshot(name, description, quiesce && !lie(m.rule, "quiesce-fallback"))
		if f != nil {
			return nil, f
		}
		return ref, nil
	})
}

// CreateSnapshotTask is CreateSnapshot_Task.
func (m *machine) CreateSnapshotTask(ctx *simulator.Context, q *types.CreateSnapshot_Task) soap.HasFault {
	ref := m.startSnapshot(ctx, q.Name, q.Description, q.Quiesce)
	return &methods.CreateSnapshot_TaskBody{Res: &types.CreateSnapshot_TaskResponse{Returnval: ref}}
}

// CreateSnapshotExTask is CreateSnapshotEx_Task.
func (m *machine) CreateSnapshotExTask(ctx *simulator.Context, q *types.CreateSnapshotEx_Task) soap.HasFault {
	ref := m.startSnapshot(ctx, q.Name, q.Description, q.QuiesceSpec != nil)
	return &methods.CreateSnapshotEx_TaskBody{Res: &types.CreateSnapshotEx_TaskResponse{Returnval: ref}}
}

// RemoveAllSnapshotsTask is RemoveAllSnapshots_Task.
func (m *machine) RemoveAllSnapshotsTask(ctx *simulator.Context, q *types.RemoveAllSnapshots_Task) soap.HasFault {
	ref := m.vm.start(ctx, "removeAllSnapshots", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		m.vm.v.mu.Lock()
		all := allSnapshots(m.vm.roots)
		m.vm.v.mu.Unlock()
		return nil, m.vm.removeSnapshots(all, q.Consolidate == nil || *q.Consolidate)
	})
	return &methods.RemoveAllSnapshots_TaskBody{Res: &types.RemoveAllSnapshots_TaskResponse{Returnval: ref}}
}

// RevertToCurrentSnapshotTask is RevertToCurrentSnapshot_Task.
func (m *machine) RevertToCurrentSnapshotTask(ctx *simulator.Context, _ *types.RevertToCurrentSnapshot_Task) soap.HasFault {
	ref := m.vm.start(ctx, "revertToCurrentSnapshot", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		m.vm.v.mu.Lock()
		cur := m.vm.current
		m.vm.v.mu.Unlock()
		if cur == nil {
			return nil, &types.NotFound{}
		}
		return nil, m.vm.revert(cur, false)
	})
	return &methods.RevertToCurrentSnapshot_TaskBody{Res: &types.RevertToCurrentSnapshot_TaskResponse{Returnval: ref}}
}

// ConsolidateVMDisksTask is ConsolidateVMDisks_Task.
func (m *machine) ConsolidateVMDisksTask(ctx *simulator.Context, _ *types.ConsolidateVMDisks_Task) soap.HasFault {
	ref := m.vm.start(ctx, "consolidateDisks", m.rule, func() (types.AnyType, types.BaseMethodFault) {
		return nil, m.vm.consolidate()
	})
	return &methods.ConsolidateVMDisks_TaskBody{Res: &types.ConsolidateVMDisks_TaskResponse{Returnval: ref}}
}

// RemoveSnapshotTask is RemoveSnapshot_Task.
func (s *snapshotNode) RemoveSnapshotTask(ctx *simulator.Context, q *types.RemoveSnapshot_Task) soap.HasFault {
	vm := s.snap.vm
	ref := vm.start(ctx, "removeSnapshot", s.rule, func() (types.AnyType, types.BaseMethodFault) {
		if vm.findSnapshot(s.snap.ref.Value) == nil {
			return nil, &types.ManagedObjectNotFound{Obj: s.snap.ref}
		}
		gone := []*snapshot{s.snap}
		if q.RemoveChildren {
			vm.v.mu.Lock()
			gone = append(gone, allSnapshots(s.snap.children)...)
			vm.v.mu.Unlock()
		}
		merge := (q.Consolidate == nil || *q.Consolidate) && !lie(s.rule, "consolidation-needed")
		return nil, vm.removeSnapshots(gone, merge)
	})
	return &methods.RemoveSnapshot_TaskBody{Res: &types.RemoveSnapshot_TaskResponse{Returnval: ref}}
}

// RevertToSnapshotTask is RevertToSnapshot_Task.
func (s *snapshotNode) RevertToSnapshotTask(ctx *simulator.Context, _ *types.RevertToSnapshot_Task) soap.HasFault {
	vm := s.snap.vm
	ref := vm.start(ctx, "revertToSnapshot", s.rule, func() (types.AnyType, types.BaseMethodFault) {
		if vm.findSnapshot(s.snap.ref.Value) == nil {
			return nil, &types.ManagedObjectNotFound{Obj: s.snap.ref}
		}
		return nil, vm.revert(s.snap, lie(s.rule, "keep-change-ids"))
	})
	return &methods.RevertToSnapshot_TaskBody{Res: &types.RevertToSnapshot_TaskResponse{Returnval: ref}}
}

// RenameSnapshot changes name and description.
func (s *snapshotNode) RenameSnapshot(_ *simulator.Context, q *types.RenameSnapshot) soap.HasFault {
	v := s.snap.vm.v
	v.mu.Lock()
	if q.Name != "" {
		s.snap.name = q.Name
	}
	if q.Description != "" {
		s.snap.description = q.Description
	}
	v.mu.Unlock()
	v.later(s.snap.vm.publish)
	return &methods.RenameSnapshotBody{Res: &types.RenameSnapshotResponse{}}
}
