package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
)

// launchWords are an action in events: its kinds, none where there is nothing
// to tell, and the words for what it does.
type launchWords struct {
	start, end, fail schedule.EventKind
	doing, done      string
}

var launchEvents = map[schedule.LaunchAction]launchWords{
	schedule.LaunchTest:     {schedule.EventTestStart, schedule.EventTestEnd, schedule.EventTestFail, "test of %s", "the test instance of %s is up"},
	schedule.LaunchTestDone: {"", schedule.EventTestTerminated, schedule.EventTerminateFail, "ending the test of %s", "the test of %s was ended"},
	schedule.LaunchCutover:  {schedule.EventCutoverStart, schedule.EventCutoverEnd, schedule.EventCutoverFail, "cutover of %s", "%s is cut over"},
	schedule.LaunchRevert:   {schedule.EventRevertStart, schedule.EventRevertEnd, schedule.EventRevertFail, "revert of %s", "the cutover of %s was reverted"},
	schedule.LaunchFinalize: {schedule.EventFinalizeStart, schedule.EventFinalizeEnd, schedule.EventFinalizeFail, "finalization of %s", "the migration of %s is finalized"},
}

// event tells everybody something about this launch run.
func (l *launching) event(ctx context.Context, kind schedule.EventKind, text string) {
	l.say(ctx, kind, text, "", "")
}

func (l *launching) say(ctx context.Context, kind schedule.EventKind, text, problem, hint string) {
	l.e.record(context.WithoutCancel(ctx), schedule.Event{Kind: kind, VM: l.run.VM, VMName: l.vm.Name, Actor: string(l.e.Appliance), Text: text},
		schedule.LaunchTold{LaunchRun: l.run.ID, Action: l.run.Action, Job: l.saved().ID, Wave: l.run.Wave, Trigger: l.run.Trigger, Prove: l.run.Wish.Prove,
			Epoch: l.run.Epoch, Error: problem, Hint: hint})
}

// began says that the work is about to begin.
func (l *launching) began() {
	w := launchEvents[l.run.Action]
	text := fmt.Sprintf(w.doing, l.vm.Name) + " began"
	if l.run.Epoch > 1 {
		text = fmt.Sprintf(w.doing, l.vm.Name) + fmt.Sprintf(" is carried on after an interruption; attempt %d", l.run.Epoch)
	}
	l.e.Log.Info("launching", "run", l.run.ID, "action", l.run.Action, "vm", l.vm.Name, "epoch", l.run.Epoch)
	if w.start != "" {
		l.event(l.ctx, w.start, text)
	}
}

// moved tells of a new state of the lifecycle.
func (l *launching) moved(ctx context.Context, from, to schedule.Lifecycle) {
	l.e.record(context.WithoutCancel(ctx), schedule.Event{Kind: schedule.EventLifecycle, VM: l.run.VM, VMName: l.vm.Name, Actor: string(l.e.Appliance),
		Text: fmt.Sprintf("%s is %s", l.vm.Name, to)}, map[string]any{"from": from, "to": to})
}

// announce records the events of an end and settles the alarms about it.
func (l *launching) announce(ctx context.Context, end schedule.LaunchEnd, open []schedule.LaunchJob) {
	w, name := launchEvents[l.run.Action], l.vm.Name
	l.e.Log.Info("launch run ended", "run", l.run.ID, "action", l.run.Action, "vm", name, "state", end.State, "error", end.Error)
	switch end.State {
	case schedule.RunDone:
		l.event(ctx, w.end, fmt.Sprintf(w.done, name)+l.downtime())
		if l.run.Wish.Prove {
			l.event(ctx, schedule.EventBootProved, fmt.Sprintf("a recovery point of %s booted and passed its checks", name))
		}
	case schedule.RunCancelled:
		l.event(ctx, schedule.EventLaunchCancelled, fmt.Sprintf(w.doing, name)+" was cancelled")
	default:
		l.say(ctx, w.fail, fmt.Sprintf(w.doing, name)+" failed: "+end.Error, end.Error, end.Hint)
	}
	if slices.Contains(end.From, l.vm.Lifecycle) && end.To != l.vm.Lifecycle {
		// Not what somebody else has set since then.
		if vm, err := l.e.Store.VM(ctx, l.run.VM); err == nil && vm.Lifecycle == end.To {
			l.moved(ctx, l.vm.Lifecycle, end.To)
		}
	}
	for _, key := range settledBy(&l.run, end) {
		l.e.clear(ctx, key+l.run.VM.String(), name)
	}
	if a, ok := l.alarm(end, open); ok {
		a.Kind, a.VM, a.VMName = alarmKinds[a.Key], l.run.VM, name
		a.Key += l.run.VM.String()
		l.e.raise(ctx, a)
	}
}

// downtime is that of a cutover, in words.
func (l *launching) downtime() string {
	j := l.saved()
	if l.run.Action != schedule.LaunchCutover || j.Downtime <= 0 {
		return ""
	}
	return fmt.Sprintf(", %v after the shutdown of the source", j.Downtime.Std().Round(time.Second))
}

// The alarms that launches raise, by what they are about; the VM comes behind.
const (
	aboutCutover = "cutover/"
	aboutTest    = "test-left/"
	aboutProof   = "proof/"
)

var alarmKinds = map[string]schedule.AlarmKind{
	aboutCutover: schedule.AlarmCutover, aboutTest: schedule.AlarmTestLeft, aboutProof: schedule.AlarmProof,
}

// settledBy are the alarms that the end of a launch run takes away.
func settledBy(run *schedule.LaunchRun, end schedule.LaunchEnd) []string {
	if end.State != schedule.RunDone {
		if run.Action == schedule.LaunchCutover && end.To != "" {
			return []string{aboutCutover} // nothing is half done
		}
		return nil
	}
	switch run.Action {
	case schedule.LaunchTest:
		return []string{aboutTest, aboutProof}
	case schedule.LaunchTestDone:
		return []string{aboutTest}
	case schedule.LaunchCutover, schedule.LaunchRevert, schedule.LaunchFinalize:
		return []string{aboutCutover}
	}
	return nil
}

// alarm is what a person has to see to, if the run left something.
func (l *launching) alarm(end schedule.LaunchEnd, open []schedule.LaunchJob) (a schedule.Alarm, ok bool) {
	failed := end.State == schedule.RunFailed
	how := " stopped half way: "
	half := hasCutover(open) && (l.vm.Lifecycle == schedule.CuttingOver || l.vm.Lifecycle == schedule.CutOver)
	what := fmt.Sprintf(launchEvents[l.run.Action].doing, l.vm.Name)
	switch {
	case end.State == schedule.RunDone:
	case l.run.Action == schedule.LaunchCutover && half:
		return schedule.Alarm{Key: aboutCutover, Text: what + how + end.Error,
			Hint: hint(end.Hint, "The source may be off, and is not powered on by itself: run the cutover again to go on, or revert it.")}, true
	case l.run.Action == schedule.LaunchRevert && half:
		return schedule.Alarm{Key: aboutCutover, Text: what + how + end.Error,
			Hint: hint(end.Hint, "Source and instance may both be off: run the revert again.")}, true
	case l.run.Action == schedule.LaunchTestDone && failed && hasTest(open):
		return schedule.Alarm{Key: aboutTest, Text: what + " failed: " + end.Error,
			Hint: hint(end.Hint, "Its instance and volumes cost money until it is ended; that is tried again now and then.")}, true
	case l.run.Wish.Prove && failed:
		return schedule.Alarm{Key: aboutProof, Text: fmt.Sprintf("a recovery point of %s could not be proved to boot: %s", l.vm.Name, end.Error),
			Hint: hint(end.Hint, "Its launch has the console's output. The next proof is tried in a day; a test that goes well settles it, too.")}, true
	}
	return a, false
}

// hint is the launch's own, before what can be said in general.
func hint(own, general string) string {
	if own == "" {
		return general
	}
	return own + " " + general
}
