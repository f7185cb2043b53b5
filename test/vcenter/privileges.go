package vcenter

import (
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// need is one privilege on one object.
type need struct {
	privilege string
	on        types.ManagedObjectReference
}

// privileges are what a call needs on the object it is made on, from the API
// reference of vSphere 8.
var privileges = map[string]string{
	"CreateSnapshot_Task":          "VirtualMachine.State.CreateSnapshot",
	"CreateSnapshotEx_Task":        "VirtualMachine.State.CreateSnapshot",
	"RemoveSnapshot_Task":          "VirtualMachine.State.RemoveSnapshot",
	"RemoveAllSnapshots_Task":      "VirtualMachine.State.RemoveSnapshot",
	"ConsolidateVMDisks_Task":      "VirtualMachine.State.RemoveSnapshot",
	"RevertToSnapshot_Task":        "VirtualMachine.State.RevertToSnapshot",
	"RevertToCurrentSnapshot_Task": "VirtualMachine.State.RevertToSnapshot",
	"QueryChangedDiskAreas":        "VirtualMachine.Provisioning.DiskRandomRead",
	"ExportSnapshot":               "VApp.Export",
	"ExportVm":                     "VApp.Export",
	"PowerOnVM_Task":               "VirtualMachine.Interact.PowerOn",
	"PowerOffVM_Task":              "VirtualMachine.Interact.PowerOff",
	"ShutdownGuest":                "VirtualMachine.Interact.PowerOff",
	"ResetVM_Task":                 "VirtualMachine.Interact.Reset",
	"Destroy_Task":                 "VirtualMachine.Inventory.Delete",
	"RelocateVM_Task":              "Resource.HotMigrate",
}

// Deny takes a privilege away: on the entities and all below them, or, with
// none given, everywhere.
func (v *VCenter) Deny(privilege string, entities ...types.ManagedObjectReference) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(entities) == 0 {
		v.denied[privilege] = nil
		return
	}
	if old, ok := v.denied[privilege]; ok && old == nil {
		return // denied everywhere already
	}
	v.denied[privilege] = append(v.denied[privilege], entities...)
}

// Allow gives a privilege back: on the entities, or everywhere.
func (v *VCenter) Allow(privilege string, entities ...types.ManagedObjectReference) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(entities) == 0 {
		delete(v.denied, privilege)
		return
	}
	left := slices.DeleteFunc(v.denied[privilege], func(r types.ManagedObjectReference) bool { return slices.Contains(entities, r) })
	if len(left) == 0 {
		delete(v.denied, privilege)
		return
	}
	v.denied[privilege] = left
}

// granted reports whether the user has a privilege on an object.
func (v *VCenter) granted(privilege string, on types.ManagedObjectReference) bool {
	v.mu.Lock()
	denied, ok := v.denied[privilege]
	denied = slices.Clone(denied)
	v.mu.Unlock()
	if !ok {
		return true
	}
	if len(denied) == 0 {
		return false
	}
	for ref := &on; ref != nil; {
		if slices.Contains(denied, *ref) {
			return false
		}
		e, ok := v.registry().Get(*ref).(mo.Entity)
		if !ok {
			return true
		}
		ref = e.Entity().Parent
	}
	return true
}

// permit checks what a call needs, in the order vCenter would ask.
func (v *VCenter) permit(m *simulator.Method) types.BaseMethodFault {
	for _, n := range v.needs(m) {
		if !v.granted(n.privilege, n.on) {
			return noPermission(n.on, n.privilege)
		}
	}
	return nil
}

// DisableMethods makes calls on the VM fail with MethodDisabled until
// EnableMethods, as a backup tool that crashed leaves them behind; vcsim has
// the check but spells the names of tasks differently.
func (vm *VM) DisableMethods(methods ...string) { vm.setDisabled(methods) }

// EnableMethods lets every method be called again.
func (vm *VM) EnableMethods() { vm.setDisabled(nil) }

func (vm *VM) setDisabled(methods []string) {
	vm.v.ops.Lock()
	defer vm.v.ops.Unlock()
	vm.v.mu.Lock()
	vm.disabled = methods
	vm.v.mu.Unlock()
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() { ctx.Update(m, []types.PropertyChange{{Name: "disabledMethod", Val: methods}}) })
}

func (v *VCenter) disabled(m *simulator.Method) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	vm := v.vms[m.This.Value]
	return vm != nil && slices.Contains(vm.disabled, m.Name)
}

func (v *VCenter) needs(m *simulator.Method) []need {
	on := v.subject(m.This)
	var list []need
	if p := privileges[m.Name]; p != "" {
		list = append(list, need{p, on})
	}
	switch req := m.Body.(type) {
	case *types.CreateSnapshot_Task, *types.CreateSnapshotEx_Task:
		for _, s := range v.storesOf(on) {
			list = append(list, need{"Datastore.AllocateSpace", s})
		}
	case *types.SearchDatastore_Task:
		list = v.browseNeeds(req.DatastorePath)
	case *types.SearchDatastoreSubFolders_Task:
		list = v.browseNeeds(req.DatastorePath)
	case *types.ReconfigVM_Task:
		list = append(list, v.reconfigNeeds(on, req.Spec)...)
	}
	return list
}

func (v *VCenter) browseNeeds(p string) []need {
	s, _ := v.storePath(p)
	if s == nil {
		return nil
	}
	return []need{{"Datastore.Browse", s.ref}}
}

// subject is the object whose permissions count: a snapshot has its VM's.
func (v *VCenter) subject(ref types.ManagedObjectReference) types.ManagedObjectReference {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.snapshots[ref.Value]; s != nil {
		return s.vm.ref
	}
	return ref
}

func (v *VCenter) storesOf(vm types.ManagedObjectReference) (refs []types.ManagedObjectReference) {
	v.mu.Lock()
	m := v.vms[vm.Value]
	v.mu.Unlock()
	if m == nil {
		return nil
	}
	for _, d := range m.Disks() {
		d.mu.RLock()
		ref := d.top.store.ref
		d.mu.RUnlock()
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs
}

// reconfigNeeds goes by what the spec changes.
func (v *VCenter) reconfigNeeds(on types.ManagedObjectReference, spec types.VirtualMachineConfigSpec) (list []need) {
	add := func(p string) { list = append(list, need{"VirtualMachine.Config." + p, on}) }
	if spec.ChangeTrackingEnabled != nil {
		add("ChangeTracking")
	}
	if len(spec.ExtraConfig) > 0 {
		add("AdvancedConfig")
	}
	if spec.Name != "" {
		add("Rename")
	}
	if spec.Annotation != "" {
		add("Annotation")
	}
	if spec.NumCPUs != 0 {
		add("CPUCount")
	}
	if spec.MemoryMB != 0 {
		add("Memory")
	}
	for _, c := range spec.DeviceChange {
		change := c.GetVirtualDeviceConfigSpec()
		disk, isDisk := change.Device.(*types.VirtualDisk)
		switch {
		case change.Operation == types.VirtualDeviceConfigSpecOperationEdit:
			add("EditDevice")
		case !isDisk:
			add("AddRemoveDevice")
		case change.Operation == types.VirtualDeviceConfigSpecOperationRemove:
			add("RemoveDisk")
		case change.FileOperation != "":
			add("AddNewDisk")
		default:
			add("AddExistingDisk")
			file, _, _ := fileName(disk.Backing)
			if s, _ := v.storePath(file); s != nil {
				list = append(list, need{"Datastore.FileManagement", s.ref})
			}
		}
		if isDisk && (disk.Shares != nil || disk.StorageIOAllocation != nil) {
			add("Resource")
		}
	}
	return list
}

// authorization answers questions about privileges as Deny left them. Nothing
// in vcsim asserts its type, so it simply takes the original's place.
type authorization struct {
	*simulator.AuthorizationManager
	v *VCenter
}

func (v *VCenter) wrapAuthorization() {
	ref := *v.model.ServiceContent.AuthorizationManager
	v.registry().Put(&authorization{v.registry().Get(ref).(*simulator.AuthorizationManager), v})
}

func (a *authorization) entities(refs []types.ManagedObjectReference, ids []string) (out []types.EntityPrivilege) {
	for _, e := range refs {
		p := types.EntityPrivilege{Entity: e}
		for _, id := range ids {
			p.PrivAvailability = append(p.PrivAvailability, types.PrivilegeAvailability{PrivId: id, IsGranted: a.v.granted(id, e)})
		}
		out = append(out, p)
	}
	return out
}

// HasPrivilegeOnEntities answers for a session.
func (a *authorization) HasPrivilegeOnEntities(q *types.HasPrivilegeOnEntities) soap.HasFault {
	return &methods.HasPrivilegeOnEntitiesBody{Res: &types.HasPrivilegeOnEntitiesResponse{Returnval: a.entities(q.Entity, q.PrivId)}}
}

// HasUserPrivilegeOnEntities answers for a user by name.
func (a *authorization) HasUserPrivilegeOnEntities(q *types.HasUserPrivilegeOnEntities) soap.HasFault {
	return &methods.HasUserPrivilegeOnEntitiesBody{Res: &types.HasUserPrivilegeOnEntitiesResponse{Returnval: a.entities(q.Entities, q.PrivId)}}
}

// HasPrivilegeOnEntity is the older form.
func (a *authorization) HasPrivilegeOnEntity(q *types.HasPrivilegeOnEntity) soap.HasFault {
	granted := make([]bool, len(q.PrivId))
	for i, id := range q.PrivId {
		granted[i] = a.v.granted(id, q.Entity)
	}
	return &methods.HasPrivilegeOnEntityBody{Res: &types.HasPrivilegeOnEntityResponse{Returnval: granted}}
}

// FetchUserPrivilegeOnEntities lists what a user has.
func (a *authorization) FetchUserPrivilegeOnEntities(q *types.FetchUserPrivilegeOnEntities) soap.HasFault {
	body := a.AuthorizationManager.FetchUserPrivilegeOnEntities(q).(*methods.FetchUserPrivilegeOnEntitiesBody)
	for i, r := range body.Res.Returnval {
		left := slices.DeleteFunc(slices.Clone(r.Privileges), func(id string) bool { return !a.v.granted(id, r.Entity) })
		body.Res.Returnval[i].Privileges = left
	}
	return body
}
