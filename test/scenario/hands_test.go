package scenario_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// rig is a story in the lab in which things go wrong.
type rig struct {
	*scenario.Story
	t      *testing.T
	w      *scenario.LabWorld
	vm     *vcenter.VM
	rng    *rand.Rand
	onRead func(disk transfer.DiskID) // before each read of a frozen disk
	audit  int
	// clock is the appliance's, and maxFreeze its setting; zero is the real one
	// and none.
	clock     *clock
	maxFreeze time.Duration

	mu     sync.Mutex
	frozen map[string]int // VM snapshots made, by name
}

// newRig has one VM with two disks, of which some is written.
func newRig(t *testing.T, spec vcenter.VMSpec, tune ...func(*scenario.LabOptions)) *rig {
	t.Helper()
	thin(t)
	w := scenario.NewLab(t, append([]func(*scenario.LabOptions){patient}, tune...)...)
	if spec.Name == "" {
		spec.Name = "ill-fated"
	}
	if spec.Disks == nil {
		spec.Disks = []vcenter.DiskSpec{{Size: 4 * mib}, {Size: mib}}
	}
	r := &rig{t: t, w: w, rng: rand.New(rand.NewPCG(3, 4)), frozen: map[string]int{}}
	vm, v := w.Make(t, spec)
	r.vm = vm
	r.Story = &scenario.Story{T: t, World: w.World, VM: v, State: stateOf(t)}
	w.Lab.VCenter.OnFreeze(func(e vcenter.FreezeEvent) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.frozen[e.Name]++
	})
	t.Cleanup(func() {
		for _, m := range w.Lab.AWS.Misuse() {
			t.Errorf("a rule that cannot be played: %s", m)
		}
	})
	r.Write(0, 1, 0, 3*mib)
	r.Write(1, 2, 0, mib/2)
	return r
}

// patient retries without long pauses: what a story breaks heals at once.
func patient(o *scenario.LabOptions) {
	o.VSphere.Settle = 300 * time.Millisecond
	o.HotAdd = hotadd.Timing{RetryFirst: 20 * time.Millisecond, Poll: 5 * time.Millisecond, Rescan: 100 * time.Millisecond}
}

// change lets the guest write to both disks, something else each time.
func (r *rig) change() {
	r.Write(0, r.rng.Uint64(), r.rng.Int64N(3*mib), 1+r.rng.Int64N(mib/2))
	r.Write(1, r.rng.Uint64(), r.rng.Int64N(mib/2), 1+r.rng.Int64N(mib/4))
}

// result is what came of one cycle.
type result struct {
	rep   transfer.Report
	err   error
	step  transfer.Step // in which the rule fired, or "" if it did not
	fired bool
}

// run runs one cycle. fired tells whether what is to happen has; nil: not asked.
func (r *rig) run(o transfer.Options, fired func() bool, at func(transfer.Step)) result {
	r.t.Helper()
	c := r.Cycle(o)
	c.Audit, c.MaxFreeze = r.audit, r.maxFreeze
	if r.clock != nil {
		c.Now, c.Watch = r.clock.Now, 5*time.Millisecond
	}
	c.Source = hookedSource{r.w.Source(r.vm), r}
	var res result
	var mu sync.Mutex
	last := transfer.StepInspect
	look := func(next transfer.Step) {
		mu.Lock()
		defer mu.Unlock()
		if res.step == "" && fired != nil && fired() {
			res.step = last
		}
		last = next
	}
	c.Progress.OnStep(func(step transfer.Step) {
		look(step)
		if at != nil {
			at(step)
		}
	})
	res.rep, res.err = c.Run(r.t.Context())
	look(transfer.StepDone)
	res.fired = res.step != ""
	r.Last = res.rep
	return res
}

// outcome is a result in words; what must never be is an error of the test.
func (r *rig) outcome(res result) string {
	r.t.Helper()
	r.mu.Lock()
	if n := r.frozen[vsphere.SnapshotPrefix+string(res.rep.Cycle)]; n > 1 && r.maxFreeze == 0 {
		r.t.Errorf("cycle %s made %d VM snapshots", res.rep.Cycle, n)
	}
	r.mu.Unlock()
	r.once()
	r.Right()
	if res.err == nil {
		if res.rep.Outcome == transfer.OutcomeConfirmed {
			r.Same()
		}
		return string(res.rep.Outcome) + alarms(res.rep)
	}
	var e *transfer.Error
	if !errors.As(res.err, &e) {
		r.t.Errorf("not classified: %v", res.err)
	}
	return fmt.Sprintf("failed (%v): %s%s", transfer.KindOf(res.err), short(res.err), alarms(res.rep))
}

// once: no cycle has two snapshots of one disk in AWS.
func (r *rig) once() {
	r.t.Helper()
	for _, p := range r.Points() {
		seen := map[int]bool{}
		for _, d := range p.Disks {
			if seen[d.Label.Ordinal] {
				r.t.Errorf("cycle %s has disk %d twice", p.Cycle, d.Label.Ordinal)
			}
			seen[d.Label.Ordinal] = true
		}
	}
}

func alarms(rep transfer.Report) string {
	if len(rep.Alarms) == 0 {
		return ""
	}
	return fmt.Sprintf(" [alarm: %s]", cutText(strings.Join(rep.Alarms, "; ")))
}

func short(err error) string { return cutText(strings.ReplaceAll(err.Error(), "\n", " ")) }

func cutText(s string) string {
	if r := []rune(s); len(r) > 150 {
		return string(r[:150]) + "…"
	}
	return s
}

// row is a row of the table fault × step → what happened.
func (r *rig) row(fault string, step transfer.Step, what string) {
	r.t.Helper()
	r.t.Logf("TABLE | %s | %s | %s |", fault, step, what)
}

// reap ends what a cycle left, as the next start does.
func (r *rig) reap() {
	r.t.Helper()
	r.w.Restart(r.t)
	reaper := transfer.Reaper{
		Source: hotadd.Leftovers{Client: r.w.VSphere, Appliance: r.w.Appliance}, Store: r.w.Store,
		State: r.State, Appliance: "appliance-1", VMs: []transfer.VMID{r.VM.ID}, Now: time.Now, Cleanup: time.Minute,
	}
	if r.clock != nil {
		reaper.Now = r.clock.Now
	}
	if rep, err := reaper.Run(r.t.Context(), false); err != nil {
		r.t.Errorf("reap: %v: %+v", err, rep)
	}
}

// recover is the next start: the world is well again, a cycle succeeds, its
// point is right and nothing is left.
func (r *rig) recover(o transfer.Options) transfer.Report {
	r.t.Helper()
	r.reap()
	r.change()
	res := r.run(o, nil, nil)
	if res.err != nil {
		r.t.Fatalf("the next cycle: %v", res.err)
	}
	if len(res.rep.Alarms) > 0 && r.audit == 0 {
		r.t.Errorf("the next cycle: alarms %v", res.rep.Alarms)
	}
	r.NothingLeft()
	r.Same()
	r.Right()
	return res.rep
}

// firedOf tells whether any rule of a set has fired.
func firedOf(s *fault.Set) func() bool {
	return func() bool {
		for _, n := range s.Fired() {
			if n > 0 {
				return true
			}
		}
		return false
	}
}

func (r *rig) allFired(s *fault.Set) {
	r.t.Helper()
	if names := s.Unfired(); len(names) > 0 {
		r.t.Errorf("rules that never fired: %v", names)
	}
}

// hookedSource lets a story act while a frozen disk is read.
type hookedSource struct {
	transfer.Source
	r *rig
}

type hookedFrozen struct {
	transfer.Frozen
	r *rig
}

type hookedReader struct {
	transfer.DiskReader
	r    *rig
	disk transfer.DiskID
}

func (s hookedSource) Freeze(ctx context.Context, spec transfer.FreezeSpec) (transfer.Frozen, error) {
	f, err := s.Source.Freeze(ctx, spec)
	if err != nil {
		return nil, err
	}
	return hookedFrozen{f, s.r}, nil
}

func (f hookedFrozen) Open(ctx context.Context, id transfer.DiskID) (transfer.DiskReader, error) {
	d, err := f.Frozen.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	return hookedReader{d, f.r, id}, nil
}

func (d hookedReader) ReadAt(p []byte, off int64) (int, error) {
	if d.r.onRead != nil {
		d.r.onRead(d.disk)
	}
	return d.DiskReader.ReadAt(p, off)
}
