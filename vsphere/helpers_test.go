package vsphere_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
)

const mib = 1 << 20

// quick are waits that suit a vCenter on loopback.
var quick = vsphere.Timing{
	Call: 10 * time.Second, Outage: 5 * time.Second, RetryFirst: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	Task: 20 * time.Second, Busy: 5 * time.Second, Settle: 200 * time.Millisecond, Cleanup: 20 * time.Second,
}

// env is a simulated vCenter and a client of it.
type env struct {
	*testing.T
	ctx    context.Context
	v      *vcenter.VCenter
	c      *vsphere.Client
	faults *fault.Set
	dir    string
}

func start(t *testing.T, change ...func(*vcenter.Options)) *env {
	t.Helper()
	t.Parallel()
	o := vcenter.Options{Dir: t.TempDir(), Faults: fault.New(1)}
	for _, f := range change {
		f(&o)
	}
	v, err := vcenter.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	t.Cleanup(cancel)
	e := &env{T: t, ctx: ctx, v: v, faults: o.Faults, dir: t.TempDir()}
	if e.c, err = vsphere.Dial(ctx, e.config()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

// config trusts the simulator's authority.
func (e *env) config() vsphere.Config {
	e.Helper()
	ca := filepath.Join(e.dir, "ca.pem")
	if err := os.WriteFile(ca, e.v.CACert(), 0o600); err != nil {
		e.Fatal(err)
	}
	return vsphere.Config{URL: e.v.URL().String(), CACertFiles: ca, Timing: quick}
}

func (e *env) addVM(spec vcenter.VMSpec) *vcenter.VM {
	e.Helper()
	vm, err := e.v.AddVM(spec)
	if err != nil {
		e.Fatal(err)
	}
	return vm
}

// vm makes a VM with CBT and disks of these sizes.
func (e *env) vm(name string, sizes ...int64) *vcenter.VM {
	e.Helper()
	spec := vcenter.VMSpec{Name: name, CBT: true}
	for _, s := range sizes {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: s})
	}
	return e.addVM(spec)
}

func (e *env) id(vm *vcenter.VM) transfer.VMID {
	return transfer.VMID{VCenter: e.v.InstanceUUID(), Moref: vm.Moref()}
}

func (e *env) source(vm *vcenter.VM, o ...vsphere.Options) transfer.Source {
	if len(o) == 0 {
		o = append(o, vsphere.Options{})
	}
	return e.c.Source(e.id(vm), o[0])
}

func spec(q ...transfer.Quiesce) transfer.FreezeSpec {
	s := transfer.FreezeSpec{Cycle: transfer.NewCycleID(time.Now()), Appliance: "appliance-1", Quiesce: transfer.QuiesceOff}
	if len(q) > 0 {
		s.Quiesce = q[0]
	}
	return s
}

func (e *env) freeze(vm *vcenter.VM, q ...transfer.Quiesce) transfer.Frozen {
	e.Helper()
	f, err := e.source(vm).Freeze(e.ctx, spec(q...))
	if err != nil {
		e.Fatal(err)
	}
	return f
}

func (e *env) release(f transfer.Frozen) {
	e.Helper()
	if err := f.Release(e.ctx); err != nil {
		e.Fatal(err)
	}
}

// areas collects what Areas yields.
func (e *env) areas(f transfer.Frozen, disk int, since transfer.ChangeID) ([]transfer.Extent, error) {
	var all []transfer.Extent
	err := f.Areas(e.ctx, f.State().VM.Disks[disk].ID, since, func(x transfer.Extent) error {
		all = append(all, x)
		return nil
	})
	return all, err
}

// clean checks what must hold after every test: no snapshot of ours, no
// consolidation needed, every file there.
func (e *env) clean() {
	e.Helper()
	s := e.v.State()
	for _, vm := range s.VMs {
		for _, snap := range vm.Snapshots {
			if len(snap.Name) > 10 && snap.Name[:10] == vsphere.SnapshotPrefix {
				e.Errorf("%s has snapshot %q", vm.Name, snap.Name)
			}
		}
		if vm.ConsolidationNeeded {
			e.Errorf("%s needs consolidation", vm.Name)
		}
		if len(vm.Missing) > 0 {
			e.Errorf("%s lacks %v", vm.Name, vm.Missing)
		}
	}
	if len(s.Deleted) > 0 || len(s.Harms) > 0 {
		e.Errorf("deleted %v, harms %v", s.Deleted, s.Harms)
	}
}

func write(t testing.TB, d *vcenter.Disk, off int64, n int) {
	t.Helper()
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7+1) | 1
	}
	if _, err := d.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

func sum(calls map[string]int) (n int, text string) {
	for k, v := range calls {
		n += v
		text += fmt.Sprintf(" %s:%d", k, v)
	}
	return n, text
}
