package vsphere_test

import (
	"context"
	"testing"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
)

// TestALostUpdateIsNotTheEnd: the answer that told of a task's end is lost, or
// cut short. Nothing more ever changes about the task, and yet it is found ended.
func TestALostUpdateIsNotTheEnd(t *testing.T) {
	for _, kind := range []fault.Kind{fault.LostAnswer, fault.WrongBytes} {
		t.Run(string(kind), func(t *testing.T) {
			e := start(t, func(o *vcenter.Options) { o.TaskDelay = 50 * time.Millisecond })
			vm := e.vm("app01", mib)
			e.faults.Add(fault.Rule{Name: "update", Op: "WaitForUpdatesEx", Kind: kind, Skip: 1})
			ctx, cancel := context.WithTimeout(e.ctx, quick.Task/2)
			defer cancel()
			frozen, err := e.source(vm).Freeze(ctx, spec())
			if err != nil {
				t.Fatal(err)
			}
			if unfired := e.faults.Unfired(); len(unfired) > 0 {
				t.Errorf("rules that never fired: %v", unfired)
			}
			if err := frozen.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
