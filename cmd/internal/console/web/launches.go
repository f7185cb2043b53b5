package web

import (
	"context"
	"errors"
	"slices"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Launches is what the pages ask of launches: the reading half of
// console.LaunchBackend, method for method. What is wanted goes to the API.
type Launches interface {
	// PreviewLaunch may take many seconds: it asks AWS.
	PreviewLaunch(ctx context.Context, vm transfer.VMID, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error)
	LaunchRuns(ctx context.Context, q schedule.LaunchQuery) ([]schedule.LaunchRun, error)
	LaunchJobs(ctx context.Context, q schedule.LaunchJobQuery) ([]schedule.LaunchJob, error) // without Doc
	LaunchJob(ctx context.Context, id string) (schedule.LaunchJob, error)                    // whole
}

// launchOffer is an action that is possible now, as a button that opens a
// dialog.
type launchOffer struct {
	Dialog, Label string
	Class         string // of the button, beside "button"
}

// launchPart is how a VM stands in what concerns its launches.
type launchPart struct {
	Path   []lifeStep
	Offers []launchOffer
	Active *schedule.LaunchRun // what has not ended
	Failed *schedule.LaunchRun // the last one, where it failed and nothing came after
	Open   []schedule.LaunchJob
	Past   []schedule.LaunchJob
}

// lifeStep is a step of the way to AWS.
type lifeStep struct {
	Word          word
	Done, Current bool
}

// lifePath is the whole way, and where a VM stands on it.
func lifePath(l schedule.Lifecycle) []lifeStep {
	if l == "" {
		l = schedule.NotReady
	}
	all := schedule.Lifecycles()
	path := make([]lifeStep, len(all))
	at := len(all) // one that this console does not know is before no step
	for i, s := range all {
		if s == l {
			at = i
		}
	}
	for i, s := range all {
		w := lifeWords(s)
		if s == schedule.Disconnected {
			w.Label = "Finalized or disconnected"
		}
		path[i] = lifeStep{Word: w, Done: at < len(all) && i < at, Current: i == at}
	}
	return path
}

// launchOffers are the actions that are possible where a VM stands, by the
// lifecycle's own rules and by what is open in AWS. While something is under
// way nothing is but to cancel that. Whether it may begin the service decides.
func launchOffers(l schedule.Lifecycle, active bool, open []schedule.LaunchJob) []launchOffer {
	if active {
		return []launchOffer{{"launch-cancel", "Cancel the launch run…", ""}}
	}
	can := func(action schedule.LaunchAction) bool {
		_, _, err := l.Next(string(action))
		return err == nil
	}
	test, cutover := openJob(open, "test"), openJob(open, "cutover")
	state, launched := "", false
	if cutover != nil {
		state, launched = cutover.State, cutover.Instance != ""
	}
	settled := state != "reverting" && state != "finalizing"
	half := state == "new" || state == "launching" || state == "reverting"
	primary := func(when bool) string { return map[bool]string{true: "primary"}[when] }
	var out []launchOffer
	add := func(when bool, dialog, label, class string) {
		if when {
			out = append(out, launchOffer{dialog, label, class})
		}
	}
	add(can(schedule.LaunchTest) && test == nil, "launch-test", "Launch test…", primary(l == schedule.ReadyForTest))
	add(can(schedule.LaunchTest) && test != nil, "launch-test", "Launch another test…", "")
	add(test != nil, "launch-test-done", "End test…", "")
	add(l == schedule.ReadyForTest || l == schedule.Testing, "ready-for-cutover", "Mark ready for cutover…", primary(l == schedule.Testing))
	add(l == schedule.ReadyForCutover || l == schedule.Testing && test == nil, "ready-for-test", "Back to ready for test…", "")
	add(settled && l == schedule.ReadyForCutover, "launch-cutover", "Cut over…", "primary")
	add(settled && l == schedule.CuttingOver, "launch-cutover", "Go on with the cutover…", "primary")
	add(settled && can(schedule.LaunchFinalize) && (l == schedule.CutOver || launched), "launch-finalize", "Finalize…", "danger-quiet")
	add(state == "finalizing", "launch-finalize", "Go on with finalizing…", "primary")
	add(state != "finalizing" && (can(schedule.LaunchRevert) || half), "launch-revert", "Revert…", "danger-quiet")
	add(l == schedule.ReadyForCutover && (state == "reverted" || state == "ending"), "launch-discard", "Delete the reverted instance…", "danger-quiet")
	return out
}

func openJob(open []schedule.LaunchJob, purpose string) *schedule.LaunchJob {
	for i := range open {
		if open[i].Purpose == purpose && !open[i].Over {
			return &open[i]
		}
	}
	return nil
}

const (
	// jobsOfVM are on a VM's page: a test a week for half a year.
	jobsOfVM = 26
	// jobsListed are on one page of the list of launches.
	jobsListed = 100
	// runsLooked are the launch runs that are read of a VM to find those of one
	// job, and of all to show what is under way.
	runsLooked = 100
)

// launchOf is a VM's part of the page; nil where there is no launch side.
func (s *server) launchOf(ctx context.Context, v schedule.VM) (*launchPart, error) {
	if s.Launches == nil {
		return nil, nil
	}
	runs, err := s.Launches.LaunchRuns(ctx, schedule.LaunchQuery{VM: &v.ID, Limit: 10})
	if errors.Is(err, schedule.ErrConflict) {
		return nil, nil // a service that launches nothing
	}
	if err != nil {
		return nil, err
	}
	jobs, err := s.Launches.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &v.ID, Limit: jobsOfVM})
	if err != nil {
		return nil, err
	}
	p := &launchPart{Path: lifePath(v.Lifecycle)}
	for i := range runs {
		if !runs[i].State.Ended() {
			p.Active = &runs[i]
			break
		}
	}
	if p.Active == nil && len(runs) > 0 && runs[0].State == schedule.RunFailed {
		p.Failed = &runs[0]
	}
	for _, j := range jobs {
		if j.Over {
			p.Past = append(p.Past, j)
		} else {
			p.Open = append(p.Open, j)
		}
	}
	if f := p.Failed; f != nil && slices.ContainsFunc(p.Open, func(j schedule.LaunchJob) bool { return j.ID == f.Job && j.Error != "" }) {
		p.Failed = nil // the job says the same
	}
	p.Offers = launchOffers(v.Lifecycle, p.Active != nil, p.Open)
	return p, nil
}
