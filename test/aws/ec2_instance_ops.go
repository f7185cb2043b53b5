package aws

import "fmt"

type xmlStateChange struct {
	ID      string   `xml:"instanceId"`
	Current xmlState `xml:"currentState"`
	Before  xmlState `xml:"previousState"`
}

type stateChangeOutput struct {
	Set xmlSet[xmlStateChange] `xml:"instancesSet"`
}

// change applies one of Start, Stop and Terminate: check says for each instance
// whether it may be, before any changes.
func (c *call) change(p *params, check func(*instance) *apiError, apply func(*instance)) (any, *apiError) {
	ids := p.list("InstanceId")
	if err := p.complete(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	found, err := e.instancesNamed(ids)
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		if err := check(i); err != nil {
			return nil, err
		}
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	var out stateChangeOutput
	for _, i := range found {
		before := i.state
		apply(i)
		out.Set.Items = append(out.Set.Items, xmlStateChange{i.id, stateOf(i.state), stateOf(before)})
	}
	return out, nil
}

func wrongState(i *instance, doing string) *apiError {
	return ec2Fault("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s.", i.id, doing)
}

func (c *call) startInstances(p *params) (any, *apiError) {
	e, vcpus := c.e, int64(0)
	return c.change(p, func(i *instance) *apiError {
		switch i.state {
		case "running", "pending":
			return nil
		case "stopped":
		default:
			return wrongState(i, "started")
		}
		root := false
		for _, v := range e.volumesOf(i) {
			root = root || v.attached.device == i.image.rootDevice
		}
		if !root {
			return ec2Fault("IncorrectState", "Invalid value '%s' for instanceId. Instance does not have a volume attached at root (%s)", i.id, i.image.rootDevice)
		}
		vcpus += i.kind.vcpus
		return e.checkCapacity(&launch{kind: instanceType{vcpus: vcpus}, nics: make([][]plannedInterface, 1)})
	}, func(i *instance) {
		if i.state != "stopped" {
			return
		}
		i.launched, i.reason, i.why = e.now(), nil, ""
		i.ill, i.badHost = i.ill || c.lie == LieNoBoot, c.lie == LieBadHost
		i.enter("pending", i.launched)
		i.then("running", e.opt.BootDelay)
		if c.lie == lieFailure {
			i.reason, i.why = &xmlReason{"Server.InternalError", "Server.InternalError: Internal error on launch"}, "Server.InternalError"
			i.then("stopped", e.opt.BootDelay)
		}
	})
}

func (c *call) stopInstances(p *params) (any, *apiError) {
	e, force := c.e, p.boolean("Force")
	p.boolean("SkipOsShutdown")
	if p.boolean("Hibernate") {
		p.fail("UnsupportedHibernationConfiguration", "Stopping with hibernation is not emulated.")
	}
	return c.change(p, func(i *instance) *apiError {
		switch {
		case i.state == "stopped", i.state == "stopping":
			return nil
		case i.state != "running":
			return wrongState(i, "stopped")
		case i.noStop:
			return ec2Fault("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.id)
		}
		return nil
	}, func(i *instance) {
		switch i.state {
		case "running":
			i.reason = &xmlReason{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}
			i.why = fmt.Sprintf("User initiated (%s)", e.now().UTC().Format("2006-01-02 15:04:05 GMT"))
			i.enter("stopping", e.now())
			if i.stuck = c.lie == LieStuck && !force; !i.stuck {
				i.then("stopped", e.opt.StopDelay)
			}
		case "stopping":
			if i.stuck && force {
				i.stuck = false
				i.enter("stopping", e.now())
				i.then("stopped", e.opt.StopDelay)
			}
		}
	})
}

func (c *call) terminateInstances(p *params) (any, *apiError) {
	e := c.e
	p.boolean("Force")
	p.boolean("SkipOsShutdown")
	return c.change(p, func(i *instance) *apiError {
		if i.noTerminate && i.state != "terminated" {
			return ec2Fault("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.id)
		}
		return nil
	}, func(i *instance) {
		if i.state == "terminated" || i.state == "shutting-down" {
			return
		}
		i.reason = &xmlReason{"Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown"}
		i.why = fmt.Sprintf("User initiated (%s)", e.now().UTC().Format("2006-01-02 15:04:05 GMT"))
		i.enter("shutting-down", e.now())
		i.then("terminated", e.opt.TerminateDelay)
	})
}
