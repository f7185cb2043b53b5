package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// PowerOff returns once the VM is off; one that is off already is fine. Without
// force it asks the guest, through VMware Tools, to shut down and waits until
// ctx ends: give it a deadline. With force it pulls the plug, which loses what
// the guest has not written yet. It can be called again at any time, beside a
// shutdown that is under way too.
//
// An error is Permanent where somebody must act first: Tools do not run, a
// question is pending, the VM is suspended, the guest restarts instead. It is
// Canceled where ctx ended. It needs the privilege
// VirtualMachine.Interact.PowerOff, without force as well as with it.
func (c *Client) PowerOff(ctx context.Context, id transfer.VMID, force bool) error {
	p, err := c.power(id, "shut down the guest of "+id.Moref)
	if err != nil {
		return err
	}
	if !force {
		return p.shutDown(ctx)
	}
	p.op = "power off " + id.Moref
	return p.drive(ctx, off, func() (ref, error) {
		res, err := methods.PowerOffVM_Task(ctx, c.vim, &types.PowerOffVM_Task{This: p.vm})
		if err != nil {
			return ref{}, err
		}
		return res.Returnval, nil
	})
}

// PowerOn returns once the VM is on, whatever its guest does then; one that is on
// already is fine, one that is suspended is resumed. It needs the privilege
// VirtualMachine.Interact.PowerOn.
//
// It is PowerOnVM_Task, not PowerOnMultiVM_Task: that starts the VM on the host
// where it was, or where an automatic DRS places it. The other one only adds
// that a manual DRS answers with a recommendation instead, which is somebody's
// to apply while the VM stays off.
func (c *Client) PowerOn(ctx context.Context, id transfer.VMID) error {
	p, err := c.power(id, "power on "+id.Moref)
	if err != nil {
		return err
	}
	return p.drive(ctx, types.VirtualMachinePowerStatePoweredOn, func() (ref, error) {
		res, err := methods.PowerOnVM_Task(ctx, c.vim, &types.PowerOnVM_Task{This: p.vm})
		if err != nil {
			return ref{}, err
		}
		return res.Returnval, nil
	})
}

// power is one change of one VM's power.
type power struct {
	c  *Client
	vm ref
	op string // for errors
}

func (c *Client) power(id transfer.VMID, op string) (*power, error) {
	vm, err := c.vmRef(id)
	return &power{c: c, vm: vm, op: op}, err
}

// drive runs power tasks until the VM is as wanted: by ours, one whose answer got
// lost, or another hand's.
func (p *power) drive(ctx context.Context, want types.VirtualMachinePowerState, submit func() (ref, error)) error {
	for try := 1; ; try++ {
		now, err := p.look(ctx)
		if err != nil {
			return p.explain(err)
		}
		if now.power == want {
			return nil
		}
		if err := p.obstacle(now, want); err != nil {
			return err
		}
		err = p.c.WhileBusy(ctx, func() error {
			t, err := submit()
			if err != nil {
				return err
			}
			return p.await(ctx, t)
		})
		if err == nil || ctx.Err() != nil {
			return p.explain(err)
		}
		switch {
		case try == looks:
			return p.lastWord(ctx, want, err)
		case IsLost(err):
			// A request that was on its way when its connection died arrives yet.
			if err := p.c.UntilQuiet(ctx, p.vm); err != nil {
				return Explain(p.op, err)
			}
		case !fault.Is(err, &types.InvalidPowerState{}): // that is what another hand's doing looks like
			return p.lastWord(ctx, want, err)
		}
	}
}

// lastWord is err, unless the VM is as wanted after all.
func (p *power) lastWord(ctx context.Context, want types.VirtualMachinePowerState, err error) error {
	if now, lookErr := p.look(ctx); lookErr == nil && now.power == want {
		return nil
	}
	return p.explain(err)
}

// explain is Explain, but for what names our operation already.
func (p *power) explain(err error) error {
	var known *transfer.Error
	if errors.As(err, &known) {
		return err
	}
	return Explain(p.op, err)
}

// await waits for a power task as Await does, but no longer than until the VM
// asks something: its task does not go on before somebody has answered.
func (p *power) await(ctx context.Context, t ref) error {
	bounded, cancel := context.WithTimeout(ctx, p.c.timing.Task)
	defer cancel()
	var failed error
	err := p.c.watch(bounded, []watched{{t, []string{"info.state", "info.error"}}, {p.vm, []string{propQuestion}}}, func(v values) bool {
		switch v[t]["info.state"] {
		case types.TaskInfoStateSuccess:
			return true
		case types.TaskInfoStateError:
			failed = taskError(v[t]["info.error"])
			return true
		}
		if q := questionOf(v[p.vm][propQuestion]); q != nil {
			failed = p.asked(q)
			return true
		}
		return false
	})
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		return transfer.Fail(transfer.Retry, "wait for task "+t.Value, fmt.Errorf("it still runs after %v", p.c.timing.Task), "Look at the task in vCenter.")
	case err != nil:
		return err
	}
	return failed
}
