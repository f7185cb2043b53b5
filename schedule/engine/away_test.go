package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/test/database"
	"snapferry/transfer"
)

// away is a store whose database is out of reach now and then.
type away struct {
	engine.Store
	off atomic.Bool
}

var errAway = errors.New("connection refused")

func (a *away) Tell(ctx context.Context, run, epoch int64, r transfer.Report, steps []schedule.StepTime) (bool, error) {
	if a.off.Load() {
		return false, errAway
	}
	return a.Store.Tell(ctx, run, epoch, r, steps)
}

func (a *away) Finish(ctx context.Context, run, epoch int64, end schedule.End) error {
	if a.off.Load() {
		return errAway
	}
	return a.Store.Finish(ctx, run, epoch, end)
}

// Without the database a cycle goes on as far as its seal, and waits there; it
// removes the VM snapshot all the same.
func TestAway(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: 300 * time.Millisecond, Jumble: true, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	policy(t, db, seldom)
	limits(t, db, schedule.DefaultLimits())
	off := &away{}
	start(t, url, s, func(c *engine.Config) { off.Store = c.Store; c.Store = off })
	eventually(t, 10*time.Second, "it copies", func() bool { return len(s.leftSnapshots(t)) == 1 })
	off.off.Store(true)
	eventually(t, 10*time.Second, "the VM snapshot is gone", func() bool { return len(s.leftSnapshots(t)) == 0 })
	time.Sleep(500 * time.Millisecond) // time enough to do what it must not
	if did(t, s, "seal") {
		t.Fatal("it sealed without having confirmed that the run is its own")
	}
	off.off.Store(false)
	eventually(t, 10*time.Second, "it is done", func() bool { return done(t, db) == 1 })
	if !did(t, s, "sealed") {
		t.Error("there is no point")
	}
	if r := runs(t, db, schedule.RunQuery{})[0]; r.Epoch != 1 {
		t.Errorf("it took %d attempts", r.Epoch)
	}
}

// When the database stays away a cycle is given up, and that is written once
// the database is back.
func TestPatience(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 1, Hosts: 1, Length: 200 * time.Millisecond, Jumble: true, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	policy(t, db, seldom)
	limits(t, db, schedule.DefaultLimits())
	off := &away{}
	start(t, url, s, func(c *engine.Config) {
		off.Store = c.Store
		c.Store, c.Patience = off, time.Second
	})
	eventually(t, 10*time.Second, "it copies", func() bool { return len(s.leftSnapshots(t)) == 1 })
	off.off.Store(true)
	eventually(t, 10*time.Second, "the cycle is over", func() bool { return did(t, s, "end") })
	if did(t, s, "sealed") {
		t.Error("it made a point")
	}
	if all, err := db.Unended(ctx); err != nil || len(all) != 1 {
		t.Errorf("the runs are %+v, %v", all, err)
	}
	off.off.Store(false)
	eventually(t, 10*time.Second, "the run failed", func() bool {
		all := runs(t, db, schedule.RunQuery{State: schedule.RunFailed})
		return len(all) == 1 && all[0].Reason == schedule.ReasonRetry
	})
	if vm := getVM(t, db, 0); vm.Fails != 1 || vm.Next.IsZero() {
		t.Errorf("the VM has %d fails, next %v", vm.Fails, vm.Next)
	}
}

func did(t *testing.T, s *site, what string) bool {
	return slices.ContainsFunc(s.notes(t), func(n note) bool { return n.What == what })
}

// What the clean-up finds is an alarm for as long as it is there.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	h := start(t, url, s, nil)
	thing := transfer.Reaped{Action: transfer.Action{Do: transfer.DeedRemove, Kind: transfer.LeftSnapshot, ID: "snapshot-7", Name: "snapferry-x", VM: vmID(0)}}
	low := "VM snapshot snapferry-x of app0000 (cycle c of appliance b) grows on a datastore that runs low: 1 GB of ds1 is free"
	old := "VM snapshot snapferry-x of app0000 (cycle c of appliance b) is 25 hours old and grows"
	h.rig.left.Store(&transfer.ReapReport{Things: []transfer.Reaped{thing}, Alarms: []string{low, old}})
	eventually(t, 10*time.Second, "two alarms", func() bool { return len(alarms(t, db, "left/a/")) == 2 })
	older := "VM snapshot snapferry-x of app0000 (cycle c of appliance b) is 26 hours old and grows"
	h.rig.left.Store(&transfer.ReapReport{Things: []transfer.Reaped{thing}, Alarms: []string{older}})
	eventually(t, 10*time.Second, "one alarm, renewed", func() bool {
		all := alarms(t, db, "left/a/")
		return len(all) == 1 && all[0].Text == older && all[0].Kind == schedule.AlarmLeftover && all[0].VM == vmID(0)
	})
	// What cannot be looked at is not gone.
	h.rig.left.Store(&transfer.ReapReport{Unseen: []string{"VM snapshots: vCenter is away"}})
	time.Sleep(500 * time.Millisecond)
	if len(alarms(t, db, "left/a/")) != 1 {
		t.Error("an alarm was cleared unseen")
	}
	h.rig.left.Store(nil)
	eventually(t, 10*time.Second, "no alarm", func() bool { return len(alarms(t, db, "left/a/")) == 0 })
	if n := len(events(t, db, schedule.EventAlarm)); n != 2 {
		t.Errorf("%d alarms were announced", n)
	}
}

// No cycle goes on with the draft of a VM that is disconnected.
func TestWhatCleansUpHearsOfDisconnectedVMs(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 2, Hosts: 1, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	h := start(t, url, s, nil)
	heard := func(want ...transfer.VMID) func() bool {
		return func() bool {
			ended := h.rig.ended.Load()
			return ended != nil && slices.Equal(*ended, want)
		}
	}
	eventually(t, 10*time.Second, "both are known, neither disconnected", func() bool {
		vms, _ := db.VMs(t.Context(), "")
		return len(vms) == 2 && heard()()
	})
	if err := db.SetLifecycle(t.Context(), vmID(1), schedule.Lifecycles(), schedule.Disconnected); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "one is disconnected", heard(vmID(1)))
}

// The inventory makes VMs known, and gone, and a broken one is no reason to
// take VMs away.
func TestInventory(t *testing.T) {
	t.Parallel()
	s := &site{Dir: t.TempDir(), Count: 3, Hosts: 1, Appl: "a"}
	url := database.SQLite(t)
	db := openStore(t, url)
	h := start(t, url, s, nil)
	known := func() int { vms, _ := db.VMs(ctx, ""); return len(vms) }
	eventually(t, 10*time.Second, "three VMs", func() bool { return known() == 3 })
	broken := func() ([]transfer.VM, error) { return nil, errors.New("vCenter is away") }
	h.rig.inventory.Store(&broken)
	time.Sleep(time.Second)
	if known() != 3 {
		t.Error("VMs went because vCenter was away")
	}
	two := func() ([]transfer.VM, error) { return []transfer.VM{s.vm(0), s.vm(1)}, nil }
	h.rig.inventory.Store(&two)
	eventually(t, 10*time.Second, "two VMs", func() bool { return known() == 2 })
	eventually(t, 5*time.Second, "it is told which went", func() bool {
		gone := events(t, db, schedule.EventVMGone)
		return len(gone) == 1 && gone[0].VM == vmID(2)
	})
}
