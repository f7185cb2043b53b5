package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// setVM changes columns of one VM. set numbers its parameters from $3 on.
func (db *DB) setVM(ctx context.Context, vm transfer.VMID, set string, args ...any) error {
	return db.statement(ctx, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE vm SET `+set+` WHERE vcenter = $1 AND moref = $2`, append([]any{vm.VCenter, vm.Moref}, args...)...)
		if err == nil && n == 0 {
			err = schedule.ErrNotFound
		}
		return err
	})
}

// SetPaused pauses a VM or lets it go on; changed is false when it was so
// already. Why is kept while it is paused.
func (db *DB) SetPaused(ctx context.Context, vm transfer.VMID, paused bool, why string) (changed bool, err error) {
	if !paused {
		why = ""
	}
	err = db.write(ctx, once, func(q querier) error {
		n, err := q.exec(ctx, `UPDATE vm SET paused = $3, paused_why = $4 WHERE vcenter = $1 AND moref = $2 AND paused <> $3`, vm.VCenter, vm.Moref, paused, why)
		if changed = n > 0; changed || err != nil {
			return err
		}
		n, err = q.exec(ctx, `UPDATE vm SET paused_why = $3 WHERE vcenter = $1 AND moref = $2`, vm.VCenter, vm.Moref, why)
		if err == nil && n == 0 {
			err = schedule.ErrNotFound
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("pause or resume VM %s: %w", vm, err)
	}
	return changed, nil
}

// SetNext makes a VM due at an instant; the zero time makes it not due.
func (db *DB) SetNext(ctx context.Context, vm transfer.VMID, at time.Time, why string) error {
	if err := db.setVM(ctx, vm, `next_ms = $3, next_why = $4`, ms(at), why); err != nil {
		return fmt.Errorf("set when VM %s is due: %w", vm, err)
	}
	return nil
}

// Choose gives a VM a policy by hand; "" takes the choice back. What its policy
// is by then the planner finds.
func (db *DB) Choose(ctx context.Context, vm transfer.VMID, policy string) error {
	err := db.write(ctx, again, func(q querier) error {
		var n int64
		if err := one(ctx, q, `SELECT count(*) FROM policy WHERE name = $1`, []any{policy}, &n); err != nil {
			return err
		}
		if policy != "" && n == 0 {
			return fmt.Errorf("policy %s: %w", policy, schedule.ErrNotFound)
		}
		n, err := q.exec(ctx, `UPDATE vm SET chosen = $3 WHERE vcenter = $1 AND moref = $2`, vm.VCenter, vm.Moref, policy)
		if err == nil && n == 0 {
			err = schedule.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("choose a policy for VM %s: %w", vm, err)
	}
	return nil
}

// SetLifecycle moves a VM; ErrConflict unless it is in one of from.
func (db *DB) SetLifecycle(ctx context.Context, vm transfer.VMID, from []schedule.Lifecycle, to schedule.Lifecycle) error {
	err := db.write(ctx, once, func(q querier) error {
		args := []any{vm.VCenter, vm.Moref, string(to)}
		for _, l := range from {
			args = append(args, string(l))
		}
		if slices.Contains(from, schedule.NotReady) {
			args = append(args, "") // the same
		}
		if len(args) > 3 {
			n, err := q.exec(ctx, `UPDATE vm SET lifecycle = $3 WHERE vcenter = $1 AND moref = $2 AND lifecycle IN `+values(1, len(args)-3, 4), args...)
			if err != nil || n > 0 {
				return err
			}
		}
		var is string
		if err := vmState(ctx, q, vm, "lifecycle", &is); err != nil {
			return err
		}
		names := make([]string, len(from))
		for i, l := range from {
			names[i] = string(l)
		}
		return fmt.Errorf("it is %s, and would have to be %s: %w", is, strings.Join(names, " or "), schedule.ErrConflict)
	})
	if err != nil {
		return fmt.Errorf("make VM %s %s: %w", vm, to, err)
	}
	return nil
}

// SetLaunch replaces what is kept for the launch of a VM.
func (db *DB) SetLaunch(ctx context.Context, vm transfer.VMID, l schedule.Launch) error {
	text := ""
	var err error
	if len(l) > 0 {
		text, err = encode(l)
	}
	if err == nil {
		err = db.setVM(ctx, vm, `launch = $3`, text)
	}
	if err != nil {
		return fmt.Errorf("set launch settings of VM %s: %w", vm, err)
	}
	return nil
}
