package main

import (
	"context"
	"fmt"
	"slices"

	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
)

// preview says what an action would do; nothing is changed. known are the VM's
// jobs that are not over; in is what a cutover's forecast is made from.
func (k *launching) preview(ctx context.Context, a schedule.LaunchAction, w schedule.LaunchWish, known []launch.Job, in launch.ForecastInput) (schedule.LaunchPreview, error) {
	p := schedule.LaunchPreview{VM: k.id, VMName: k.name, Action: a}
	l, err := k.launcher()
	if err != nil {
		return p, err
	}
	switch a {
	case schedule.LaunchTest, schedule.LaunchCutover:
		err = k.previewLaunch(ctx, l, &p, w, known, in)
	default:
		err = k.previewEnd(ctx, l, &p, w, known)
	}
	if kind := transfer.KindOf(err); err != nil && kind == transfer.Permanent && ctx.Err() == nil {
		p.Problem, p.Hint = err.Error(), transfer.HintOf(err)
		return p, nil
	}
	return p, err
}

func (k *launching) previewLaunch(ctx context.Context, l *launch.Launcher, p *schedule.LaunchPreview, w schedule.LaunchWish, known []launch.Job, in launch.ForecastInput) error {
	purpose := launch.ForTest
	if p.Action == schedule.LaunchCutover {
		purpose = launch.ForCutover
	}
	var j launch.Job
	if i := slices.IndexFunc(known, func(j launch.Job) bool { return purpose == launch.ForCutover && goesOn(j) }); i >= 0 {
		j = known[i]
		p.Notes = append(p.Notes, fmt.Sprintf("it goes on with %s, which is %s", j.ID, j.State))
	} else {
		r, err := k.request(ctx, purpose, w)
		if err != nil {
			return err
		}
		j = launch.NewJob(r, k.env.Now())
	}
	seen, err := l.Preview(ctx, j)
	if err != nil {
		return err
	}
	p.Point, p.Type, p.TypeWhy, p.Subnet = j.Request.Point.Cycle, seen.Type, seen.TypeWhy, seen.World.Subnet.ID
	p.Notes = append(p.Notes, seen.Notes...)
	p.Problem, p.Hint = seen.Problem, seen.Hint
	for _, perm := range seen.Permissions {
		if !perm.Allowed && perm.Unknown == "" {
			p.Denied = append(p.Denied, perm.Action)
		}
	}
	if len(p.Denied) > 0 && p.Problem == "" {
		p.Problem, p.Hint = "EC2 denies what the launch needs", "Allow the actions in the IAM policy of these credentials."
	}
	k.steps(p, j, seen, in)
	return nil
}

// steps are those of the launch, with the forecast where the source is off
// meanwhile.
func (k *launching) steps(p *schedule.LaunchPreview, j launch.Job, seen launch.Preview, in launch.ForecastInput) {
	var f launch.Forecast
	if j.Request.Purpose == launch.ForCutover {
		f = launch.ForecastOf(j.Request, in)
		p.ToLaunch, p.Downtime, p.Unknown = schedule.Duration(f.ToLaunch), schedule.Duration(f.Total), f.Unknown
	} else {
		p.Cost = launch.EstimateOf(j.Request, seen.Type, 0, j.Request.Settings.For).Text
	}
	for _, s := range seen.Steps {
		step := schedule.LaunchStep{Name: string(s.Name), Text: s.Text}
		if s.Done {
			step.Text += " (done)"
		}
		for _, fs := range f.Steps {
			if fs.Step == s.Name {
				step.Takes, step.Basis = schedule.Duration(fs.Takes), fs.Basis
			}
		}
		p.Steps = append(p.Steps, step)
	}
}

// goesOn reports that asking for a cutover goes on with this one.
func goesOn(j launch.Job) bool {
	return j.Request.Purpose == launch.ForCutover && slices.Contains([]launch.State{launch.StateNew, launch.StateLaunching, launch.StateLaunched}, j.State)
}

// previewEnd says what would end, go back or stay.
func (k *launching) previewEnd(ctx context.Context, l *launch.Launcher, p *schedule.LaunchPreview, w schedule.LaunchWish, known []launch.Job) error {
	purpose := launch.ForCutover
	if p.Action == schedule.LaunchTestDone {
		purpose = launch.ForTest
	}
	j, err := k.openJob(ctx, l, purpose, known)
	if err != nil {
		return err
	}
	p.Point = j.Request.Point.Cycle
	step := func(name launch.StepName, format string, args ...any) {
		p.Steps = append(p.Steps, schedule.LaunchStep{Name: string(name), Text: fmt.Sprintf(format, args...)})
	}
	switch p.Action {
	case schedule.LaunchTestDone:
		step(launch.StepClean, "terminate %s and delete what the test made", orDash(j.Instance))
	case schedule.LaunchRevert:
		step(launch.StepHalt, "stop %s; what it wrote stays on its volumes and is not brought back", orDash(j.Instance))
		step(launch.StepSourceOn, "power %s on", k.name)
		if w.Discard {
			step(launch.StepClean, "terminate the instance and delete its volumes")
		}
	case schedule.LaunchFinalize:
		if err := j.Finalizable(w.Force); err != nil {
			p.Problem, p.Hint = err.Error(), transfer.HintOf(err)
		}
		step(launch.StepEndSync, "end the replication of %s; drafts and what this machine remembers are deleted", k.name)
		step(launch.StepClean, "remove tests, images, temporary volumes and conversions")
		step(launch.StepPrune, "%s", pointsLeftText(w.Points))
		if w.StopTracking {
			step(launch.StepTracking, "turn changed block tracking off")
		}
	}
	inventory, err := l.Inventory(ctx, k.id)
	for _, r := range inventory {
		p.Notes = append(p.Notes, "there is "+r.String())
	}
	return err
}

func pointsLeftText(left schedule.PointsLeft) string {
	switch left {
	case schedule.PointsAll:
		return "keep all recovery points"
	case schedule.PointsNone:
		return "delete all recovery points"
	}
	return "delete all recovery points but the one that was launched"
}
