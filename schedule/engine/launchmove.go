package engine

import (
	"slices"

	"snapferry/schedule"
)

// The words of package launch for what decides here.
const (
	purposeTest    = "test"
	purposeCutover = "cutover"
	jobReverted    = "reverted"
	jobEnding      = "ending"
)

// moveAfter is where a VM goes when a launch run of it has ended: to, if it is
// in one of from by then; "" leaves it where it is. open are its launches that
// are not over.
func moveAfter(run *schedule.LaunchRun, done bool, open []schedule.LaunchJob) (from []schedule.Lifecycle, to schedule.Lifecycle) {
	switch run.Action {
	case schedule.LaunchTest:
		if to = afterTest(run, done, open); to != "" {
			from = []schedule.Lifecycle{schedule.Testing}
		}
		return from, to
	case schedule.LaunchTestDone:
		// A VM that was found good meanwhile is ready for the cutover, and stays so.
		return step(done, schedule.Testing, "test-done")
	case schedule.LaunchCutover:
		if !done && !hasCutover(open) { // refused before anything was begun: there is nothing to go on with, nor to revert
			return []schedule.Lifecycle{schedule.CuttingOver}, schedule.ReadyForCutover
		}
		return step(done, schedule.CuttingOver, "cut-over")
	case schedule.LaunchRevert:
		return step(done, schedule.CuttingOver, "revert")
	case schedule.LaunchFinalize:
		return step(done, schedule.CutOver, "finalize")
	}
	return nil, ""
}

// step is a move of the lifecycle that is possible from is.
func step(do bool, is schedule.Lifecycle, action string) (from []schedule.Lifecycle, to schedule.Lifecycle) {
	if !do {
		return nil, ""
	}
	to, from, err := is.Next(action)
	if err != nil {
		panic(err) // constants
	}
	return from, to
}

// afterTest is where a VM goes after a test, "" to stay with it: a test that is
// up stays, also one that failed and is left to be looked at. What is gone takes
// the VM back to where it was, in so far as that needs no test.
func afterTest(run *schedule.LaunchRun, done bool, open []schedule.LaunchJob) schedule.Lifecycle {
	switch up := hasTest(open); {
	case done && !run.Wish.Prove, !done && up, done && run.Before == schedule.Testing:
		return ""
	case run.Before == schedule.ReadyForCutover:
		return schedule.ReadyForCutover
	}
	return schedule.ReadyForTest
}

func hasTest(open []schedule.LaunchJob) bool {
	return slices.ContainsFunc(open, func(j schedule.LaunchJob) bool { return j.Purpose == purposeTest })
}

// hasCutover reports that a cutover is under way: one that was reverted is not.
func hasCutover(open []schedule.LaunchJob) bool {
	return slices.ContainsFunc(open, func(j schedule.LaunchJob) bool {
		return j.Purpose == purposeCutover && j.State != jobReverted && j.State != jobEnding
	})
}
