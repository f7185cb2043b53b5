package torture_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"snapferry/test/fault"
	"snapferry/transfer"
)

// event is one bad thing and the way back.
func (l *life) event() {
	l.betweenRuns()
	l.quiet = l.chance(0.25)
	if !l.quiet || l.chance(0.3) {
		for range 1 + l.rng.IntN(4) {
			l.write(l.rng, 1<<20)
		}
	}
	switch n := l.rng.IntN(100); {
	case n < l.led.deathShare():
		l.die()
	case n < 91:
		l.fault()
	case n < 97:
		l.otherHands()
	default:
		l.recordf("a cycle like any other")
	}
	l.quiet = l.chance(0.25)
	l.recover()
}

var steps = []transfer.Step{
	transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy, transfer.StepDetach,
	transfer.StepRelease, transfer.StepSeal, transfer.StepCommit, transfer.StepDone,
}

// deadly are the calls around which a child is killed: before the effect, or
// behind it and before the answer.
var deadly = []struct {
	aws  bool
	op   string
	most int // so many may pass
}{
	{false, "CreateSnapshot_Task", 1}, {false, "RemoveSnapshot_Task", 1}, {false, "ReconfigVM_Task", 4}, {false, "QueryChangedDiskAreas", 1},
	{true, "StartSnapshot", 2}, {true, "PutSnapshotBlock", 8}, {true, "CompleteSnapshot", 2}, {true, "CreateTags", 2},
	{true, "DescribeSnapshots", 2}, {true, "DeleteSnapshot", 1}, {false, "*", 60}, {true, "*", 40},
}

// moment picks a moment of death and adds the rule that marks it, if any.
func (l *life) moment() (moment, string) {
	switch l.rng.IntN(10) {
	case 0, 1, 2, 3:
		s := steps[l.rng.IntN(len(steps))]
		return moment{step: s}, "when " + string(s) + " begins"
	case 4, 5:
		return moment{after: time.Duration(1 + l.rng.Int64N(int64(l.lastTook)))}, "at random"
	}
	d := deadly[l.rng.IntN(len(deadly))]
	kind, when := fault.Stall, "before "
	if l.chance(0.5) {
		kind, when = fault.LostAnswer, "behind "
	}
	service := "vcenter "
	if d.aws {
		service = "aws "
	}
	what := when + service + d.op
	if d.op == "*" {
		what = when + "the k-th call to " + service
	}
	r := &rule{name: "death", aws: d.aws, rule: fault.Rule{Name: "death", Op: d.op, Kind: kind, Skip: l.rng.IntN(d.most + 1)}}
	l.set(r).Add(r.rule)
	return moment{rule: r}, strings.TrimSpace(what)
}

// die kills the child; now and then its successor too.
func (l *life) die() {
	for {
		when, what := l.moment()
		r := l.run(act{args: l.syncArgs(), when: when})
		l.clearFaults()
		l.recordf("kill -9 %s: killed %v at %s, exit %d %s", what, r.exit == -1, orDash(string(r.step)), r.exit, r.doc.Error)
		l.after(r)
		if r.exit == -1 {
			l.led.count(func() { l.led.deaths[what]++ })
			l.led.note("kill -9 "+what, string(r.step), "next sync right")
		}
		if l.chance(0.3) {
			l.saveState()
		}
		if l.bin.cleans && l.chance(0.15) {
			l.verb("clean")
		}
		if !l.chance(0.7) || l.failed {
			return
		}
		l.sweep()
	}
}

// fault runs a cycle, or a proof, into one rule or several.
func (l *life) fault() {
	r, ok := l.led.choose(func(r rule) bool {
		return (!r.lengthy() || !l.late()) && (!r.verify || len(l.completePoints()) > 0)
	})
	switch {
	case !ok:
		return
	case r.silent:
		l.silentLoss(r)
		return
	}
	rules := l.company(r)
	var args []string
	l.quiet = false
	l.writeEverywhere()
	if r.verify {
		points := l.completePoints()
		args = []string{"verify", "--yes", "--config", l.lab.Settings(), "--json", "--progress", "json", points[l.rng.IntN(len(points))].cycle}
	} else {
		args = l.syncArgs()
	}
	for _, r := range rules {
		if r.quiesce {
			args = append(args, "--quiesce="+[]string{"try", "require"}[l.rng.IntN(2)])
		}
		l.arm(r)
	}
	var also []*rule
	for i := range rules[1:] {
		also = append(also, &rules[i+1])
	}
	res := l.run(act{args: args, when: moment{rule: &r}, do: func() { l.lend(r.hand) }, also: also})
	l.judgeFaults(rules, res)
	if slices.ContainsFunc(rules, func(r rule) bool { return r.hand == "consolidate" }) { // it may have fired for each VM
		for _, vm := range l.vms {
			l.consolidate(vm.Name())
		}
	}
}

// company is a rule and others that spoil other calls of the same run: none or
// one, and up to three while many rules of a full run have not fired yet.
func (l *life) company(r rule) []rule {
	rules, ops := []rule{r}, map[string]bool{r.rule.Op: true}
	most := 1 + l.rng.IntN(2)
	if l.led.unfired() > len(catalogue())/5 {
		most = 4
	}
	for !r.slow && len(rules) < most {
		o, ok := l.led.choose(func(o rule) bool {
			return o.verify == r.verify && !o.lengthy() && !o.silent && !ops[o.rule.Op] && (r.verify || len(rules) > 1 || o.aws != r.aws)
		})
		if !ok {
			break
		}
		rules, ops[o.rule.Op] = append(rules, o), true
	}
	return rules
}

// arm puts a rule in place.
func (l *life) arm(r rule) {
	rl := r.rule
	rl.Skip = l.rng.IntN(r.skip + 1)
	if l.chance(0.3) && !r.slow && rl.Kind != fault.DeadSession {
		rl.Times = 2
	}
	l.set(&r).Add(rl)
}

// judgeFaults writes down what came of a run into rules.
func (l *life) judgeFaults(rules []rule, res result) {
	var fired []rule
	var what []string
	for _, r := range rules {
		n := l.firedNow(&r)
		what = append(what, fmt.Sprintf("%s fired %d", r.name, n))
		if n > 0 {
			fired = append(fired, r)
			l.led.count(func() { l.led.fired[r.name] += n })
		}
	}
	l.clearFaults()
	l.recordf("%s at %s: exit %d %s %v", strings.Join(what, " and "), orDash(string(res.step)), res.exit, res.doc.Error, res.doc.alarms())
	l.after(res)
	for _, r := range fired {
		how := ending(res)
		if len(fired) > 1 {
			how += " (beside another fault)"
		}
		step, second := res.fired[r.name]
		if !second && res.came {
			step = res.step
		}
		l.led.note(r.name, string(step), how)
		if r.verify && res.exit == 4 && r.rule.Kind != fault.WrongBytes {
			l.failf("verify calls a right point wrong: %s", short(res.stdout))
		}
	}
}

// writeEverywhere touches every disk, so that a cycle has puts.
func (l *life) writeEverywhere() {
	for _, vm := range l.vms {
		for _, d := range vm.Disks() {
			b := []byte(fmt.Sprint(l.rng.Uint64()))
			if _, err := d.WriteAt(b, l.rng.Int64N(d.Size()-int64(len(b)))); err != nil {
				l.failf("guest writes: %v", err)
			}
		}
	}
}

// ending says how a run ended; that what followed was right is checked behind.
func ending(r result) string {
	switch r.exit {
	case 0:
		return "retried inside"
	case 3:
		return "done with an alarm, next cycle right"
	case 1, 75:
		return "cycle failed (" + orDash(r.doc.Kind) + "), next cycle right"
	case 4:
		return "wrong bytes reported"
	}
	return fmt.Sprintf("exit %d", r.exit)
}

// lend does what a person does once a rule has fired.
func (l *life) lend(hand string) {
	if hand != "consolidate" {
		return
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); <-look.C { // the rule fires before its effect
		for _, vm := range l.lab.VCenter.State().VMs {
			if vm.ConsolidationNeeded {
				l.consolidate(vm.Name)
				return
			}
		}
	}
}

// hands are what others do to the VM or the account in the middle of a cycle.
func (l *life) hands() map[string]func() {
	vm := l.vms[l.rng.IntN(len(l.vms))]
	all := map[string]func(){
		"vCenter kills all sessions": l.lab.VCenter.KillSessions,
		"another tool's snapshot":    func() { l.takeForeign(vm) },
		"vMotion":                    func() { _ = vm.Migrate(l.lab.VCenter.Hosts()[1]) },
		"storage vMotion":            func() { _ = vm.MoveTo("vmfs2") },
		"CBT reset":                  func() { l.resetCBT(vm) },
		"drafts time out":            l.expireDrafts,
		"AWS credentials expired":    l.lab.AWS.ExpireCredentials,
	}
	if l.left() > hang { // it may be one that is being sealed
		all["newest point deleted"] = l.loseNewest
	}
	if !l.late() {
		all["our VM snapshot deleted"] = func() {
			for _, s := range vm.Snapshots() {
				if strings.HasPrefix(s.Name, "snapferry-") {
					_ = vm.RemoveSnapshot(s.Moref) // a task may be quicker
				}
			}
		}
	}
	return all
}

func (l *life) otherHands() {
	hands := l.hands()
	names := sortedKeys(hands)
	name := names[l.rng.IntN(len(names))]
	when := moment{step: steps[l.rng.IntN(len(steps)-1)]}
	res := l.run(act{args: l.syncArgs(), when: when, do: hands[name]})
	l.clearFaults()
	l.recordf("%s when %s begins: exit %d %s %v", name, when.step, res.exit, res.doc.Error, res.doc.alarms())
	if harms := l.lab.VCenter.State().Harms; len(harms) > l.harms {
		l.harms = len(harms) // of these hands, which act while a disk is attached
	}
	l.after(res)
	if name == "our VM snapshot deleted" || name == "storage vMotion" {
		l.excuse = name // the chain may need a person's consolidation
	}
	if res.came {
		l.led.note(name, string(res.step), ending(res))
	}
}

// recover runs cycles with nothing in their way: the first must be right,
// unless there is an excuse, and then the second.
func (l *life) recover() {
	for tries := 0; !l.failed; tries++ {
		l.sweep()
		r := l.run(act{args: l.syncArgs()})
		l.recordf("sync: exit %d %s %v", r.exit, r.doc.Error, r.doc.alarms())
		l.after(r)
		if r.exit == 0 {
			l.lastTook = r.took
			l.excuse = ""
			l.settled(r)
			if l.chance(0.3) {
				l.saveState()
			}
			return
		}
		if l.excuse == "" || tries > 0 {
			l.failf("a cycle with nothing in its way: exit %d\n%s\n%s", r.exit, short(r.stdout), short(r.stderr))
			return
		}
		l.recordf("excused: %s", l.excuse)
		for _, vm := range l.vms {
			l.consolidate(vm.Name())
		}
	}
}

// after is what is true after every run, however it ended.
func (l *life) after(r result) {
	l.led.count(func() { l.led.runs++ })
	l.led.suffices()
	l.led.timed(r.took, fmt.Sprintf("life %d, %.150s", l.seed, l.history[len(l.history)-1]))
	if r.hung {
		l.failf("a run did not end within %v\n%s", hang, short(r.stderr))
		return
	}
	if r.exit == 2 || strings.Contains(r.stderr, "panic:") || strings.Contains(r.stderr, "fatal error:") {
		l.failf("the child broke: exit %d\n%s\n%s", r.exit, short(r.stdout), short(r.stderr))
	}
	l.invariants()
}
