package service

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"

	"snapferry/schedule"
	"snapferry/transfer"
)

// The words of LaunchJob that decide; they are package launch's.
const (
	purposeTest    = "test"
	purposeCutover = "cutover"

	jobLaunching  = "launching"
	jobNew        = "new"
	jobReverting  = "reverting"
	jobReverted   = "reverted"
	jobEnding     = "ending"
	jobFinalizing = "finalizing"
)

// scene is what decides whether an action on a VM may begin.
type scene struct {
	vm   *schedule.VM
	run  *schedule.LaunchRun  // that has not ended, or nil
	jobs []schedule.LaunchJob // that are not over, newest first
	// points of the VM, only where one is asked for by name.
	points []schedule.PointRow
	// exclude are the disks that its policy leaves out.
	exclude []string
}

// open is the newest job for a purpose that is not over, or nil.
func (c *scene) open(purpose string) *schedule.LaunchJob {
	for i := range c.jobs {
		if c.jobs[i].Purpose == purpose && !c.jobs[i].Over {
			return &c.jobs[i]
		}
	}
	return nil
}

// may says why an action cannot begin, with the verb to use next as its hint.
// It is pure.
func (c *scene) may(a schedule.LaunchAction, w *schedule.LaunchWish) error {
	if c.run != nil && !same(c.run, a, w) {
		return busy(c.run)
	}
	switch a {
	case schedule.LaunchTest:
		return c.mayTest(w)
	case schedule.LaunchTestDone:
		return c.mayEndTest()
	case schedule.LaunchCutover:
		return c.mayCutOver()
	case schedule.LaunchRevert:
		return c.mayRevert(w)
	}
	return c.mayFinalize(w)
}

// same reports that a run is what is asked for, in every part.
func same(run *schedule.LaunchRun, a schedule.LaunchAction, w *schedule.LaunchWish) bool {
	have, err := json.Marshal(run.Wish) // settings that are nil or empty are the same
	if err != nil {
		return false
	}
	want, err := json.Marshal(w)
	return err == nil && run.Action == a && bytes.Equal(have, want)
}

func busy(run *schedule.LaunchRun) error {
	return conflict("Wait until it has ended, or cancel it first.", "%s of %s is %s (launch run %d)", run.Action, run.VMName, run.State, run.ID)
}

// step asks the lifecycle; the error's hint is how to get where it can be done.
func (c *scene) step(a schedule.LaunchAction) error {
	_, from, err := c.vm.Lifecycle.Next(string(a))
	if err == nil {
		return nil
	}
	return conflict(c.hint(a), "%s needs a VM that is %s, and %s is %s", a, join(from, " or "), c.vm.Name, c.life())
}

func (c *scene) life() schedule.Lifecycle {
	if c.vm.Lifecycle == "" {
		return schedule.NotReady
	}
	return c.vm.Lifecycle
}

// hint is the verb that gets a VM on towards an action that is not possible
// yet.
func (c *scene) hint(a schedule.LaunchAction) string {
	name := shellWord(c.vm.Name)
	before := "Cut it over first: snapferry cutover " + name
	switch c.life() {
	case schedule.NotReady:
		return "Replicate it first: snapferry sync " + name
	case schedule.ReadyForTest:
		if a == schedule.LaunchCutover {
			return "Test it (snapferry test " + name + "), and say that it is good: snapferry mark " + name + " --as ready-for-cutover"
		}
		return before
	case schedule.Testing:
		if a == schedule.LaunchCutover {
			return "Say that its test is good: snapferry mark " + name + " --as ready-for-cutover"
		}
		return before
	case schedule.ReadyForCutover:
		return before
	case schedule.CuttingOver:
		return "Go on with its cutover (snapferry cutover " + name + "), or back: snapferry revert " + name
	case schedule.CutOver:
		return "End its migration (snapferry finalize " + name + "), or go back: snapferry revert " + name
	}
	return "Have it replicated again first: snapferry mark " + name + " --as reconnect"
}

func (c *scene) here() error {
	if c.vm.Gone {
		return conflict("", "%s is not in vCenter any more", c.vm.Name)
	}
	return nil
}

func (c *scene) hasPoint() error {
	if c.vm.Point.Cycle == "" {
		return conflict("Replicate it first: snapferry sync "+shellWord(c.vm.Name), "%s has no complete recovery point", c.vm.Name)
	}
	return nil
}

func (c *scene) mayTest(w *schedule.LaunchWish) error {
	for _, check := range []func() error{c.here, c.hasPoint, func() error { return c.step(schedule.LaunchTest) }} {
		if err := check(); err != nil {
			return err
		}
	}
	suspect, which := c.vm.Point.Suspect, "the newest point"
	if w.Point != "" {
		i := slices.IndexFunc(c.points, func(p schedule.PointRow) bool { return p.Cycle == w.Point })
		switch {
		case i < 0:
			return conflict("snapferry points "+shellWord(c.vm.Name)+" lists those that there are.", "%s has no point %q", c.vm.Name, w.Point)
		case !c.points[i].Complete:
			return conflict("Choose another one: snapferry points "+shellWord(c.vm.Name), "point %s of %s is not complete", w.Point, c.vm.Name)
		}
		suspect, which = c.points[i].Suspect, "point "+string(w.Point)
	}
	if suspect != "" && !w.Force {
		return conflict("Choose another point, or force the test.", "%s of %s is in doubt: %s", which, c.vm.Name, suspect)
	}
	return nil
}

// mayEndTest asks for the test itself: a VM that was marked meanwhile has one,
// too.
func (c *scene) mayEndTest() error {
	if c.open(purposeTest) != nil {
		return nil
	}
	hint := ""
	if c.life() == schedule.Testing {
		hint = "To take its state back: snapferry mark " + shellWord(c.vm.Name) + " --as ready-for-test"
	}
	return conflict(hint, "%s has no test that could be ended", c.vm.Name)
}

// mayCutOver lets one that failed go on, too.
func (c *scene) mayCutOver() error {
	if err := c.here(); err != nil {
		return err
	}
	if err := c.hasPoint(); err != nil {
		return err
	}
	job, name := c.open(purposeCutover), shellWord(c.vm.Name)
	switch {
	case job != nil && job.State == jobReverting:
		return conflict("Finish that first: snapferry revert "+name, "the cutover of %s is being reverted", c.vm.Name)
	case job != nil && job.State == jobFinalizing:
		return conflict("Finish that first: snapferry finalize "+name, "the migration of %s is being finalized", c.vm.Name)
	}
	if err := c.step(schedule.LaunchCutover); err != nil {
		return err
	}
	if _, _, err := transfer.ChooseDisks(c.vm.VM, c.exclude); err != nil { // there could be no final sync
		return conflict(transfer.HintOf(err), "%v", err)
	}
	return nil
}

func (c *scene) mayRevert(w *schedule.LaunchWish) error {
	job, name := c.open(purposeCutover), shellWord(c.vm.Name)
	moved := c.life() == schedule.CuttingOver || c.life() == schedule.CutOver
	reverted := job != nil && (job.State == jobReverted || job.State == jobEnding)
	switch {
	case job != nil && job.State == jobFinalizing:
		return conflict("Finish that: snapferry finalize "+name, "the migration of %s is being finalized: there is no way back", c.vm.Name)
	case reverted && !moved && !w.Discard:
		return conflict("The next cutover ends what is left of it; to do so now: snapferry revert "+name+" --discard", "the cutover of %s was reverted already", c.vm.Name)
	case reverted && !moved:
		return nil // the source is not touched
	case !moved && (job == nil || (job.State != jobNew && job.State != jobLaunching && job.State != jobReverting)):
		return conflict("", "%s has no cutover that could be reverted: it is %s", c.vm.Name, c.life())
	case c.vm.Gone:
		return conflict("", "%s is not in vCenter any more: there is no source to go back to", c.vm.Name)
	}
	return nil
}

// mayFinalize lets one that failed go on, and a cutover whose checks failed be
// found good by a person. It does not ask whether the source is
// still in vCenter: some delete it first.
func (c *scene) mayFinalize(w *schedule.LaunchWish) error {
	job := c.open(purposeCutover)
	switch {
	case job != nil && job.State == jobFinalizing:
		return nil
	case c.life() == schedule.Disconnected:
		return conflict("", "%s is disconnected, and has no cutover that could be finalized", c.vm.Name)
	case c.life() == schedule.CuttingOver && !(w.Force && job != nil):
		return conflict(c.hint(schedule.LaunchFinalize)+". Where its instance was found good, force the finalization.", "the cutover of %s has not come to its end", c.vm.Name)
	}
	return c.step(schedule.LaunchFinalize)
}

// mayDisconnect keeps a VM whose launches cost money from being forgotten.
func (c *scene) mayDisconnect() error {
	name := shellWord(c.vm.Name)
	if c.run != nil {
		return busy(c.run)
	}
	if c.open(purposeTest) != nil {
		return conflict("End it first: snapferry test "+name+" --done", "a test of %s is open", c.vm.Name)
	}
	switch job := c.open(purposeCutover); {
	case job == nil:
		return nil
	case job.State == jobReverted || job.State == jobEnding:
		return conflict("End its instance first: snapferry revert "+name+" --discard", "the instance of a reverted cutover of %s is left", c.vm.Name)
	}
	return conflict("Finalize it (snapferry finalize "+name+") or revert it (snapferry revert "+name+") first.", "a cutover of %s is open", c.vm.Name)
}

var plainWord = regexp.MustCompile(`^[\pL\pN][\pL\pN._/-]*$`)

// shellWord is a name as one types it behind a verb.
func shellWord(name string) string {
	if plainWord.MatchString(name) {
		return name
	}
	return strconv.Quote(name)
}
