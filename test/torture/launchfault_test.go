package torture_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"snapferry/test/fault"
)

// spoilt makes a rule for a call of AWS.
func spoilt(op string, kind fault.Kind, detail string) rule {
	return rule{aws: true, rule: fault.Rule{Op: op, Kind: kind, Detail: detail}}
}

// spoiltHere makes a rule for a call of vCenter.
func spoiltHere(op string, kind fault.Kind, detail string) rule {
	return rule{rule: fault.Rule{Op: op, Kind: kind, Detail: detail}}
}

// into does an operation with rules in its way, each of which must fire. exit is
// how it ends; one that fails is repeated by who calls.
func (l *launchLife) into(t turn, exit int, s *strike, rules ...rule) {
	if l.failed {
		return
	}
	if t.before != nil {
		t.before()
	}
	for i := range rules {
		r := &rules[i]
		r.name = strings.TrimSpace(fmt.Sprintf("%s %s %s", r.rule.Op, r.rule.Kind, r.rule.Detail))
		r.rule.Name = r.name
		l.set(r).Add(r.rule)
	}
	o := l.do(s, t.verb, t.args...)
	for i := range rules {
		n := l.firedNow(&rules[i])
		if n == 0 {
			l.failf("rule %s never fired in %s\n%s", rules[i].name, t.name, short(o.stderr))
		}
		l.recordf("%s fired %d times in %s", rules[i].name, n, t.name)
	}
	if s != nil && s.hit == "" {
		l.failf("%s never came to call %d of %s", t.name, s.n, s.op)
	}
	l.clearFaults()
	l.mustExit(o, exit, t.name)
	if exit == 0 {
		l.ended(t)
	} else {
		l.afterwards()
	}
}

// with is the turn with more arguments.
func (t turn) with(args ...string) turn {
	t.args = append(append([]string(nil), t.args...), args...)
	return t
}

// again is the turn, of which all that comes before it is there.
func (t turn) again() turn {
	t.before = nil
	return t
}

// interrupt sends what Ctrl-C does, and waits until it is heard: what the call
// then has for an effect nobody hears of.
func interrupt(p *process) {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	p.until(func() bool { return strings.Contains(p.stderr.String(), "cleaning up") })
}

const (
	interrupted = 130
	retryLater  = 75
	failedExit  = 1
)

// TestLaunchFaults: a migration that EC2 throttles, whose answers are lost, whose
// guest does not go, whose source does not start, whose instance does not boot.
func TestLaunchFaults(t *testing.T) {
	inTorture(t)
	t.Parallel()
	bin, b := build(t), readBudget(t)
	var g sync.WaitGroup
	for name, live := range map[string]func(*launchLife){"spoilt calls": (*launchLife).spoiltCalls, "power": (*launchLife).powerTroubles, "interrupted": (*launchLife).interruptedLife} {
		g.Go(func() {
			l := newLaunchLife(t, bin, "launch life: "+name, b.seed, launchWorld{})
			began := time.Now()
			live(l)
			l.close()
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("%s: %v, %v of CPU in the program\n%s", name, time.Since(began).Round(time.Millisecond), l.led.cpu.Round(time.Millisecond), strings.Join(l.history, "\n"))
		})
	}
	g.Wait()
}

// spoiltCalls: what EC2 does for a while, and what the network does to answers,
// costs time and nothing else.
func (l *launchLife) spoiltCalls() {
	l.into(l.sync(), 0, nil)
	l.into(l.test("test"), 0, nil,
		spoilt("DescribeSubnets", fault.Throttle, ""), spoilt("RegisterImage", fault.LostAnswer, ""),
		spoilt("RunInstances", fault.Error, "InsufficientInstanceCapacity"), spoilt("RunInstances", fault.LostAnswer, ""),
		spoilt("CreateTags", fault.LostAnswer, ""))
	l.into(l.test("next test"), 0, nil,
		spoilt("TerminateInstances", fault.LostAnswer, ""), spoilt("DeregisterImage", fault.Throttle, ""), spoilt("RunInstances", fault.Throttle, ""),
		spoilt("ModifyInstanceAttribute", fault.LostAnswer, ""))
	l.into(l.testDone(), 0, nil, spoilt("DeleteTags", fault.LostAnswer, ""), spoilt("DescribeVolumes", fault.Throttle, ""))
	l.into(l.cutover("cutover"), 0, nil,
		spoilt("CompleteSnapshot", fault.LostAnswer, ""), spoilt("RegisterImage", fault.Throttle, ""), spoilt("RunInstances", fault.LostAnswer, ""))
	l.into(l.revert(), 0, nil, spoilt("StopInstances", fault.LostAnswer, ""), spoiltHere("PowerOnVM_Task", fault.LostAnswer, ""))
	l.into(l.discard(), 0, nil, spoilt("DeleteVolume", fault.LostAnswer, ""))
	l.into(l.cutover("next cutover"), 0, nil, spoilt("DescribeImages", fault.Throttle, ""), spoiltHere("ShutdownGuest", fault.LostAnswer, ""))
	l.into(l.finalize(), 0, nil, spoilt("DeregisterImage", fault.LostAnswer, ""), spoilt("DeleteSnapshot", fault.Throttle, ""), spoilt("DeleteSnapshot", fault.LostAnswer, ""))
}

// powerTroubles: a guest that does not go, a power-off that fails, a session
// that ends behind it, a source that does not start again, an instance that does
// not boot.
func (l *launchLife) powerTroubles() {
	l.into(l.sync(), 0, nil)
	impatient := l.cutover("cutover").with("--set", "shutdownTimeout=1s")
	deaf := spoiltHere("ShutdownGuest", fault.Lie, "guest-ignores")
	deaf.rule.Times = -1
	l.into(impatient, retryLater, nil, deaf)
	l.power(true)
	forced := l.cutover("cutover by force").with("--force-off").again()
	l.into(forced, failedExit, nil, deaf, spoiltHere("PowerOffVM_Task", fault.TaskFault, "GenericVmConfigFault"))
	l.power(true)
	forget := &strike{op: "PowerOffVM_Task", n: 1, after: true, deed: func(*process) { l.lab.VCenter.KillSessions() }}
	l.into(forced, 0, forget, deaf)
	l.power(false)

	l.into(l.revert(), failedExit, nil, spoiltHere("PowerOnVM_Task", fault.TaskFault, "GenericVmConfigFault"))
	l.power(false)
	l.launched("cutover", "stopped")
	l.into(l.revert(), 0, nil)

	// It never passes its status checks; somebody who sees that does not wait.
	sick := l.cutover("cutover into a guest that does not boot")
	waits := l.lab.AWS.Calls()["DescribeInstanceStatus"]
	seen := &strike{op: "RunInstances", n: 1, after: true, deed: func(p *process) {
		go func() {
			p.until(func() bool { return l.lab.AWS.Calls()["DescribeInstanceStatus"] >= waits+2 })
			interrupt(p)
		}()
	}}
	l.into(sick, interrupted, seen, spoilt("RunInstances", fault.Lie, "no-boot"))
	l.must("heal the instance", l.lab.AWS.SetHealth(l.launched("cutover", "running").ID, true, true))
	l.into(sick.again(), 0, nil)
	l.into(l.finalize(), 0, nil)
}

// interruptedLife: Ctrl-C while the last delta is copied, and once more at the
// launch call, leaves nothing on the source, and a repeat goes on.
func (l *launchLife) interruptedLife() {
	l.into(l.sync(), 0, nil)
	cut := l.cutover("cutover").with("--skip-pre-sync")
	l.into(cut, interrupted, &strike{op: "ReconfigVM_Task", n: 2, after: true, deed: interrupt})
	l.power(false)
	l.quietSource()
	l.into(cut.again(), interrupted, &strike{op: "PutSnapshotBlock", n: 1, deed: interrupt})
	l.power(false)
	l.quietSource()
	l.into(cut.again(), interrupted, &strike{op: "RunInstances", n: 1, deed: interrupt})
	l.power(false)
	l.into(cut.again(), 0, nil)
	l.into(l.revert(), interrupted, &strike{op: "StopInstances", n: 1, after: true, deed: interrupt})
	l.power(false)
	l.into(l.revert(), 0, nil)
	l.into(l.cutover("next cutover"), 0, nil)
	l.into(l.finalize(), interrupted, &strike{op: "DeleteSnapshot", n: 1, deed: interrupt})
	l.into(l.finalize(), 0, nil)
}

// power: the source is on, or off.
func (l *launchLife) power(on bool) {
	if l.vm.PoweredOn() != on {
		l.failf("the source is on: %v, want %v", !on, on)
	}
}

// until waits for something that the program does, or for its end.
func (p *process) until(so func() bool) {
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-look.C:
		case <-p.ended:
			return
		}
	}
}
