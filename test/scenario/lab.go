package scenario

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/ebs"
	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// LabWorld is a World with the hands of its lab.
type LabWorld struct {
	*World
	Lab       *lab.Lab
	VSphere   *vsphere.Client
	Store     *ebs.Store
	Appliance *hotadd.Appliance
	// VCenterFaults and AWSFaults are the rules of the two simulators.
	VCenterFaults, AWSFaults *fault.Set
	// VCenterWire and AWSWire are what the connections of a Wired lab run
	// through.
	VCenterWire, AWSWire *fault.Wire
	options              LabOptions
	made                 atomic.Int64
}

// LabOptions are what stories about failures want otherwise than the rest.
// What is zero is as in every lab.
type LabOptions struct {
	AWS     aws.Options // Faults are the LabWorld's
	VSphere vsphere.Timing
	EBS     ebs.Timing
	HotAdd  hotadd.Timing
	// Wired puts a fault.Wire before both services. Host is the name by which
	// they are called then; empty is the loopback address.
	Wired bool
	Host  string
	// Profile is of the shared AWS configuration; empty is the environment.
	Profile string
}

// labTiming waits as long as a loaded machine under the race detector needs,
// and no longer.
var labTiming = ebs.Timing{
	Headers: 10 * time.Second, Attempt: 15 * time.Second, Operation: time.Minute, NotYet: 20 * time.Second,
	RetryFirst: time.Millisecond, RetryMax: 50 * time.Millisecond,
	PollFirst: time.Millisecond, PollMax: 50 * time.Millisecond, SealLimit: time.Minute, Settings: time.Nanosecond,
}

// Lab is the world of the real protocols: the vSphere and EBS rooms and the
// HotAdd reader, against the simulated vCenter and AWS.
func Lab(t *testing.T) *World { return NewLab(t).World }

var labVSphere = vsphere.Timing{RetryFirst: 5 * time.Millisecond, RetryMax: 100 * time.Millisecond, Settle: 10 * time.Second, Cleanup: time.Minute}

// NewLab is Lab with the hands that stories about failures need.
func NewLab(t *testing.T, tune ...func(*LabOptions)) *LabWorld {
	t.Helper()
	w := &LabWorld{VCenterFaults: fault.New(1), AWSFaults: fault.New(2), options: LabOptions{VSphere: labVSphere, EBS: labTiming}}
	for _, f := range tune {
		f(&w.options)
	}
	w.options.AWS.Faults = w.AWSFaults
	l, err := lab.Start(lab.Options{
		Dir: t.TempDir(), KeepFrozen: true,
		VCenter: vcenter.Options{Faults: w.VCenterFaults}, AWS: w.options.AWS,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	w.Lab = l
	w.connect(t)
	w.World = &World{
		Name: "lab", Store: w.Store,
		Image: func(id transfer.SnapshotID) (io.ReaderAt, int64) {
			image, size, err := l.AWS.Image(string(id))
			if err != nil {
				t.Fatal(err)
			}
			return image, size
		},
		EncryptByDefault: l.AWS.SetEncryptionByDefault,
		Calls:            w.calls,
		Left:             w.left,
		Drafts:           w.drafts,
		NewVM:            w.newVM,
	}
	return w
}

func (w *LabWorld) connect(t *testing.T) {
	t.Helper()
	l := w.Lab
	if w.options.Wired {
		w.VCenterWire = openWire(t, l.VCenter.URL().Host)
		w.AWSWire = openWire(t, strings.TrimPrefix(l.AWS.EBSEndpoint(), "http://"))
	}
	w.VSphere = w.Dial(t)
	endpoint := l.AWS.EBSEndpoint() // of all services
	if w.options.Wired {
		endpoint = "http://" + w.named(w.AWSWire)
	}
	var err error
	if w.Store, err = ebs.Open(t.Context(), ebs.Config{
		Region: "us-east-1", Profile: w.options.Profile,
		EBSEndpoint: endpoint, EC2Endpoint: endpoint, STSEndpoint: endpoint, Timing: w.options.EBS,
	}); err != nil {
		t.Fatal(err)
	}
	w.Restart(t)
}

func openWire(t *testing.T, target string) *fault.Wire {
	t.Helper()
	w, err := fault.NewWire(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// named is the address of a wire, by name if the lab has one.
func (w *LabWorld) named(wire *fault.Wire) string {
	_, port, _ := net.SplitHostPort(wire.Addr())
	return net.JoinHostPort(cmp.Or(w.options.Host, "127.0.0.1"), port)
}

// Dial logs in to the lab's vCenter, for as long as the test runs.
func (w *LabWorld) Dial(t *testing.T) *vsphere.Client {
	t.Helper()
	u := *w.Lab.VCenter.URL()
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	if w.options.Wired {
		u.Host = w.named(w.VCenterWire)
	}
	c, err := vsphere.Dial(t.Context(), vsphere.Config{
		URL: u.String(), Username: user, Password: password, Thumbprint: w.Lab.VCenter.Thumbprint(),
		Timing: w.options.VSphere,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) }) // before the lab ends
	return c
}

// Restart makes the reader anew, as a process that starts does: it knows of no
// attachment. Sources made before keep the old one.
func (w *LabWorld) Restart(t *testing.T) {
	t.Helper()
	var err error
	if w.Appliance, err = hotadd.New(t.Context(), w.VSphere, hotadd.Config{
		Appliance: w.Lab.Appliance.Moref(), SysfsDir: w.Lab.VCenter.SysfsDir(), DevDir: w.Lab.VCenter.DevDir(), Timing: w.options.HotAdd,
	}); err != nil {
		t.Fatal(err)
	}
}

func (w *LabWorld) calls() transfer.Calls {
	c := transfer.Calls{VCenter: w.VSphere.Calls()}
	for _, n := range w.Store.Calls() {
		c.AWS += n
	}
	return c
}

// left looks from outside, at the simulators.
func (w *LabWorld) left() (left []string) {
	s := w.Lab.VCenter.State()
	for _, vm := range s.VMs {
		for _, snap := range vm.Snapshots {
			if strings.HasPrefix(snap.Name, vsphere.SnapshotPrefix) {
				left = append(left, fmt.Sprintf("VM snapshot %s of %s", snap.Name, vm.Name))
			}
		}
		if vm.ConsolidationNeeded {
			left = append(left, vm.Name+" needs consolidation")
		}
	}
	for _, a := range s.Attached {
		if a.Source != "" && a.Source != s.Appliance {
			left = append(left, fmt.Sprintf("%s attached to %s", a.File, a.VM))
		}
	}
	for _, f := range s.Deleted {
		left = append(left, "VMDK deleted: "+f)
	}
	for _, h := range s.Harms {
		left = append(left, fmt.Sprintf("harm to %s: %s", h.Name, h.What))
	}
	for _, h := range s.Surprises {
		left = append(left, fmt.Sprintf("device pulled from a guest: %s: %s", h.Name, h.What))
	}
	return left
}

func (w *LabWorld) drafts() (ids []transfer.SnapshotID) {
	for _, snap := range w.Lab.AWS.Snapshots() {
		if snap.State != string(transfer.Completed) {
			ids = append(ids, transfer.SnapshotID(snap.ID))
		}
	}
	return ids
}

// Source is a VM of the lab as the vSphere room sees it.
func (w *LabWorld) Source(vm *vcenter.VM) transfer.Source {
	return w.VSphere.Source(transfer.VMID{VCenter: w.VSphere.ID(), Moref: vm.Moref()}, vsphere.Options{Reader: w.Appliance})
}

func (w *LabWorld) newVM(t *testing.T, disks ...Disk) *VM {
	t.Helper()
	spec := vcenter.VMSpec{Name: fmt.Sprintf("vm%d", w.made.Add(1))}
	for _, d := range disks {
		spec.Disks = append(spec.Disks, vcenter.DiskSpec{Size: d.Size, Thick: d.Thick})
	}
	_, v := w.Make(t, spec)
	return v
}

// Make makes a VM of any sort.
func (w *LabWorld) Make(t *testing.T, spec vcenter.VMSpec) (*vcenter.VM, *VM) {
	t.Helper()
	vm, err := w.Lab.AddVM(spec)
	if err != nil {
		t.Fatal(err)
	}
	v := &VM{ID: transfer.VMID{VCenter: w.VSphere.ID(), Moref: vm.Moref()}, Source: w.Source(vm)}
	info, err := v.Source.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	live := func(i int) *vcenter.Disk { // others may replace a disk
		all := vm.Disks()
		return all[slices.IndexFunc(all, func(d *vcenter.Disk) bool { return d.Key() == v.Disks[i].Key })]
	}
	for _, d := range info.Disks {
		v.Disks = append(v.Disks, d.ID)
	}
	v.Guest = func(i int) Guest { return live(i) }
	v.Grow = func(i int, size int64) error { return live(i).Grow(size) }
	v.ResetCBT = func() {
		for _, d := range vm.Disks() {
			d.ResetCBT()
		}
	}
	v.Frozen = func(cycle transfer.CycleID, i int) (io.ReaderAt, error) {
		path, err := w.Lab.VCenter.FrozenCopy(vsphere.SnapshotPrefix+string(cycle), v.Disks[i].Key)
		if err != nil {
			return nil, err
		}
		return os.Open(path)
	}
	return vm, v
}
