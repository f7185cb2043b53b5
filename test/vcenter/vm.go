package vcenter

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

// VM is one virtual machine: vcsim's object plus disks that hold data. Its
// methods are the hands of a user or another tool: they do what a task does,
// at once and without a session.
type VM struct {
	v    *VCenter
	spec VMSpec
	ref  types.ManagedObjectReference

	instanceUUID, biosUUID string

	// The rest is guarded by v.mu; who writes it holds v.ops too.
	disks         map[int32]*Disk
	gone          []*Disk // left the VM, and a snapshot holds them
	swaps         int     // disks replaced
	powered       bool
	enableUUID    bool // disk.EnableUUID as of the last power-on
	cbt           bool // config.changeTrackingEnabled
	cbtLossy      bool // was switched on beside a snapshot
	roots         []*snapshot
	current       *snapshot
	consolidation bool // runtime.consolidationNeeded
	busy          *types.ManagedObjectReference
	nextID        int32
	crashed       bool
	disabled      []string // methods

	suspended bool // and not powered
	tools     Tools
	hooks     GuestHooks
	ending    context.CancelFunc // of the shutdown under way; nil: there is none
	question  *types.VirtualMachineQuestionInfo
	answered  chan struct{}                     // closes with the answer to question
	asks      *types.VirtualMachineQuestionInfo // at the next power-on
}

// Ref is the managed object reference.
func (vm *VM) Ref() types.ManagedObjectReference { return vm.ref }

// Moref is the value of the reference, "vm-42".
func (vm *VM) Moref() string { return vm.ref.Value }

// InstanceUUID is config.instanceUuid, unique within this vCenter.
func (vm *VM) InstanceUUID() string { return vm.instanceUUID }

// BIOSUUID is config.uuid, which clones share.
func (vm *VM) BIOSUUID() string { return vm.biosUUID }

// Name is the name the VM was made with.
func (vm *VM) Name() string { return vm.spec.Name }

// PoweredOn reports the power state.
func (vm *VM) PoweredOn() bool {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	return vm.powered
}

// Disks returns the VM's own disks by device key; what is hot-added to it is
// not among them.
func (vm *VM) Disks() []*Disk {
	vm.v.mu.Lock()
	defer vm.v.mu.Unlock()
	return vm.diskList()
}

// diskList is Disks under v.mu.
func (vm *VM) diskList() []*Disk {
	return slices.SortedFunc(maps.Values(vm.disks), func(a, b *Disk) int { return int(a.key - b.key) })
}

// AddVM makes a VM, with its disks on disk, and powers it on.
func (v *VCenter) AddVM(spec VMSpec) (*VM, error) {
	if err := spec.complete(v.opts); err != nil {
		return nil, err
	}
	v.ops.Lock()
	defer v.ops.Unlock()
	vm := &VM{v: v, spec: spec, tools: spec.Tools, disks: map[int32]*Disk{}, instanceUUID: "500e" + uuid.NewString()[4:], biosUUID: spec.BIOSUUID}
	setDefault(&vm.biosUUID, "420e"+uuid.NewString()[4:])
	if err := vm.create(); err != nil {
		return nil, fmt.Errorf("add VM %s: %w", spec.Name, err)
	}
	if err := vm.addHardware(); err != nil {
		return nil, fmt.Errorf("add VM %s: %w", spec.Name, err)
	}
	v.mu.Lock()
	v.vms[vm.ref.Value] = vm
	vm.cbt = spec.CBT
	v.mu.Unlock()
	if spec.CBT {
		vm.stunTracking()
	}
	vm.publishConfig()
	vm.publish()
	vm.publishGuest()
	if !spec.PoweredOff {
		if f := vm.powerOn(); f != nil {
			return nil, fmt.Errorf("power on VM %s: %T", spec.Name, f)
		}
		vm.setBootTime(time.Now().Add(-bootedLongAgo))
	}
	return vm, nil
}

// create makes the VM without disks in vcsim.
func (vm *VM) create() error {
	v, s := vm.v, vm.spec
	if v.stores[s.Datastore] == nil || s.Host < 0 || s.Host >= len(v.hosts) {
		return fmt.Errorf("no datastore %q or no host %d", s.Datastore, s.Host)
	}
	ctx := v.context()
	folder, err := v.folder(ctx, s.Folder)
	if err != nil {
		return err
	}
	config := types.VirtualMachineConfigSpec{
		Name: s.Name, GuestId: s.GuestID, Uuid: vm.biosUUID, InstanceUuid: vm.instanceUUID,
		Version: fmt.Sprintf("vmx-%02d", s.HardwareVersion), Firmware: s.Firmware,
		NumCPUs: s.CPUs, NumCoresPerSocket: types.NewInt32(1), MemoryMB: s.MemoryMB,
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + s.Datastore + "]"},
	}
	req := &types.CreateVM_Task{This: folder.Self, Config: config, Pool: v.pool, Host: &v.hosts[s.Host]}
	var body *methods.CreateVM_TaskBody
	ctx.WithLock(folder, func() { body = folder.CreateVMTask(ctx, req).(*methods.CreateVM_TaskBody) })
	if body.Fault_ != nil {
		return fmt.Errorf("create: %s", body.Fault_.String)
	}
	task := v.registry().Get(body.Res.Returnval).(*simulator.Task)
	v.finish(task)
	if e := task.Info.Error; e != nil {
		return fmt.Errorf("create: %T", e.Fault)
	}
	vm.ref = task.Info.Result.(types.ManagedObjectReference)
	return nil
}

// folder finds or makes a folder path below the datacenter's vm folder.
func (v *VCenter) folder(ctx *simulator.Context, p string) (*simulator.Folder, error) {
	dc := v.registry().Any("Datacenter").(*simulator.Datacenter)
	f := v.registry().Get(dc.VmFolder).(*simulator.Folder)
	for _, name := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) {
		if e := v.registry().FindByName(name, f.ChildEntity); e != nil {
			f = e.(*simulator.Folder)
			continue
		}
		var res *methods.CreateFolderBody
		ctx.WithLock(f, func() {
			res = f.CreateFolder(ctx, &types.CreateFolder{This: f.Self, Name: name}).(*methods.CreateFolderBody)
		})
		if res.Fault_ != nil {
			return nil, fmt.Errorf("create folder %s: %s", name, res.Fault_.String)
		}
		f = v.registry().Get(res.Res.Returnval).(*simulator.Folder)
	}
	return f, nil
}

// sim is vcsim's object for the VM.
func (vm *VM) sim() *simulator.VirtualMachine {
	m, _ := vm.v.registry().Get(vm.ref).(*simulator.VirtualMachine)
	return m
}

// dir is the VM's directory inside its home datastore.
func (vm *VM) dir() string {
	_, rel := vm.v.storePath(vm.sim().Config.Files.VmPathName)
	return path.Dir(rel)
}

// newDisk makes the base of one disk.
func (vm *VM) newDisk(i int, spec DiskSpec, s slot) (*Disk, error) {
	store := vm.v.stores[spec.Datastore]
	if store == nil {
		return nil, fmt.Errorf("no datastore %q", spec.Datastore)
	}
	name := vm.spec.Name + ".vmdk"
	if i > 0 {
		name = fmt.Sprintf("%s_%d.vmdk", vm.spec.Name, i)
	}
	base, err := newLink(store, path.Join(vm.dir(), name), spec.Size, nil)
	if err != nil {
		return nil, err
	}
	if spec.Thick {
		base.held.addRange(0, (spec.Size+grain-1)/grain)
	}
	return &Disk{
		vm: vm, key: s.key, uuid: spec.UUID, spec: spec, SectorSize: SectorSize,
		label: fmt.Sprintf("Hard disk %d", i+1), controller: s.controller, unit: s.unit,
		objectID: fmt.Sprintf("%s-%d", vm.ref.Value, s.key),
		size:     spec.Size, top: base, links: []*link{base}, frozen: map[string]*frozen{},
	}, nil
}

func (d *Disk) closeFiles() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.links {
		_ = l.file.Close() // a file deleted under us is closed already
	}
	return nil
}

// stunTracking is what a stun does to change tracking: what was asked for
// becomes real.
func (vm *VM) stunTracking() {
	vm.v.mu.Lock()
	disks, on, lossy := vm.diskList(), vm.cbt, vm.cbtLossy
	vm.v.mu.Unlock()
	for _, d := range disks {
		if on {
			d.startTracking(lossy)
		} else {
			d.stopTracking()
		}
	}
	vm.publishTracking(disks)
}

// publishTracking writes the switches that ESXi keeps in the VMX: one for the
// VM and one per disk that is tracked.
func (vm *VM) publishTracking(disks []*Disk) {
	want := map[string]bool{}
	for _, d := range disks {
		d.mu.RLock()
		on := d.track != nil
		d.mu.RUnlock()
		want["ctkEnabled"] = want["ctkEnabled"] || on
		want[d.place()+".ctkEnabled"] = on
	}
	have := vm.ExtraConfig()
	var change []types.BaseOptionValue
	for key, on := range want {
		val := strings.ToUpper(fmt.Sprint(on))
		if have[key] != val && (on || have[key] != "") {
			change = append(change, &types.OptionValue{Key: key, Value: val})
		}
	}
	if len(change) == 0 {
		return
	}
	ctx, m := vm.v.context(), vm.sim()
	ctx.WithLock(m, func() {
		ctx.Update(m, []types.PropertyChange{{Name: "config.extraConfig", Val: mergeOptions(m.Config.ExtraConfig, change)}})
	})
}

// place is where the VMX says a disk hangs: "scsi0:1".
func (d *Disk) place() string {
	switch c := d.controller; {
	case c >= 31000:
		return fmt.Sprintf("nvme%d:%d", c-31000, d.unit)
	case c >= 15000:
		return fmt.Sprintf("sata%d:%d", c-15000, d.unit)
	case c >= 1000:
		return fmt.Sprintf("scsi%d:%d", c-1000, d.unit)
	default:
		return fmt.Sprintf("ide%d:%d", c-200, d.unit)
	}
}
