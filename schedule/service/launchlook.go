package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"snapferry/schedule"
	"snapferry/transfer"
)

// The lengths of lists of launches.
const (
	defaultLaunches = 50
	maxLaunches     = 500
	defaultJobs     = 100
	maxJobs         = 1000
)

// PreviewLaunch is the dry run of one VM: what would be done, and why it would
// be refused. It asks AWS, through Config.Preview.
func (s *Service) PreviewLaunch(ctx context.Context, vm transfer.VMID, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error) {
	var none schedule.LaunchPreview
	if err := s.canLaunch(); err != nil {
		return none, err
	}
	if err := s.checkWish(action, &wish); err != nil {
		return none, err
	}
	if s.preview == nil {
		return none, conflict("Start it with \"snapferry run\", or name another with --server URL.", "a preview asks AWS and vCenter, and no daemon runs that could")
	}
	policies, err := s.policies(ctx)
	if err != nil {
		return none, err
	}
	c, err := s.scene(ctx, vm, wish.Point != "", policies)
	if err != nil {
		return none, err
	}
	why := s.may(c, action, &wish)
	p, err := s.preview(ctx, *c.vm, action, wish)
	switch {
	case err != nil && ctx.Err() != nil:
		return none, err
	case err != nil: // what keeps it from being tried out keeps it from being done
		p = schedule.LaunchPreview{VM: vm, VMName: c.vm.Name, Action: action, Problem: err.Error(), Hint: transfer.HintOf(err)}
	}
	if why != nil { // the first thing to put in order
		p.Problem, p.Hint = why.Error(), transfer.HintOf(why)
	}
	p.Steps = some(p.Steps)
	return p, nil
}

// LaunchRun is one launch run.
func (s *Service) LaunchRun(ctx context.Context, id int64) (schedule.LaunchRun, error) {
	if err := s.canLaunch(); err != nil {
		return schedule.LaunchRun{}, err
	}
	run, err := s.launches.LaunchRun(ctx, id)
	if errors.Is(err, schedule.ErrNotFound) {
		return run, unknown("", "there is no launch run %d", id)
	}
	return run, err
}

// LaunchRuns are those that a query chooses, newest first.
func (s *Service) LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error) {
	if err := s.canLaunch(); err != nil {
		return nil, err
	}
	if q.Limit < 0 || q.Limit > maxLaunches || q.Before < 0 {
		return nil, invalid("", "a list of launch runs has 1 to %d of them", maxLaunches)
	}
	q.Limit = cmp.Or(q.Limit, defaultLaunches)
	runs, err := s.launches.LaunchRuns(ctx, q)
	return some(runs), err
}

// LaunchJobs are those that a query chooses, newest first, without Doc.
func (s *Service) LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) {
	if err := s.canLaunch(); err != nil {
		return nil, err
	}
	if q.Limit < 0 || q.Limit > maxJobs {
		return nil, invalid("", "a list of launches has 1 to %d of them", maxJobs)
	}
	q.Limit = cmp.Or(q.Limit, defaultJobs)
	jobs, err := s.launches.LaunchJobs(ctx, q, false)
	return some(jobs), err
}

// LaunchJob is one launch, whole.
func (s *Service) LaunchJob(ctx context.Context, id string) (schedule.LaunchJob, error) {
	if err := s.canLaunch(); err != nil {
		return schedule.LaunchJob{}, err
	}
	job, err := s.launches.LaunchJob(ctx, id)
	if errors.Is(err, schedule.ErrNotFound) {
		return job, unknown("", "there is no launch %q", id)
	}
	return job, err
}

// activeLaunches are the launch runs that have not ended, by VM.
func (s *Service) activeLaunches(ctx context.Context) (map[transfer.VMID]*schedule.LaunchRun, error) {
	if s.launches == nil {
		return nil, nil
	}
	all := map[transfer.VMID]*schedule.LaunchRun{}
	q := schedule.LaunchQuery{Active: true, Limit: maxLaunches}
	for {
		runs, err := s.launches.LaunchRuns(ctx, q)
		if err != nil {
			return nil, fmt.Errorf("read the launch runs: %w", err)
		}
		for i := range runs {
			all[runs[i].VM] = &runs[i]
		}
		if len(runs) < maxLaunches {
			return all, nil
		}
		q.Before = runs[len(runs)-1].ID
	}
}

// addLaunches completes what is known of a VM.
func (s *Service) addLaunches(ctx context.Context, d *schedule.VMDetail) (err error) {
	d.LaunchJobs = []schedule.LaunchJob{}
	if s.launches == nil {
		return nil
	}
	if d.LaunchRun, err = s.activeLaunch(ctx, d.ID); err != nil {
		return err
	}
	jobs, err := s.launches.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &d.ID, Open: true, Limit: defaultJobs}, false)
	d.LaunchJobs = some(jobs)
	return err
}

// addProveCosts says of each policy that proves points what that costs with the
// VMs that it gets.
func (s *Service) addProveCosts(ctx context.Context, rows []schedule.PolicyRow) error {
	proves := false
	for i := range rows {
		proves = proves || rows[i].Prove != nil
	}
	if s.proveCost == nil || !proves {
		return nil
	}
	f, err := s.fleet(ctx)
	if err != nil {
		return err
	}
	ps, of := bare(rows), map[string][]schedule.VM{}
	for i := range f.vms {
		vm := &f.vms[i].VM
		if name, _ := schedule.Assign(ps, vm); vm.Lifecycle.Replicates() {
			of[name] = append(of[name], *vm)
		}
	}
	for i := range rows {
		if p := rows[i].Prove; p != nil {
			rows[i].ProveCost = s.proveCost(p.Every.Std(), of[rows[i].Name])
		}
	}
	return nil
}
