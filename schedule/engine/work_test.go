package engine_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/test/memory"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

const vcenter = "50 2c vc-1"

// site is a simulated vCenter that several processes share: its VMs are made
// up, its VM snapshots are files in a folder, and what happens to it is written
// line by line to a file.
type site struct {
	Dir      string        `json:"dir"`
	Count    int           `json:"count"` // VMs
	Hosts    int           `json:"hosts"`
	Length   time.Duration `json:"length"` // of a cycle's copy
	Jumble   bool          `json:"jumble"` // disks change all the time, so that every cycle seals
	Appl     string        `json:"appl"`
	SelfOnly []string      `json:"selfOnly,omitempty"` // datastores this appliance reaches; nil is all
}

func (s *site) vm(i int) transfer.VM {
	name := fmt.Sprintf("app%04d", i)
	return transfer.VM{
		ID: transfer.VMID{VCenter: vcenter, Moref: fmt.Sprintf("vm-%d", i)}, InstanceUUID: "50-" + name, Name: name, Path: "/DC0/vm/" + name,
		PoweredOn: true, CBT: true, Host: fmt.Sprintf("esx%02d", i%max(s.Hosts, 1)),
		Disks: []transfer.Disk{{ID: transfer.DiskID{Key: 2000, UUID: "6000c29-" + name}, Label: "Hard disk 1", Size: transfer.BlockSize,
			Datastore: fmt.Sprintf("ds%d", i%5), File: "[ds] " + name + ".vmdk", Backing: "flat"}},
	}
}

// note is one line of what happened.
type note struct {
	At   int64  `json:"at"` // ms
	Pid  int    `json:"pid"`
	Appl string `json:"appl"`
	VM   string `json:"vm"`
	Run  int64  `json:"run"`
	Ep   int64  `json:"ep"`
	What string `json:"what"` // begin, frozen, released, seal, sealed, end
	Text string `json:"text,omitempty"`
}

func (s *site) journal() string { return filepath.Join(s.Dir, "journal") }

func (s *site) notes(t testing.TB) (all []note) {
	t.Helper()
	f, err := os.Open(s.journal())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		var n note
		if json.Unmarshal(in.Bytes(), &n) == nil { // the last line may be half of one
			all = append(all, n)
		}
	}
	return all
}

// rig is the Work of one appliance at a site. Its cycles are real ones, of a
// made-up VM and a store in memory.
type rig struct {
	*site
	ebs *memory.Store
	env transfer.Env
	log *os.File

	mu     sync.Mutex
	fail   func(vm string) error // before a cycle begins
	now    map[string]int        // cycles that run, by VM
	most   int                   // the most at once
	broken []string              // what must never happen

	inventory atomic.Pointer[func() ([]transfer.VM, error)]
	pruned    atomic.Int64
	left      atomic.Pointer[transfer.ReapReport]
	ended     atomic.Pointer[[]transfer.VMID] // of the last clean-up
	dead      sync.Map                        // run → Job.Dead
}

func newRig(s *site) (*rig, error) {
	f, err := os.OpenFile(s.journal(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	r := &rig{site: s, ebs: memory.NewStore(), log: f, now: map[string]int{}}
	r.env = transfer.Env{
		Store: r.ebs, State: manifest.Dir(filepath.Join(s.Dir, "state-"+s.Appl)), Appliance: transfer.ApplianceID(s.Appl),
		Buffers: transfer.NewBuffers(8), Reads: 1, Puts: 1, Now: time.Now, Cleanup: 10 * time.Second,
	}
	return r, nil
}

func (r *rig) note(job engine.Job, what, text string) {
	line, _ := json.Marshal(note{At: time.Now().UnixMilli(), Pid: os.Getpid(), Appl: r.Appl, VM: job.VM.Name, Run: job.Run.ID, Ep: job.Run.Epoch, What: what, Text: text})
	_, _ = r.log.Write(append(line, '\n'))
}

func (r *rig) Self(context.Context) (schedule.Appliance, error) {
	return schedule.Appliance{VM: "vm-self-" + r.Appl, Host: "esx00", VCenter: vcenter, Account: "123456789012/eu-central-1", Datastores: r.SelfOnly}, nil
}

func (r *rig) Inventory(context.Context) ([]transfer.VM, error) {
	if f := r.inventory.Load(); f != nil {
		return (*f)()
	}
	var all []transfer.VM
	for i := range r.Count {
		all = append(all, r.vm(i))
	}
	return all, nil
}

func (r *rig) setFail(f func(vm string) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = f
}

func (r *rig) Cycle(ctx context.Context, job engine.Job, p *transfer.Progress, logf func(level, text string)) (rep transfer.Report, err error) {
	r.note(job, "begin", string(job.Dead))
	r.enter(job.VM.Name, 1)
	defer func() {
		r.enter(job.VM.Name, -1)
		text := ""
		if err != nil {
			text = err.Error()
		}
		r.note(job, "end", text)
	}()
	if job.Dead != "" {
		r.dead.Store(job.Run.ID, job.Dead)
		_ = os.Remove(r.snapshot(job.VM.Name, string(job.Dead)))
	}
	_ = os.Remove(r.snapshot(job.VM.Name, r.Appl)) // what a crash of ours left
	r.mu.Lock()
	fail := r.fail
	r.mu.Unlock()
	if fail != nil {
		if err := fail(job.VM.Name); err != nil {
			return p.Report(), err
		}
	}
	logf("info", "cycle of "+job.VM.Name)
	env := r.env
	env.Store = &sealing{Store: r.ebs, r: r, job: job}
	c := transfer.Cycle{Env: env, Options: transfer.Options{Quiesce: transfer.QuiesceOff}, Source: &source{r: r, job: job}, Progress: p}
	return c.Run(ctx)
}

// enter counts cycles and notes two of one VM at once.
func (r *rig) enter(vm string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now[vm] += n
	if r.now[vm] > 1 {
		r.broken = append(r.broken, "two cycles of "+vm+" at once")
	}
	if r.now[vm] == 0 {
		delete(r.now, vm)
	}
	r.most = max(r.most, len(r.now))
}

func (r *rig) running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.now)
}

// peak is the most cycles at once so far.
func (r *rig) peak() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most
}

func (r *rig) Points(context.Context, *transfer.VMID) ([]schedule.PointRow, error) { return nil, nil }

func (r *rig) Prune(context.Context, schedule.VM, *schedule.Policy) ([]transfer.CycleID, error) {
	r.pruned.Add(1)
	return nil, nil
}

func (r *rig) Clean(_ context.Context, ended []transfer.VMID) (transfer.ReapReport, error) {
	r.ended.Store(&ended)
	if p := r.left.Load(); p != nil {
		return *p, nil
	}
	return transfer.ReapReport{}, nil
}

func (r *rig) Expiring(context.Context) ([]schedule.Alarm, error) { return nil, nil }

// snapshot is the file that stands for the VM snapshot of a VM by an appliance.
func (s *site) snapshot(vm, appl string) string { return filepath.Join(s.Dir, vm+".snap-"+appl) }

// leftSnapshots are the VM snapshots that exist.
func (s *site) leftSnapshots(t testing.TB) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(s.Dir, "*.snap-*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = filepath.Base(all[i])
	}
	return all
}

// source is one VM of a site.
type source struct {
	r   *rig
	job engine.Job
}

func (s *source) Inspect(context.Context) (transfer.VM, error) { return s.job.VM.VM, nil }

func (s *source) Freeze(ctx context.Context, spec transfer.FreezeSpec) (transfer.Frozen, error) {
	there, err := filepath.Glob(s.r.snapshot(s.job.VM.Name, "*"))
	if err != nil {
		return nil, err
	}
	if len(there) > 0 {
		return nil, transfer.Fail(transfer.Retry, "freeze "+s.job.VM.Name, fmt.Errorf("a snapshot of ours exists already: %s", strings.Join(there, ", ")), "")
	}
	if err := os.WriteFile(s.r.snapshot(s.job.VM.Name, s.r.Appl), nil, 0o600); err != nil {
		return nil, err
	}
	s.r.note(s.job, "frozen", "")
	vm := s.job.VM.VM
	vm.Disks = append([]transfer.Disk(nil), vm.Disks...)
	for i := range vm.Disks {
		vm.Disks[i].ChangeID = transfer.ChangeID(fmt.Sprintf("52 de/%d", time.Now().UnixNano()))
	}
	return &frozen{source: s, state: transfer.FrozenVM{VM: vm, Snapshot: "snapshot-1", SnapshotName: "snapferry-" + string(spec.Cycle), At: time.Now()}}, nil
}

type frozen struct {
	*source
	state transfer.FrozenVM
	gone  bool
}

func (f *frozen) State() transfer.FrozenVM { return f.state }

func (f *frozen) Areas(_ context.Context, disk transfer.DiskID, _ transfer.ChangeID, yield func(transfer.Extent) error) error {
	d, _ := f.state.Disk(disk)
	return yield(transfer.Extent{Length: d.Size})
}

func (f *frozen) Open(context.Context, transfer.DiskID) (transfer.DiskReader, error) {
	return &reader{f: f}, nil
}

func (f *frozen) Pressed(context.Context) (string, error) { return "", nil }

func (f *frozen) Release(context.Context) error {
	if !f.gone {
		f.gone = true
		_ = os.Remove(f.r.snapshot(f.job.VM.Name, f.r.Appl)) // another appliance may have
		f.r.note(f.job, "released", "")
	}
	return nil
}

// reader takes as long as the cycle's copy does.
type reader struct{ f *frozen }

func (r *reader) ReadAt(p []byte, _ int64) (int, error) {
	time.Sleep(r.f.r.Length)
	clear(p)
	if r.f.r.Jumble {
		binary.LittleEndian.PutUint64(p, rand.Uint64()|1) // a byte would be the one of before every now and then
	}
	return len(p), nil
}

func (r *reader) Close(context.Context) error { return nil }

// sealing notes when points are made.
type sealing struct {
	*memory.Store
	r   *rig
	job engine.Job
}

func (s *sealing) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	d, err := s.Store.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return &sealed{Draft: d, s: s}, nil
}

type sealed struct {
	transfer.Draft
	s *sealing
}

func (d *sealed) Seal(ctx context.Context, seal transfer.Seal) error {
	d.s.r.note(d.s.job, "seal", "")
	if err := ctx.Err(); err != nil {
		return err
	}
	err := d.Draft.Seal(ctx, seal)
	if err == nil {
		d.s.r.note(d.s.job, "sealed", string(d.ID()))
	}
	return err
}
