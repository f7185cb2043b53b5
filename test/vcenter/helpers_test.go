package vcenter_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// env is a vCenter and a client that trusts its authority.
type env struct {
	*testing.T
	ctx    context.Context
	v      *vcenter.VCenter
	c      *vim25.Client
	faults *fault.Set
}

func start(t *testing.T, change ...func(*vcenter.Options)) *env {
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
	e.c = e.login()
	return e
}

// login opens a session of its own, with TLS verified against the CA.
func (e *env) login() *vim25.Client {
	e.Helper()
	c, err := e.dial(e.v.URL())
	if err != nil {
		e.Fatal(err)
	}
	return c
}

func (e *env) dial(u *url.URL) (*vim25.Client, error) {
	ca := filepath.Join(e.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, e.v.CACert(), 0o600); err != nil {
		return nil, err
	}
	s := soap.NewClient(u, false)
	if err := s.SetRootCAs(ca); err != nil {
		return nil, err
	}
	c, err := vim25.NewClient(e.ctx, s)
	if err != nil {
		return nil, err
	}
	return c, session.NewManager(c).Login(e.ctx, u.User)
}

func (e *env) addVM(spec vcenter.VMSpec) *vcenter.VM {
	e.Helper()
	vm, err := e.v.AddVM(spec)
	if err != nil {
		e.Fatal(err)
	}
	return vm
}

func (e *env) appliance() *vcenter.VM {
	e.Helper()
	vm, err := e.v.AddAppliance("appliance")
	if err != nil {
		e.Fatal(err)
	}
	return vm
}

func (e *env) obj(vm *vcenter.VM) *object.VirtualMachine {
	return object.NewVirtualMachine(e.c, vm.Ref())
}

func (e *env) wait(task *object.Task, err error) error {
	if err != nil {
		return err
	}
	return task.Wait(e.ctx)
}

func (e *env) must(task *object.Task, err error) {
	e.Helper()
	if err := e.wait(task, err); err != nil {
		e.Fatal(err)
	}
}

// snap takes a snapshot over SOAP and returns its reference.
func (e *env) snap(vm *vcenter.VM, name string) types.ManagedObjectReference {
	e.Helper()
	task, err := e.obj(vm).CreateSnapshot(e.ctx, name, "by test", false, false)
	if err != nil {
		e.Fatal(err)
	}
	info, err := task.WaitForResult(e.ctx, nil)
	if err != nil {
		e.Fatal(err)
	}
	return info.Result.(types.ManagedObjectReference)
}

func (e *env) unsnap(ref types.ManagedObjectReference) {
	e.Helper()
	yes := true
	res, err := methods.RemoveSnapshot_Task(e.ctx, e.c, &types.RemoveSnapshot_Task{This: ref, Consolidate: &yes})
	if err != nil {
		e.Fatal(err)
	}
	e.must(object.NewTask(e.c, res.Returnval), nil)
}

func (e *env) enableCBT(vm *vcenter.VM) {
	e.Helper()
	e.must(e.obj(vm).Reconfigure(e.ctx, types.VirtualMachineConfigSpec{ChangeTrackingEnabled: types.NewBool(true)}))
}

// get retrieves properties of any object.
func get[T any](e *env, ref types.ManagedObjectReference, props ...string) T {
	e.Helper()
	var dst T
	if err := property.DefaultCollector(e.c).RetrieveOne(e.ctx, ref, props, &dst); err != nil {
		e.Fatal(err)
	}
	return dst
}

func (e *env) props(vm *vcenter.VM, props ...string) mo.VirtualMachine {
	e.Helper()
	return get[mo.VirtualMachine](e, vm.Ref(), props...)
}

// frozenDisk is the disk as the snapshot's config lists it.
func (e *env) frozenDisk(snap types.ManagedObjectReference, key int32) *types.VirtualDisk {
	e.Helper()
	s := get[mo.VirtualMachineSnapshot](e, snap, "config.hardware.device")
	vd, ok := object.VirtualDeviceList(s.Config.Hardware.Device).FindByKey(key).(*types.VirtualDisk)
	if !ok {
		e.Fatalf("snapshot %s has no disk %d", snap.Value, key)
	}
	return vd
}

func flat(vd *types.VirtualDisk) *types.VirtualDiskFlatVer2BackingInfo {
	return vd.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
}

func (e *env) changeID(snap types.ManagedObjectReference, key int32) string {
	e.Helper()
	return flat(e.frozenDisk(snap, key)).ChangeId
}

// page is one call of QueryChangedDiskAreas.
func (e *env) page(vm *vcenter.VM, snap types.ManagedObjectReference, key int32, off int64, id string) (types.DiskChangeInfo, error) {
	res, err := methods.QueryChangedDiskAreas(e.ctx, e.c, &types.QueryChangedDiskAreas{
		This: vm.Ref(), Snapshot: &snap, DeviceKey: key, StartOffset: off, ChangeId: id})
	if err != nil {
		return types.DiskChangeInfo{}, err
	}
	return res.Returnval, nil
}

// areas asks until the end of the disk.
func (e *env) areas(vm *vcenter.VM, snap types.ManagedObjectReference, d *vcenter.Disk, id string) (out []types.DiskChangeExtent, pages int) {
	e.Helper()
	for off := int64(0); off < d.Size(); pages++ {
		info, err := e.page(vm, snap, d.Key(), off, id)
		if err != nil {
			e.Fatal(err)
		}
		out = append(out, info.ChangedArea...)
		off = info.StartOffset + info.Length
	}
	return out, pages
}

func content(t testing.TB, r io.ReaderAt, size int64) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func write(t testing.TB, d *vcenter.Disk, off int64, p []byte) {
	t.Helper()
	if _, err := d.WriteAt(p, off); err != nil {
		t.Fatal(err)
	}
}

func noise(seed uint64, n int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

func same(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d bytes, want %d", what, len(got), len(want))
	}
	if !bytes.Equal(got, want) {
		i := 0
		for got[i] == want[i] {
			i++
		}
		t.Fatalf("%s: differs from byte %d", what, i)
	}
}

// waitFor polls for what has no event to wait on.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func timeout(e *env, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.ctx, d)
}
