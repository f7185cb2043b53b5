package vcenter

import (
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
)

// FleetSpec says what a fleet of VMs is like.
type FleetSpec struct {
	VMs int
	// Folders and Pools, "folder-N" and "pool-N", are filled by turns; 0: none.
	Folders, Pools int
	// Spec is the i-th VM; nil gives "vmNNNN" with one small disk. Its Host and
	// Folder are filled in by turns where they are zero, and it is powered off.
	Spec func(i int) VMSpec
}

// AddFleet makes many VMs, by turns on all hosts. One takes a few milliseconds.
func (v *VCenter) AddFleet(f FleetSpec) ([]*VM, error) {
	if f.Spec == nil {
		f.Spec = func(i int) VMSpec {
			return VMSpec{Name: fmt.Sprintf("vm%04d", i), Disks: []DiskSpec{{Size: 1 << 20}}}
		}
	}
	vms := make([]*VM, 0, f.VMs)
	for i := range f.VMs {
		spec := f.Spec(i)
		spec.PoweredOff = true
		if spec.Host == 0 {
			spec.Host = i % len(v.hosts)
		}
		if spec.Folder == "" && f.Folders > 0 {
			spec.Folder = fmt.Sprintf("folder-%d", i%f.Folders)
		}
		vm, err := v.AddVM(spec)
		if err != nil {
			return nil, err
		}
		if f.Pools > 0 {
			if err := vm.SetPool(fmt.Sprintf("pool-%d", i%f.Pools)); err != nil {
				return nil, err
			}
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

// Mount leaves a datastore mounted on these hosts alone, indexes as in
// VMSpec.Host. At first every host has every datastore.
func (v *VCenter) Mount(name string, hosts ...int) error {
	on := map[types.ManagedObjectReference]bool{}
	for _, i := range hosts {
		if i < 0 || i >= len(v.hosts) {
			return fmt.Errorf("mount datastore %s: there is no host %d", name, i)
		}
		on[v.hosts[i]] = true
	}
	for _, h := range v.hosts {
		if on[h] {
			continue
		}
		if err := v.HideDatastore(name, h); err != nil {
			return err
		}
	}
	return nil
}

// finish waits for a task of vcsim's, which takes a millisecond; vcsim's own wait
// looks every ten.
func (v *VCenter) finish(t *simulator.Task) {
	ctx := v.context()
	for over := false; !over; {
		ctx.WithLock(t, func() {
			over = t.Info.State == types.TaskInfoStateSuccess || t.Info.State == types.TaskInfoStateError
		})
		if !over {
			time.Sleep(100 * time.Microsecond)
		}
	}
}
