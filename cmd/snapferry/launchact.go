package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// act does an action, or goes on with it where an earlier attempt stopped.
// known are the VM's jobs that are not over, newest first; begun is the one that
// the earlier attempt made, "" for none. It returns the job as it is then, also
// beside an error.
func (k *launching) act(ctx context.Context, a schedule.LaunchAction, w schedule.LaunchWish, known []launch.Job, begun launch.JobID) (launch.Job, error) {
	l, err := k.launcher()
	if err != nil {
		return launch.Job{}, err
	}
	switch a {
	case schedule.LaunchTest:
		return k.test(ctx, l, w, known, begun)
	case schedule.LaunchTestDone:
		return k.endTests(ctx, l, known)
	case schedule.LaunchCutover:
		return k.cutover(ctx, l, w, known)
	case schedule.LaunchRevert:
		return k.revert(ctx, l, w, known)
	case schedule.LaunchFinalize:
		return k.finalize(ctx, l, w, known)
	}
	return launch.Job{}, fmt.Errorf("%w: %q is no action of a launch", schedule.ErrInvalid, a)
}

// test launches a point, or goes on with that.
func (k *launching) test(ctx context.Context, l *launch.Launcher, w schedule.LaunchWish, known []launch.Job, begun launch.JobID) (launch.Job, error) {
	if i := slices.IndexFunc(known, func(j launch.Job) bool { return j.ID == begun }); begun != "" && i >= 0 {
		j := known[i]
		err := k.testJob(ctx, l, w, &j)
		return j, err
	}
	r, err := k.request(ctx, launch.ForTest, w)
	if err != nil {
		return launch.Job{}, err
	}
	j := launch.NewJob(r, k.env.Now())
	for _, old := range known {
		if !crashedTest(old) {
			continue
		}
		if sameTest(old.Request, r) && (old.State != launch.StateEnding || w.Prove) {
			j = old
			break
		}
		// EC2 may not show yet what it was asked for last, which ending it waits
		// for, and looking for earlier launches does not.
		if err := l.EndTest(ctx, &old); err != nil {
			return old, err
		}
	}
	err = k.testJob(ctx, l, w, &j)
	return j, errors.Join(err, k.retire(ctx, l, known, j))
}

// crashedTest: whoever worked on it has neither done so nor failed.
func crashedTest(j launch.Job) bool {
	return j.Request.Purpose == launch.ForTest && j.Error == "" && slices.Contains([]launch.State{launch.StateNew, launch.StateLaunching, launch.StateEnding}, j.State)
}

// sameTest reports whether asking for b goes on with a.
func sameTest(a, b launch.Request) bool {
	return a.Point.Cycle == b.Point.Cycle && a.Force == b.Force && sameSettings(a.Settings, b.Settings)
}

// sameSettings compares them as the book has them, where empty and none are the
// same.
func sameSettings(a, b launch.Settings) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// retire ends the earlier jobs for the same purpose: what they had made is gone,
// and of those that made nothing a launch does not know that they marked their
// point.
func (k *launching) retire(ctx context.Context, l *launch.Launcher, known []launch.Job, by launch.Job) error {
	if ctx.Err() != nil || !slices.ContainsFunc(by.Records, func(r launch.Record) bool { return r.Step == launch.StepPrevious && !r.Ended.IsZero() }) {
		return nil
	}
	var errs []error
	for _, old := range known {
		if old.ID == by.ID || old.Request.Purpose != by.Request.Purpose {
			continue
		}
		if old.State == launch.StateLaunched || old.State == launch.StateReverted {
			old.Asked = time.Time{} // all that it had asked for was seen
		}
		if old.Request.Purpose == launch.ForTest {
			errs = append(errs, l.EndTest(ctx, &old))
			continue
		}
		old.State = launch.StateReverted // or the launch would have refused to begin
		errs = append(errs, l.Discard(ctx, &old))
	}
	return errors.Join(errs...)
}

func (k *launching) testJob(ctx context.Context, l *launch.Launcher, w schedule.LaunchWish, j *launch.Job) error {
	var err error
	if j.State != launch.StateEnding { // of a proving test that crashed at its end
		err = l.Test(ctx, j)
	}
	if !w.Prove || ctx.Err() != nil {
		return err
	}
	// Nobody wants to look at it: it ends also where it failed, its console and
	// screenshot are in the job.
	failure, hint := j.Error, j.Hint
	if end := l.EndTest(ctx, j); end != nil {
		return errors.Join(err, end)
	}
	if failure != "" {
		j.Error, j.Hint = failure, hint
		return errors.Join(err, k.save(ctx, *j))
	}
	return err
}

// endTests ends every test of the VM, those too of which only AWS knows.
func (k *launching) endTests(ctx context.Context, l *launch.Launcher, known []launch.Job) (launch.Job, error) {
	first, err := k.openJob(ctx, l, launch.ForTest, known)
	if err != nil {
		return launch.Job{}, err
	}
	if err := l.EndTest(ctx, first); err != nil {
		return *first, err
	}
	for i := range known {
		if j := &known[i]; j.ID != first.ID && j.Request.Purpose == launch.ForTest {
			if err := l.EndTest(ctx, j); err != nil {
				return *j, err
			}
		}
	}
	inventory, err := l.Inventory(ctx, k.id)
	if err != nil {
		return *first, err
	}
	for _, j := range launch.JobsOf(inventory) {
		if j.Request.Purpose == launch.ForTest {
			if err := l.EndTest(ctx, &j); err != nil {
				return j, err
			}
		}
	}
	return *first, nil
}

// cutover moves the VM, or goes on with the cutover that is under way.
func (k *launching) cutover(ctx context.Context, l *launch.Launcher, w schedule.LaunchWish, known []launch.Job) (launch.Job, error) {
	for _, j := range known {
		if goesOn(j) {
			if err := k.keepsTo(j, w); err != nil {
				return j, err
			}
			j.Request.Settings.ForceOff = j.Request.Settings.ForceOff || w.ForceOff
			err := l.Cutover(ctx, &j, k.source(w))
			return j, err
		}
	}
	r, err := k.request(ctx, launch.ForCutover, w)
	if err != nil {
		return launch.Job{}, err
	}
	j := launch.NewJob(r, k.env.Now())
	err = l.Cutover(ctx, &j, k.source(w))
	return j, errors.Join(err, k.retire(ctx, l, known, j))
}

// keepsTo refuses settings that differ from those with which a cutover began:
// what exists by now was made with them.
func (k *launching) keepsTo(j launch.Job, w schedule.LaunchWish) error {
	if len(w.Settings) == 0 {
		return nil
	}
	s, err := launch.ParseSettings(k.flat(w), launch.ForCutover)
	if err != nil {
		return err
	}
	s.ForceOff = j.Request.Settings.ForceOff
	if sameSettings(s, j.Request.Settings) {
		return nil
	}
	return transfer.Fail(transfer.Permanent, "go on with cutover "+string(j.ID), errors.New("it began with other settings"),
		"Repeat it without --set to go on with those, or revert it first.")
}

func (k *launching) revert(ctx context.Context, l *launch.Launcher, w schedule.LaunchWish, known []launch.Job) (launch.Job, error) {
	j, err := k.openJob(ctx, l, launch.ForCutover, known)
	if err != nil {
		return launch.Job{}, err
	}
	if j.State != launch.StateEnding { // of an instance that is being discarded
		if err := l.Revert(ctx, j, k.source(w)); err != nil {
			return *j, err
		}
	}
	if w.Discard {
		err = l.Discard(ctx, j)
	}
	return *j, err
}

func (k *launching) finalize(ctx context.Context, l *launch.Launcher, w schedule.LaunchWish, known []launch.Job) (launch.Job, error) {
	j, err := k.openJob(ctx, l, launch.ForCutover, known)
	if err != nil {
		return launch.Job{}, err
	}
	e := launch.Ending{EndReplication: k.endReplication, Force: w.Force}
	e.Prune = func(ctx context.Context) ([]transfer.SnapshotID, error) { return k.pruneAtEnd(ctx, w.Points, *j) }
	if w.StopTracking {
		e.StopTracking = func(ctx context.Context) error { return k.vc.StopTracking(ctx, k.id) }
	}
	err = l.Finalize(ctx, j, e)
	return *j, err
}
