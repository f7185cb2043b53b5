package launch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"snapferry/transfer"
)

// Test launches a point beside the running source, or goes on with that; the
// previous test of the VM is ended first. It changes j as it goes. A test that
// fails its checks is an error, and stays to be looked at until it ends.
func (l *Launcher) Test(ctx context.Context, j *Job) error {
	if err := j.may(ForTest, "go on with", StateNew, StateLaunching, StateLaunched); err != nil {
		return err
	}
	if j.State == StateLaunched {
		return nil
	}
	return l.start(j, Source{}).launching(ctx)
}

// launching launches. A job that failed before anything was made or switched off
// is over: its settings are to be changed, and the next one is a new one.
func (r *run) launching(ctx context.Context) error {
	return r.conclude(ctx, StateLaunched, EventJobStart, EventJobEnd, EventJobFail, func() error {
		err := r.launch(ctx)
		if err != nil && !r.job.began(StepMark) && !r.job.began(StepPowerOff) {
			r.job.State = StateEnded
		}
		return err
	})
}

// EndTest ends a test, however far it came. It needs no more of j than JobsOf
// gives.
func (l *Launcher) EndTest(ctx context.Context, j *Job) error {
	if j.Request.Purpose != ForTest {
		return refuse("end "+string(j.ID), "revert or finalize it", "it is no test but a %s", j.Request.Purpose)
	}
	return l.endJob(ctx, j)
}

// Discard ends a cutover that was reverted, its instance and its volumes too.
// The next cutover does so by itself.
func (l *Launcher) Discard(ctx context.Context, j *Job) error {
	if err := j.may(ForCutover, "discard", StateReverted, StateEnding, StateEnded); err != nil {
		return err
	}
	return l.endJob(ctx, j)
}

func (l *Launcher) endJob(ctx context.Context, j *Job) error {
	r := l.start(j, Source{})
	j.State = StateEnding
	return r.conclude(ctx, StateEnded, EventCleanupStart, EventCleanupEnd, EventCleanupFail, func() error {
		return r.teardown(ctx, spared{conv: j.Request.Settings.KeepConv})
	})
}

// may refuses an operation on a job of another purpose or in another state.
func (j *Job) may(p Purpose, verb string, states ...State) error {
	what := fmt.Sprintf("%s %s", verb, j.ID)
	switch {
	case j.Request.Purpose != p:
		return refuse(what, "", "it is a %s and no %s", j.Request.Purpose, p)
	case !slices.Contains(states, j.State):
		return refuse(what, "", "it is %s", j.State)
	}
	return nil
}

// endPrevious ends earlier launches for the same purpose. A cutover instance is
// ended only once it was reverted: until then its data may be the newest.
func (r *run) endPrevious(ctx context.Context) error {
	for _, old := range JobsOf(r.world.Previous) {
		if r.job.Request.Purpose == ForCutover && old.Instance != "" && old.State != StateReverted {
			return refuse("cut over "+r.job.Request.VMName, "finalize or revert that cutover first", "instance %s of cutover %s exists", old.Instance, old.ID)
		}
	}
	for _, old := range JobsOf(r.world.Previous) {
		r.log(EventCleanupStart, StepPrevious, "end %s", old.ID)
		same := old.Request.Point.Cycle == r.job.Request.Point.Cycle // whose conversion serves again
		if err := r.start(&old, Source{}).teardown(ctx, spared{conv: same}); err != nil {
			return fmt.Errorf("end the earlier %s: %w", old.Request.Purpose, err)
		}
	}
	return nil
}

// Cutover moves the VM: source off, final sync, launch. It changes j as it goes.
// A repeat goes on where an earlier call stopped, wherever that was; the way
// back is Revert. The source is never powered on here: after a failure a person
// decides.
func (l *Launcher) Cutover(ctx context.Context, j *Job, src Source) error {
	if err := j.may(ForCutover, "go on with", StateNew, StateLaunching, StateLaunched); err != nil {
		return err
	}
	if j.State == StateLaunched {
		return nil
	}
	return l.start(j, src).launching(ctx)
}

// Revert goes back: the instance is stopped and stays, and only then the source
// is powered on. What the instance wrote is not brought back.
func (l *Launcher) Revert(ctx context.Context, j *Job, src Source) error {
	if err := j.may(ForCutover, "revert", StateNew, StateLaunching, StateLaunched, StateReverting, StateReverted); err != nil {
		return err
	}
	r := l.start(j, src)
	j.State = StateReverting
	return r.conclude(ctx, StateReverted, EventRevertStart, EventRevertEnd, EventRevertFail, func() error { return r.revert(ctx) })
}

func (r *run) revert(ctx context.Context) error {
	if err := r.look(ctx); err != nil {
		return err
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	err := r.step(ctx, StepHalt, "stop the instance", func(ctx context.Context) error {
		if !r.world.alive() {
			return nil
		}
		if err := r.halt(ctx); err != nil {
			return err
		}
		return r.tag(ctx, []string{r.world.Instance.ID}, map[string]string{tagReverted: stamp(r.now())})
	})
	if err != nil {
		return err
	}
	if r.job.began(StepPowerOff) {
		err := r.step(ctx, StepSourceOn, "power the source on", func(ctx context.Context) error {
			if r.source.PowerOn == nil {
				return errors.New("power the source on: nothing was given that does so")
			}
			return r.source.PowerOn(ctx)
		})
		if err != nil {
			return err
		}
		r.log(EventSourceOn, StepSourceOn, "%s", r.job.Request.VMName)
	}
	if r.world.alive() {
		return r.awaitReverted(ctx)
	}
	if r.job.did(StepRunning) { // volumes of one that is gone may be wanted: see Discard
		return nil
	}
	return r.step(ctx, StepClean, "remove what the cutover had made", func(ctx context.Context) error { return r.teardown(ctx, spared{}) })
}

// awaitReverted waits until EC2 shows the tag, without which the next cutover is
// refused. The source is on by then.
func (r *run) awaitReverted(ctx context.Context) error {
	id := r.world.Instance.ID
	return r.until(ctx, "mark "+id+" as reverted", r.timing.Fresh, func(ctx context.Context) (bool, string, error) {
		shown, err := r.listInstances(ctx, ofJob(r.job.ID))
		seen := slices.ContainsFunc(shown, func(res Resource) bool { return res.ID == id && res.Reverted })
		return seen, "not shown with its tag by EC2", err
	})
}

// Ending is what finalizing does beyond AWS's resources of the launch. Each can
// be called again after a crash; nil leaves it out.
type Ending struct {
	// EndReplication: no cycle of the VM begins any more, and none runs.
	EndReplication func(ctx context.Context) error
	// Prune deletes the points that are not to be kept, and says which snapshots
	// it kept. Nothing of a launch uses any by then.
	Prune func(ctx context.Context) (kept []transfer.SnapshotID, err error)
	// StopTracking turns CBT off. A backup product may rely on it by now, so it
	// is left on unless asked.
	StopTracking func(ctx context.Context) error
	// Force finalizes a cutover whose status checks or checks failed, too: a
	// person has looked at the instance and found it good.
	Force bool
}

// Finalizable says why a job cannot be finalized as it stands; nil if it can.
func (j *Job) Finalizable(force bool) error {
	switch {
	case force && j.did(StepTag) && j.State == StateLaunching:
		return nil
	case j.Request.Purpose == ForCutover && j.State == StateLaunching && j.did(StepTag):
		return refuse("finalize "+string(j.ID), "repeat the cutover, which checks the instance again; or finalize with force, if you have looked at it and found it good",
			"its instance has not passed its checks: %s", j.Error)
	}
	return j.may(ForCutover, "finalize", StateLaunched, StateFinishing, StateFinalized)
}

// Finalize ends a migration: what is left of ours in AWS is the instance, its
// volumes and the points that are kept. There is no way back from it.
func (l *Launcher) Finalize(ctx context.Context, j *Job, e Ending) error {
	if err := j.Finalizable(e.Force); err != nil {
		return err
	}
	r := l.start(j, Source{})
	j.State = StateFinishing
	return r.conclude(ctx, StateFinalized, EventFinalizeStart, EventFinalizeEnd, EventFinalizeFail, func() error { return r.finalize(ctx, e) })
}

func (r *run) finalize(ctx context.Context, e Ending) error {
	if err := r.seeInstance(ctx); err != nil {
		return err
	}
	if !r.world.alive() {
		return refuse("finalize "+r.job.Request.VMName, "revert instead, or launch again", "its cutover instance %s is gone, and the points may be all there is", r.job.Instance)
	}
	var kept []transfer.SnapshotID
	steps := []struct {
		name StepName
		text string
		when bool
		do   func(context.Context) error
	}{
		{StepEndSync, "end the replication", e.EndReplication != nil, func(ctx context.Context) error { return e.EndReplication(ctx) }},
		{StepEndTests, "end tests", true, r.endOthers},
		{StepClean, "remove images, temporary volumes and conversions", true, func(ctx context.Context) error {
			keep := r.job.Request.Settings.KeepConv
			return errors.Join(r.teardown(ctx, spared{instance: r.world.Instance.ID, conv: keep}), r.dropConversions(ctx, keep))
		}},
		{StepPrune, "delete recovery points", e.Prune != nil, func(ctx context.Context) (err error) {
			kept, err = e.Prune(ctx)
			return err
		}},
		{StepTracking, "turn changed block tracking off", e.StopTracking != nil, func(ctx context.Context) error { return e.StopTracking(ctx) }},
		{StepInventory, "look what is left", true, func(ctx context.Context) error { return r.leftovers(ctx, e.Prune != nil, kept) }},
	}
	for _, s := range steps {
		if !s.when {
			continue
		}
		if err := r.step(ctx, s.name, s.text, s.do); err != nil {
			return err
		}
	}
	return nil
}

// endOthers ends every other launch of the VM.
func (r *run) endOthers(ctx context.Context) error {
	inventory, err := r.Inventory(ctx, r.job.Request.VM)
	if err != nil {
		return err
	}
	for _, old := range JobsOf(inventory) {
		if old.ID == r.job.ID || old.State == StateFinalized {
			continue
		}
		if old.Request.Purpose == ForCutover && old.Instance != "" && old.State != StateReverted {
			return refuse("finalize "+r.job.Request.VMName, "finalize or revert that one first", "instance %s of cutover %s exists as well", old.Instance, old.ID)
		}
		if err := r.start(&old, Source{}).teardown(ctx, spared{}); err != nil {
			return fmt.Errorf("end %s: %w", old.ID, err)
		}
	}
	return r.releaseAll(ctx, inventory)
}

// releaseAll takes away marks of launches of which nothing else is left: they
// crashed between the mark and the first thing that they made.
func (r *run) releaseAll(ctx context.Context, inventory []Resource) error {
	for _, res := range inventory {
		if len(res.InUse) == 0 || res.Kind != KindSnapshot && res.Kind != KindConversion {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(res.InUse), func(u string) bool { return isJob(u) && u != string(r.job.ID) })
		if len(rest) == len(res.InUse) {
			continue
		}
		if err := r.setUsers(ctx, transfer.SnapshotID(res.ID), rest); err != nil {
			return err
		}
	}
	return nil
}

// dropConversions deletes the conversions of all points of the VM that nothing
// uses: no launch will come any more. Drafts are the reaper's.
func (r *run) dropConversions(ctx context.Context, keep bool) error {
	if keep {
		return nil
	}
	inventory, err := r.Inventory(ctx, r.job.Request.VM)
	for _, res := range inventory {
		if res.Kind == KindConversion && res.State == string(transfer.Completed) && len(res.InUse) == 0 {
			err = errors.Join(err, r.remove(ctx, res, nil))
		}
	}
	return err
}

// isJob: others may have marked snapshots as well, in their own words.
func isJob(user string) bool { return len(user) > len("job-") && user[:len("job-")] == "job-" }

// leftovers fails where there is more of ours than there should be, and gives
// the rest into the user's hands.
func (r *run) leftovers(ctx context.Context, pruned bool, kept []transfer.SnapshotID) error {
	keep := r.world.Instance.ID
	var mine []string
	err := r.until(ctx, "finalize "+r.job.Request.VMName, r.timing.Fresh, func(ctx context.Context) (bool, string, error) {
		inventory, err := r.Inventory(ctx, r.job.Request.VM)
		if err != nil {
			return false, "", err
		}
		r.job.Left, mine = nil, nil
		var much []Resource
		for _, res := range inventory {
			r.job.Left = append(r.job.Left, res)
			switch {
			case res.Job == r.job.ID && res.of(keep):
				mine = append(mine, res.ID)
			case res.Final: // of an earlier migration
			case res.Kind == KindSnapshot && (!pruned || slices.Contains(kept, transfer.SnapshotID(res.ID))):
			case res.Kind == KindConversion && (r.job.Request.Settings.KeepConv || slices.Contains(kept, transfer.SnapshotID(res.ID))):
			default:
				much = append(much, res)
			}
		}
		return len(much) == 0, fmt.Sprintf("not clean, there still are %v", much), nil
	})
	if err != nil {
		return err
	}
	return r.tag(ctx, mine, map[string]string{tagFinal: stamp(r.now())})
}

// EndDue ends the tests of all VMs that are over, as their tags say: for a
// reaper whose jobs are lost or that never had any. It goes on after errors.
func (l *Launcher) EndDue(ctx context.Context) (ended []Job, err error) {
	inventory, err := l.Inventory(ctx, transfer.VMID{})
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, j := range JobsOf(inventory) {
		if !j.Due(l.now()) {
			continue
		}
		if err := l.EndTest(ctx, &j); err != nil {
			wrong = append(wrong, err)
			continue
		}
		ended = append(ended, j)
	}
	return ended, errors.Join(wrong...)
}
