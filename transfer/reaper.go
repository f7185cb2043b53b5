package transfer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapferry/transfer/manifest"
)

// ReapSource is what the reaper needs of the sources' side. Every deed looks at
// the mark once more and is safe to repeat: what is gone already is no error.
type ReapSource interface {
	// Snapshots lists the VM snapshots with our mark, of any appliance: those of
	// some VMs, or, with nil, of all that there are.
	Snapshots(ctx context.Context, vms []VMID) ([]MarkedSnapshot, error)
	// Disks lists the disks with our mark that hang on the appliance that this
	// runs in, or, everywhere, on any VM.
	Disks(ctx context.Context, everywhere bool) ([]MarkedDisk, error)
	// Detach takes a disk off the VM it hangs on; its files stay.
	Detach(ctx context.Context, d MarkedDisk) error
	// Remove removes a VM snapshot, alone, and waits until it is consolidated.
	Remove(ctx context.Context, s MarkedSnapshot) error
}

// ReapStore is what the reaper needs of the store.
type ReapStore interface {
	// AllSnapshots returns every snapshot that carries our mark. Beside an error
	// about labels that cannot be read it returns the others.
	AllSnapshots(ctx context.Context) ([]Snapshot, error)
	// Snapshots is as in Store.
	Snapshots(ctx context.Context, vm VMID) ([]Snapshot, error)
	// Abandon deletes a draft of ours, pending or failed. One that has become
	// completed is an error; one that is gone is not.
	Abandon(ctx context.Context, id SnapshotID) error
	Expirer
}

// Reaper finds what a crash left and ends it. It may run beside cycles: it
// works on a VM only while it holds the VM's lock.
type Reaper struct {
	Source    ReapSource
	Store     ReapStore
	State     manifest.Dir
	Appliance ApplianceID
	Dead      []ApplianceID // see Alive
	VMs       []VMID        // only what belongs to these; nil is all
	Ended     []VMID        // see Alive
	Now       func() time.Time
	Cleanup   time.Duration // bounds each deed
}

// ReapReport is what a run of the reaper found and did, as a plain value.
type ReapReport struct {
	DryRun bool     `json:"dryRun"`
	Things []Reaped `json:"things"`
	Alarms []string `json:"alarms,omitempty"` // what stays and should not
	// Unseen is what could not be looked at.
	Unseen []string `json:"unseen,omitempty"`
}

// Reaped is one action and what came of it.
type Reaped struct {
	Action
	Done  bool   `json:"done"`
	Error string `json:"error,omitempty"`
	Hint  string `json:"hint,omitempty"`
}

// Run looks, and unless dryRun does what Reap decides. One failure never stops
// the rest: all of them are in the report, and joined in the error. When ctx
// ends, the deed under way is brought to its end and the others are not begun.
func (r *Reaper) Run(ctx context.Context, dryRun bool) (ReapReport, error) {
	run := reaping{Reaper: r, dry: dryRun, report: ReapReport{DryRun: dryRun, Things: []Reaped{}}}
	found := run.look(ctx)
	for _, vm := range found.vms() {
		run.vm(ctx, vm, found.of(vm))
	}
	run.alarm()
	return run.report, errors.Join(run.errs...)
}

// reaping is one run.
type reaping struct {
	*Reaper
	dry    bool
	report ReapReport
	errs   []error
}

// look lists all. The locks are asked later: what a live cycle makes after
// this is not in the lists, and what it had made is under its lock.
func (r *reaping) look(ctx context.Context) (f Found) {
	var err error
	if f.EBS, err = r.ebs(ctx); err != nil {
		f.NoEBS = err.Error()
		r.unseen("EBS snapshots", err)
	}
	if f.Snapshots, err = r.Source.Snapshots(ctx, r.VMs); err != nil {
		r.unseen("VM snapshots", err)
	}
	// To look at every VM costs: it is done where a snapshot may go, of which a
	// disk may hang on the VM that was the appliance before, and where another
	// appliance is dead: its disks hang on its own VM.
	if f.Disks, err = r.Source.Disks(ctx, r.VMs == nil || len(f.Snapshots) > 0 || len(r.Dead) > 0); err != nil {
		f.NoDisks = err.Error()
		r.unseen("attached disks", err)
	}
	if r.VMs != nil {
		f.Disks = slices.DeleteFunc(f.Disks, func(d MarkedDisk) bool { return !slices.Contains(r.VMs, d.VM) })
	}
	return f
}

func (r *reaping) unseen(what string, err error) {
	r.report.Unseen = append(r.report.Unseen, fmt.Sprintf("%s: %v", what, err))
	if !errors.Is(errors.Join(r.errs...), err) { // one that was asked twice
		r.errs = append(r.errs, err)
	}
}

func (r *reaping) ebs(ctx context.Context) ([]Snapshot, error) {
	if r.VMs == nil {
		return r.Store.AllSnapshots(ctx)
	}
	var all []Snapshot
	var errs []error
	for _, vm := range r.VMs {
		some, err := r.Store.Snapshots(ctx, vm)
		all, errs = append(all, some...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

// vms are the VMs of what was found, in order.
func (f Found) vms() []VMID {
	var all []VMID
	for _, d := range f.Disks {
		all = append(all, d.VM)
	}
	for _, s := range f.Snapshots {
		all = append(all, s.VM)
	}
	for _, s := range f.EBS {
		all = append(all, s.Label.VM)
	}
	slices.SortFunc(all, func(a, b VMID) int {
		return cmp.Or(cmp.Compare(a.VCenter, b.VCenter), cmp.Compare(a.Moref, b.Moref))
	})
	return slices.Compact(all)
}

// of is what belongs to one VM.
func (f Found) of(vm VMID) Found {
	f.Disks = slices.DeleteFunc(slices.Clone(f.Disks), func(d MarkedDisk) bool { return d.VM != vm })
	f.Snapshots = slices.DeleteFunc(slices.Clone(f.Snapshots), func(s MarkedSnapshot) bool { return s.VM != vm })
	f.EBS = slices.DeleteFunc(slices.Clone(f.EBS), func(s Snapshot) bool { return s.Label.VM != vm })
	return f
}

// vm decides under the VM's lock, and acts. The lock is not touched where there
// is nothing to decide.
func (r *reaping) vm(ctx context.Context, vm VMID, f Found) {
	k := Alive{Now: r.Now(), Appliance: r.Appliance, Dead: r.Dead, Ended: r.Ended, Live: map[VMID]string{}}
	if len(Reap(f, k)) == 0 {
		return
	}
	unlock, why := r.lock(vm)
	defer unlock()
	if why == "" {
		var err error
		if k.Journals, err = r.journals(vm); err != nil {
			why = err.Error()
		}
	}
	if why != "" {
		k.Live[vm] = why
	}
	actions := Reap(f, k)
	if !r.dry && slices.ContainsFunc(actions, func(a Action) bool { return a.Do == DeedAbort || a.Do == DeedDelete }) {
		actions = r.again(ctx, vm, f, k)
	}
	name := nameOf(actions)
	stuck := false // a disk of the VM is
	for _, a := range actions {
		a.VMName = cmp.Or(a.VMName, name)
		done := Reaped{Action: a}
		if a.Do != DeedLeave && !r.dry {
			r.do(ctx, &done, stuck)
			stuck = stuck || (a.Do == DeedDetach && !done.Done)
		}
		r.report.Things = append(r.report.Things, done)
	}
}

// lock takes the VM's lock, or in a dry run looks at it. why says why the VM
// must be left alone.
func (r *reaping) lock(vm VMID) (unlock func(), why string) {
	const runs = "a cycle of this VM runs on this machine"
	unlock = func() {}
	if r.dry {
		held, err := r.State.Held(vm.VCenter, vm.Moref)
		switch {
		case err != nil:
			return unlock, err.Error()
		case held:
			return unlock, runs
		}
		return unlock, ""
	}
	lock, err := r.State.Lock(vm.VCenter, vm.Moref)
	switch {
	case errors.Is(err, manifest.ErrBusy):
		return unlock, runs
	case err != nil:
		return unlock, err.Error()
	}
	return func() { _ = lock.Unlock() }, "" // it ends with the descriptor in any case
}

// journals are the drafts that cycles of this machine can go on with.
func (r *reaping) journals(vm VMID) ([]JournaledDraft, error) {
	found, err := r.State.Journals(vm.VCenter, vm.Moref)
	var all []JournaledDraft
	for _, j := range found {
		var spec DraftSpec
		if json.Unmarshal(j.Header.Spec, &spec) != nil {
			continue // no cycle can read it either
		}
		all = append(all, JournaledDraft{VM: vm, Disk: spec.Label.Disk, Cycle: spec.Label.Cycle, Draft: SnapshotID(j.Header.Snapshot), Written: j.Written})
	}
	return all, err
}

// again decides on what AWS holds now: since the first look, before the lock
// was ours, a cycle may have sealed.
func (r *reaping) again(ctx context.Context, vm VMID, f Found, k Alive) []Action {
	fresh, err := r.Store.Snapshots(ctx, vm)
	if err != nil && f.NoEBS == "" { // an unreadable label is known already
		f.NoEBS = err.Error()
		r.unseen("EBS snapshots", err)
	} else if err == nil {
		f.EBS = fresh
	}
	actions := Reap(f, k)
	if err == nil {
		return actions
	}
	for i := range actions {
		if a := &actions[i]; a.Do == DeedAbort || a.Do == DeedDelete {
			a.Do, a.Reason = DeedLeave, "it cannot be looked at again: "+err.Error()
		}
	}
	return actions
}

func nameOf(actions []Action) string {
	for _, a := range actions {
		if a.VMName != "" {
			return a.VMName
		}
	}
	return ""
}

// do does one deed, with a context of its own.
func (r *reaping) do(ctx context.Context, a *Reaped, stuck bool) {
	err := ctx.Err()
	if err == nil {
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.Cleanup)
		defer cancel()
		err = r.deed(own, a.Action, stuck)
	}
	switch {
	case err == nil:
		a.Done = true
	case errors.Is(err, ErrInUse):
		a.Do, a.Reason = DeedLeave, err.Error()
	default:
		a.Error, a.Hint = err.Error(), HintOf(err)
		r.errs = append(r.errs, err)
	}
}

func (r *reaping) deed(ctx context.Context, a Action, stuck bool) error {
	switch {
	case a.Do == DeedDetach:
		return r.Source.Detach(ctx, a.disk)
	case a.Do == DeedRemove && stuck:
		return Fail(Retry, "remove VM snapshot "+a.Name, errors.New("a disk of its VM is still attached"), "")
	case a.Do == DeedRemove:
		return r.Source.Remove(ctx, a.snapshot)
	case a.Do == DeedAbort:
		return r.Store.Abandon(ctx, SnapshotID(a.ID))
	}
	return r.Store.Expire(ctx, SnapshotID(a.ID))
}

// alarm speaks of what stays.
func (r *reaping) alarm() {
	for _, a := range r.report.Things {
		if a.Done || a.Kind == LeftDraft || a.Kind == LeftHalf || a.Kind == LeftConversion {
			continue
		}
		what := fmt.Sprintf("%s %s of %s (cycle %s of appliance %s)", a.Kind, a.Name, cmp.Or(a.VMName, a.VM.String()), a.Cycle, a.Appliance)
		if a.Error != "" {
			r.alarmf("%s is left: %s", what, a.Error)
		}
		if a.Kind != LeftSnapshot {
			continue
		}
		if age := r.Now().Sub(a.Since); !a.Since.IsZero() && age >= OldLeftover {
			r.alarmf("%s is %d hours old and grows", what, int(age.Hours()))
		}
		if a.snapshot.Low != "" {
			r.alarmf("%s grows on a datastore that runs low: %s", what, a.snapshot.Low)
		}
	}
}

func (r *reaping) alarmf(format string, args ...any) {
	r.report.Alarms = append(r.report.Alarms, fmt.Sprintf(format, args...))
}
