package vsphere

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

const (
	propPower    = "runtime.powerState"
	propBoot     = "runtime.bootTime"
	propQuestion = "runtime.question"
	propTools    = "guest.toolsRunningStatus"
	propVersion  = "guest.toolsVersionStatus2"
	propGuest    = "guest.guestState"
)

var powerProps = []string{propPower, propBoot, propQuestion, propTools, propVersion, propGuest}

// powerView is what a VM shows of its power and of what its guest does.
type powerView struct {
	power    types.VirtualMachinePowerState
	boot     time.Time // of the last power-on; a restart of the guest alone leaves it
	question *types.VirtualMachineQuestionInfo
	tools    bool // VMware Tools run and take requests
	stopped  bool // VMware Tools do not run; neither is true while they execute scripts
	absent   bool // VMware Tools are not installed
	going    bool // the guest is shutting down
}

func viewPower(v map[string]any) powerView {
	var p powerView
	p.power, _ = v[propPower].(types.VirtualMachinePowerState)
	p.boot, _ = v[propBoot].(time.Time)
	p.question = questionOf(v[propQuestion])
	p.tools = text(v[propTools]) == string(types.VirtualMachineToolsRunningStatusGuestToolsRunning)
	p.stopped = text(v[propTools]) == string(types.VirtualMachineToolsRunningStatusGuestToolsNotRunning)
	p.absent = text(v[propVersion]) == string(types.VirtualMachineToolsVersionStatusGuestToolsNotInstalled)
	p.going = text(v[propGuest]) == string(types.VirtualMachineGuestStateShuttingDown)
	return p
}

func text(v any) string { s, _ := v.(string); return s }

func questionOf(v any) *types.VirtualMachineQuestionInfo {
	switch q := v.(type) {
	case types.VirtualMachineQuestionInfo:
		return &q
	case *types.VirtualMachineQuestionInfo:
		return q
	}
	return nil
}

// bootShift is how much runtime.bootTime may move by itself: the host that tells
// it counts back from its own clock.
const bootShift = time.Minute

// startedAfter: the VM was powered on anew since it was seen as before.
func (p powerView) startedAfter(before powerView) bool {
	return !before.boot.IsZero() && p.boot.Sub(before.boot) > bootShift
}

// obstacle is what must be out of the way before the VM can become as wanted, for
// a person to deal with; nil if nothing is.
func (p *power) obstacle(now powerView, want types.VirtualMachinePowerState) error {
	switch {
	case now.question != nil:
		return p.asked(now.question)
	case now.power == types.VirtualMachinePowerStateSuspended && want == types.VirtualMachinePowerStatePoweredOff:
		return transfer.Fail(transfer.Permanent, p.op, errors.New("it is suspended: what its memory holds is not on its disks"),
			"Power it on in vCenter, which resumes it, and try again; or power it off there if what it holds may be lost.")
	}
	return nil
}

// asked puts a pending question into words. Texts come with the message's name
// before them ("msg.uuid.altered:…").
func (p *power) asked(q *types.VirtualMachineQuestionInfo) error {
	words := strings.Join(strings.Fields(q.Text), " ")
	why := fmt.Errorf("it asks a question and waits for the answer: %q", words)
	var choices []string
	for _, c := range q.Choice.ChoiceInfo {
		choices = append(choices, c.GetElementDescription().Label)
	}
	if len(choices) > 0 {
		why = fmt.Errorf("%w (%s)", why, strings.Join(choices, " / "))
	}
	hint := "In the vSphere Client: Actions > Guest OS > Answer Question. Then try again."
	if lower := strings.ToLower(words); strings.Contains(lower, "msg.uuid.") || strings.Contains(lower, "moved or copied") {
		hint = "In the vSphere Client: Actions > Guest OS > Answer Question, I Moved It: I Copied It would give it another identity and other MAC addresses. Then try again."
	}
	return transfer.Fail(transfer.Permanent, p.op, why, hint)
}

// look is the VM as it is now, in one call.
func (p *power) look(ctx context.Context) (powerView, error) {
	f, err := p.c.fetchOne(ctx, p.vm, types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: p.vm}},
		PropSet:   []types.PropertySpec{{Type: "VirtualMachine", PathSet: powerProps}},
	})
	if err != nil {
		return powerView{}, err
	}
	m := f.vms[p.vm]
	v := map[string]any{propPower: m.Runtime.PowerState, propQuestion: m.Runtime.Question}
	if b := m.Runtime.BootTime; b != nil {
		v[propBoot] = *b
	}
	if g := m.Guest; g != nil {
		v[propTools], v[propVersion], v[propGuest] = g.ToolsRunningStatus, g.ToolsVersionStatus2, g.GuestState
	}
	return viewPower(v), nil
}

// until watches the VM until seen says that it has seen enough, and returns what
// it saw last.
func (p *power) until(ctx context.Context, seen func(powerView) bool) (powerView, error) {
	var now powerView
	err := p.c.watch(ctx, []watched{{p.vm, powerProps}}, func(v values) bool {
		now = viewPower(v[p.vm])
		return seen(now)
	})
	return now, err
}
