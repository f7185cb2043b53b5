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

// asks is how often a guest is asked that comes up again instead of shutting down,
// as one may once that has updates to install.
const asks = 3

const (
	off = types.VirtualMachinePowerStatePoweredOff

	hintTools = "Force the power-off, or shut the guest down by hand."
	hintGuest = "Look at the VM's console for what keeps the guest. Wait longer, shut it down by hand, or force the power-off."
)

// shutDown asks the guest and waits. Whatever was lost, done by other hands or
// begun by an earlier call is seen in what the VM is now, which each turn begins
// with.
func (p *power) shutDown(ctx context.Context) error {
	first, err := p.look(ctx)
	for asked := 0; err == nil; asked++ {
		if asked == asks {
			return transfer.Fail(transfer.Permanent, p.op, fmt.Errorf("the guest was asked %d times and came up again each time", asks), hintGuest)
		}
		var now powerView
		if now, err = p.request(ctx, first); err == nil && now.power != off {
			now, err = p.down(ctx, first)
		}
		if err == nil && now.power == off {
			return nil
		}
	}
	if ctx.Err() != nil {
		return transfer.Fail(transfer.Canceled, p.op, fmt.Errorf("the guest has not shut down: %w", ctx.Err()), hintGuest)
	}
	return p.explain(err)
}

// request returns once the VM is off, or its guest on the way there. Where it
// cannot be told whether a request arrived, another one does no harm.
func (p *power) request(ctx context.Context, first powerView) (powerView, error) {
	for try := 1; ; try++ {
		now, err := p.ready(ctx)
		if err == nil {
			err = p.sameRun(now, first)
		}
		if err != nil || now.power == off || now.going {
			return now, err
		}
		unclear, err := p.ask(ctx)
		if err == nil || !unclear || try == looks {
			return now, err
		}
	}
}

// ready is the VM once it is off, or its guest can be asked. Tools that are
// installed and do not run get Timing.Settle: the guest boots, or is on its way
// down and has stopped them.
func (p *power) ready(ctx context.Context) (powerView, error) {
	now, err := p.look(ctx)
	if err == nil && !p.clear(now) {
		if err = p.settle(ctx); err == nil {
			now, err = p.look(ctx)
		}
	}
	switch {
	case err != nil || now.power == off:
		return now, err
	case p.obstacle(now, off) != nil:
		return now, p.obstacle(now, off)
	case now.tools || now.going:
		return now, nil
	case now.absent:
		return now, p.withoutTools("VMware Tools are not installed in the guest")
	}
	return now, p.withoutTools("VMware Tools do not run in the guest")
}

// clear reports that waiting does not change what can be done.
func (p *power) clear(v powerView) bool {
	return v.power == off || v.tools || v.going || v.absent || p.obstacle(v, off) != nil
}

// settle waits until it is clear, or for as long as vCenter's picture may be
// behind, which is no error.
func (p *power) settle(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, p.c.timing.Settle)
	defer cancel()
	_, err := p.until(bounded, p.clear)
	if ctx.Err() == nil && bounded.Err() != nil {
		return nil
	}
	return err
}

func (p *power) withoutTools(why string) error {
	return transfer.Fail(transfer.Permanent, p.op, errors.New(why+", so that it cannot be asked"), hintTools)
}

// sameRun refuses a VM that went off and was powered on since.
func (p *power) sameRun(now, first powerView) error {
	if !now.startedAfter(first) {
		return nil
	}
	return transfer.Fail(transfer.Retry, p.op, errors.New("it was off and somebody powered it on again"),
		"See the VM's tasks and events in vCenter: a person, a schedule or vSphere HA did it.")
}

// ask is ShutdownGuest, which has no task. unclear: whether it had an effect, or
// why it has none, shows in what the VM is now.
func (p *power) ask(ctx context.Context) (unclear bool, err error) {
	err = p.c.WhileBusy(ctx, func() error {
		_, err := methods.ShutdownGuest(ctx, p.c.vim, &types.ShutdownGuest{This: p.vm})
		return err
	})
	switch {
	case err == nil:
		return false, nil
	case fault.Is(err, &types.ToolsUnavailable{}):
		return true, p.withoutTools("vCenter does not reach VMware Tools in the guest")
	}
	return isNetwork(err) || fault.Is(err, &types.InvalidPowerState{}), err
}

// down waits for the guest that was asked. It returns the VM once it is off, or
// once its guest is up again after it was not.
func (p *power) down(ctx context.Context, first powerView) (powerView, error) {
	began := false
	now, err := p.until(ctx, func(v powerView) bool {
		began = began || v.stopped || v.going
		return v.power == off || p.obstacle(v, off) != nil || v.startedAfter(first) || began && v.tools && !v.going
	})
	if err == nil && now.power != off {
		err = errors.Join(p.obstacle(now, off), p.sameRun(now, first))
	}
	return now, err
}
