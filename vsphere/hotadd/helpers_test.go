package hotadd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

const mib = 1 << 20

var quickVC = vsphere.Timing{
	Call: 10 * time.Second, Outage: 5 * time.Second, RetryFirst: 2 * time.Millisecond, RetryMax: 20 * time.Millisecond,
	Task: 20 * time.Second, Busy: 10 * time.Second, Settle: 200 * time.Millisecond, Cleanup: 20 * time.Second,
}

var quick = hotadd.Timing{
	Appear: 5 * time.Second, Rescan: 200 * time.Millisecond, Vanish: 5 * time.Second, Poll: 2 * time.Millisecond,
	RetryFirst: 5 * time.Millisecond, Undo: 20 * time.Second,
}

// env is a simulated vCenter with an appliance in it.
type env struct {
	*testing.T
	ctx       context.Context
	v         *vcenter.VCenter
	c         *vsphere.Client
	appliance *vcenter.VM
	faults    *fault.Set
}

func start(t *testing.T, change ...func(*vcenter.Options)) *env {
	t.Helper()
	t.Parallel()
	e := bare(t, change...)
	var err error
	if e.appliance, err = e.v.AddAppliance("appliance"); err != nil {
		t.Fatal(err)
	}
	return e
}

// bare has no appliance yet.
func bare(t *testing.T, change ...func(*vcenter.Options)) *env {
	t.Helper()
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
	e := &env{T: t, ctx: ctx, v: v, faults: o.Faults}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, v.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	if e.c, err = vsphere.Dial(ctx, vsphere.Config{URL: v.URL().String(), CACertFiles: ca, Timing: quickVC}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.c.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *env) config() hotadd.Config {
	return hotadd.Config{SysfsDir: e.v.SysfsDir(), DevDir: e.v.DevDir(), Timing: quick}
}

func (e *env) open(cfg ...hotadd.Config) *hotadd.Appliance {
	e.Helper()
	if len(cfg) == 0 {
		cfg = append(cfg, e.config())
	}
	a, err := hotadd.New(e.ctx, e.c, cfg[0])
	if err != nil {
		e.Fatal(err)
	}
	return a
}

func (e *env) addVM(spec vcenter.VMSpec) *vcenter.VM {
	e.Helper()
	vm, err := e.v.AddVM(spec)
	if err != nil {
		e.Fatal(err)
	}
	return vm
}

// vm makes a running VM with disks of these sizes and random content.
func (e *env) vm(name string, sizes ...int64) *vcenter.VM {
	e.Helper()
	spec := vcenter.VMSpec{Name: name, CBT: true}
	for _, s := range sizes {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: s})
	}
	vm := e.addVM(spec)
	for _, d := range vm.Disks() {
		p := make([]byte, d.Size())
		r := rand.NewChaCha8([32]byte{byte(d.Key())})
		_, _ = r.Read(p)
		if _, err := d.WriteAt(p, 0); err != nil {
			e.Fatal(err)
		}
	}
	return vm
}

func (e *env) freeze(vm *vcenter.VM, r vsphere.Reader) transfer.Frozen {
	e.Helper()
	id := transfer.VMID{VCenter: e.v.InstanceUUID(), Moref: vm.Moref()}
	f, err := e.c.Source(id, vsphere.Options{Reader: r}).Freeze(e.ctx,
		transfer.FreezeSpec{Cycle: transfer.NewCycleID(time.Now()), Appliance: "appliance-1", Quiesce: transfer.QuiesceOff})
	if err != nil {
		e.Fatal(err)
	}
	return f
}

func (e *env) openDisk(f transfer.Frozen, i int) transfer.DiskReader {
	e.Helper()
	r, err := f.Open(e.ctx, f.State().VM.Disks[i].ID)
	if err != nil {
		e.Fatal(err)
	}
	return r
}

func (e *env) close(r transfer.DiskReader) {
	e.Helper()
	if err := r.Close(e.ctx); err != nil {
		e.Fatal(err)
	}
}

func (e *env) release(f transfer.Frozen) {
	e.Helper()
	if err := f.Release(e.ctx); err != nil {
		e.Fatal(err)
	}
}

// same compares all of a frozen disk with what the vCenter froze.
func (e *env) same(f transfer.Frozen, i int, r io.ReaderAt) {
	e.Helper()
	d := f.State().VM.Disks[i]
	want, size, err := e.v.Frozen(f.State().Snapshot, d.ID.Key)
	if err != nil {
		e.Fatal(err)
	}
	a, b := aligned(int(size)), make([]byte, size)
	if n, err := r.ReadAt(a, 0); err != nil || n != len(a) {
		e.Fatalf("read %d bytes, %v", n, err)
	}
	if _, err := want.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		e.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		e.Errorf("disk %v differs from what was frozen", d.ID)
	}
}

// aligned is a buffer that O_DIRECT takes.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	skip := page - int(uintptr(unsafe.Pointer(&b[0]))%page)
	return b[skip : skip+n]
}

// clean checks what must hold after every test.
func (e *env) clean() {
	e.Helper()
	s := e.v.State()
	for _, a := range s.Attached {
		e.Errorf("attached still: %+v", a)
	}
	for _, vm := range s.VMs {
		for k := range vm.ExtraConfig {
			if len(k) > 9 && k[:9] == "snapferry" {
				e.Errorf("%s has the mark %s", vm.Name, k)
			}
		}
		if len(vm.Snapshots) > 0 || vm.ConsolidationNeeded {
			e.Errorf("%s has snapshots %v, consolidation needed: %v", vm.Name, vm.Snapshots, vm.ConsolidationNeeded)
		}
	}
	e.unharmed()
}

// unharmed checks what must hold always.
func (e *env) unharmed() {
	e.Helper()
	s := e.v.State()
	for _, vm := range s.VMs {
		if len(vm.Missing) > 0 {
			e.Errorf("%s lacks %v", vm.Name, vm.Missing)
		}
	}
	if len(s.Deleted)+len(s.Crashed)+len(s.Harms)+len(s.Surprises) > 0 {
		e.Errorf("deleted %v, crashed %v, harms %v, surprises %v", s.Deleted, s.Crashed, s.Harms, s.Surprises)
	}
	for _, stun := range s.Stuns {
		if e.appliance != nil && stun.VM == e.appliance.Moref() && stun.What != "powered on" {
			e.Errorf("the appliance was stunned: %s", stun.What)
		}
	}
}
