package vsphere

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"

	"snapferry/transfer"
)

// longestWait is how long vCenter may hold a WaitForUpdatesEx: idle connections
// live longer than that in most firewalls.
const longestWait = time.Minute

// reconnects bounds how often one watch is begun anew.
const reconnects = 20

// watched are properties of one object.
type watched struct {
	obj   ref
	props []string
}

// values are what is known of the watched objects' properties.
type values map[ref]map[string]any

// watch calls look with the current values, first as they are, then after each
// change, until look says that it has seen enough. It has a property collector
// of its own and begins anew where that got lost with the session, or an answer
// of it on the way. A watched object that ceases to exist is a
// ManagedObjectNotFound.
func (c *Client) watch(ctx context.Context, objects []watched, look func(values) bool) error {
	pause := backoff{first: c.timing.RetryFirst, max: c.timing.RetryMax}
	for tries := 0; tries < reconnects; tries++ {
		heard, err := c.watchOnce(ctx, objects, look)
		if err == nil || ctx.Err() != nil || (!isCollectorLost(err) && !isNetwork(err)) {
			return err
		}
		if heard {
			tries, pause.next = 0, 0
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
	}
	return errors.New("the session was lost again and again")
}

// isCollectorLost: the collector went with its session, or vCenter has
// forgotten where we were.
func isCollectorLost(err error) bool {
	return isGone(err, "PropertyCollector") || isGone(err, "PropertyFilter") || isNotAuthenticated(err) ||
		fault.Is(err, &types.InvalidCollectorVersion{})
}

// watchOnce watches with one collector; heard reports that it told something.
// An answer that got lost ends it: it may have been the last update there is.
func (c *Client) watchOnce(ctx context.Context, objects []watched, look func(values) bool) (heard bool, err error) {
	collector, err := property.DefaultCollector(c.vim).Create(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		// A watch that failed or was given up may leave the collector in the
		// session; it ends with it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.timing.Call)
		defer cancel()
		_ = collector.Destroy(ctx)
	}()
	if _, err := collector.CreateFilter(ctx, types.CreateFilter{Spec: filterOf(objects)}); err != nil {
		return heard, err
	}
	wait := types.WaitForUpdatesEx{This: collector.Reference(), Options: &types.WaitOptions{MaxWaitSeconds: new(int32(longestWait / time.Second))}}
	now := values{}
	for {
		res, err := methods.WaitForUpdatesEx(ctx, c.vim, &wait)
		if err != nil {
			return heard, err
		}
		heard = true
		if res.Returnval == nil {
			continue // nothing changed
		}
		wait.Version = res.Returnval.Version
		if err := now.apply(res.Returnval); err != nil {
			return heard, err
		}
		if more := res.Returnval.Truncated; more != nil && *more {
			continue
		}
		if look(now) {
			return heard, nil
		}
	}
}

func filterOf(objects []watched) types.PropertyFilterSpec {
	var s types.PropertyFilterSpec
	for _, o := range objects {
		s.ObjectSet = append(s.ObjectSet, types.ObjectSpec{Obj: o.obj})
		s.PropSet = append(s.PropSet, types.PropertySpec{Type: o.obj.Type, PathSet: o.props})
	}
	return s
}

func (v values) apply(set *types.UpdateSet) error {
	for _, f := range set.FilterSet {
		for _, m := range f.MissingSet {
			return &goneError{m.Obj}
		}
		for _, o := range f.ObjectSet {
			if o.Kind == types.ObjectUpdateKindLeave {
				return &goneError{o.Obj}
			}
			if v[o.Obj] == nil {
				v[o.Obj] = map[string]any{}
			}
			for _, change := range o.ChangeSet {
				v[o.Obj][change.Name] = change.Val
			}
		}
	}
	return nil
}

// goneError is a ManagedObjectNotFound that vCenter did not put into a fault.
type goneError struct{ obj ref }

func (e *goneError) Error() string { return e.obj.Type + " " + e.obj.Value + " ceased to exist" }

func (e *goneError) Fault() types.BaseMethodFault { return &types.ManagedObjectNotFound{Obj: e.obj} }

// Await waits for a task, at most Timing.Task, through lost sessions and
// reconnects, and returns its result. The errors are the task's fault (raw, for
// Explain), a Retry one when the task still runs, and ManagedObjectNotFound of
// a Task when vCenter has forgotten it: then whether it had its effect is for
// the caller to look at.
func (c *Client) Await(ctx context.Context, t types.ManagedObjectReference) (any, error) {
	bounded, cancel := context.WithTimeout(ctx, c.timing.Task)
	defer cancel()
	var result any
	var failed error
	err := c.watch(bounded, []watched{{t, []string{"info.state", "info.result", "info.error"}}}, func(v values) bool {
		info := v[t]
		result = info["info.result"]
		switch info["info.state"] {
		case types.TaskInfoStateSuccess:
			return true
		case types.TaskInfoStateError:
			failed = taskError(info["info.error"])
			return true
		}
		return false
	})
	switch {
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		return nil, transfer.Fail(transfer.Retry, "wait for task "+t.Value, fmt.Errorf("it still runs after %v", c.timing.Task), "Look at the task in vCenter.")
	case err != nil:
		return nil, err
	}
	return result, failed
}

func taskError(v any) error {
	switch f := v.(type) {
	case types.LocalizedMethodFault:
		return task.Error{LocalizedMethodFault: &f}
	case *types.LocalizedMethodFault:
		return task.Error{LocalizedMethodFault: f}
	}
	return task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: &types.MethodFault{}, LocalizedMessage: "the task failed and names no cause"}}
}

// IsLost: whether the task had its effect cannot be told from its end: no
// answer came, or vCenter has forgotten the task over a restart.
func IsLost(err error) bool { return isGone(err, "Task") || isNetwork(err) }

// WhileBusy repeats do while vSphere refuses it because of another task, at
// most Timing.Busy.
func (c *Client) WhileBusy(ctx context.Context, do func() error) error {
	pause := backoff{first: c.timing.RetryFirst, max: c.timing.RetryMax}
	for start := time.Now(); ; {
		err := do()
		if err == nil || !fault.Is(err, &types.TaskInProgress{}) || time.Since(start) > c.timing.Busy {
			return err
		}
		if pause.wait(ctx) != nil {
			return err
		}
	}
}
