package transfer

import (
	"context"
	"fmt"
	"time"
)

// thaw asks for the VM snapshot to be given up before the copy is done.
type thaw struct{ why string }

func (t *thaw) Error() string { return t.why }

// watch returns a context that ends, with a *thaw as its cause, when the VM
// snapshot should not live on. stop ends the watching.
func (c *Cycle) watch(ctx context.Context, frozen Frozen) (watched context.Context, stop func()) {
	watched, cancel := context.WithCancelCause(ctx)
	every := c.Watch
	if every == 0 {
		every = DefaultWatch
	}
	since := c.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-watched.Done():
				return
			case <-tick.C:
			}
			if why := c.pressed(watched, frozen, since); why != "" {
				cancel(&thaw{why})
				return
			}
		}
	}()
	return watched, func() { cancel(context.Canceled); <-done }
}

// pressed says why the VM snapshot should go now. A question that fails is
// asked again at the next tick.
func (c *Cycle) pressed(ctx context.Context, frozen Frozen, since time.Time) string {
	if age := c.Now().Sub(since); c.MaxFreeze > 0 && age >= c.MaxFreeze {
		return fmt.Sprintf("the VM snapshot was %v old, %v is the most it may be", age.Round(time.Second), c.MaxFreeze)
	}
	why, err := frozen.Pressed(ctx)
	if err != nil {
		return ""
	}
	return why
}
