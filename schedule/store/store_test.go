package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"snapferry/schedule"
	"snapferry/schedule/store"
	"snapferry/test/database"
	"snapferry/transfer"
)

const vc = "vc-0001"

// t0 has more digits than are kept.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

func open(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}

// onEach runs a test on each database.
func onEach(t *testing.T, f func(t *testing.T, db *store.DB)) {
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, open(t, database.SQLite(t))) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, open(t, database.Postgres(t))) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func got[T any](t testing.TB) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		must(t, err)
		return v
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error is %v, want one that is %v", what, err, want)
	}
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func id(i int) transfer.VMID { return transfer.VMID{VCenter: vc, Moref: fmt.Sprintf("vm-%04d", i)} }

// machine is VM i as vCenter describes it, with i%3+1 disks.
func machine(i int) transfer.VM {
	v := transfer.VM{
		ID: id(i), InstanceUUID: fmt.Sprintf("5000-%d", i), Name: fmt.Sprintf("app%04d", i), Path: fmt.Sprintf("/DC0/vm/prod/app%04d", i),
		PoweredOn: true, Host: fmt.Sprintf("esx%d", i%5), Pool: "/DC0/host/C0/Resources/prod", CBT: true,
		Tags: []string{"backup:gold", "env:prod"}, Attributes: map[string]string{"owner": "ops", "cost": "42"},
		Guest: transfer.Guest{ID: "debian12_64Guest", Firmware: "efi", CPUs: 4, MemoryMiB: 8192},
	}
	for d := range i%3 + 1 {
		v.Disks = append(v.Disks, transfer.Disk{
			ID: transfer.DiskID{Key: int32(2000 + d), UUID: fmt.Sprintf("6000c29%d-%04d", d, i)}, Label: fmt.Sprintf("Hard disk %d", d+1), Size: 40 << 30,
			Datastore: fmt.Sprintf("ds%d", (i+d)%4), File: fmt.Sprintf("[ds%d] app%04d/app%04d_%d.vmdk", (i+d)%4, i, i, d), Backing: "flat",
			ChangeID: transfer.ChangeID(fmt.Sprintf("52 de c0 d9/%d", i)), Allocated: 12 << 30,
		})
	}
	return v
}

func machines(n int) (all []transfer.VM) {
	for i := range n {
		all = append(all, machine(i))
	}
	return all
}

// fleet makes n VMs and two appliances.
func fleet(t testing.TB, db *store.DB, n int) {
	t.Helper()
	_, _, err := db.SaveInventory(t.Context(), vc, machines(n), t0)
	must(t, err)
	for _, a := range []string{"a", "b"} {
		must(t, db.SaveAppliance(t.Context(), appliance(a)))
	}
}

func appliance(name string) schedule.Appliance {
	return schedule.Appliance{ID: transfer.ApplianceID(name), Version: "1.2.3", VM: "vm-9", Host: "esx1", VCenter: vc, Account: "123456789012/eu-central-1", Started: t0, Seen: t0, Alive: true}
}

func wanted(i int) schedule.Wanted {
	return schedule.Wanted{VM: id(i), Trigger: "schedule", Policy: "gold", Priority: 3}
}

// queue makes a run of VM i.
func queue(t testing.TB, db *store.DB, i int) schedule.Run {
	t.Helper()
	r, fresh, err := db.Queue(t.Context(), wanted(i), t0)
	must(t, err)
	if !fresh {
		t.Fatalf("VM %d has a run already: %+v", i, r)
	}
	return r
}

// start makes a run of VM i and lets appliance a take it in hand.
func start(t testing.TB, db *store.DB, i int) schedule.Run {
	t.Helper()
	return got[schedule.Run](t)(db.Claim(t.Context(), queue(t, db, i).ID, "a", t0.Add(time.Second)))
}

// run makes a run of VM i that ends in a state at an instant.
func run(t testing.TB, db *store.DB, i int, state schedule.RunState, at time.Time) schedule.Run {
	t.Helper()
	r := start(t, db, i)
	must(t, db.Finish(t.Context(), r.ID, r.Epoch, schedule.End{State: state, At: at}))
	return r
}

func TestInventory(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		seen := machines(3)
		added, gone, err := db.SaveInventory(ctx, vc, seen, t0)
		must(t, err)
		equal(t, "added", added, []transfer.VMID{id(0), id(1), id(2)})
		equal(t, "gone", gone, []transfer.VMID(nil))

		vms := got[[]schedule.VM](t)(db.VMs(ctx, vc))
		if len(vms) != 3 {
			t.Fatalf("%d VMs", len(vms))
		}
		equal(t, "a new VM", vms[2], schedule.VM{VM: seen[2], Seen: t0, Lifecycle: schedule.NotReady})

		// What people and runs wrote stays when facts change.
		must(t, db.SetLaunch(ctx, id(1), schedule.Launch{"subnet": "subnet-1"}))
		seen[1].Host, seen[1].Disks[0].ChangeID = "esx9", "52/9"
		t1 := t0.Add(5 * time.Minute)
		added, gone, err = db.SaveInventory(ctx, vc, seen[:2], t1)
		must(t, err)
		equal(t, "added", added, []transfer.VMID(nil))
		equal(t, "gone", gone, []transfer.VMID{id(2)})
		equal(t, "a changed VM", got[schedule.VM](t)(db.VM(ctx, id(1))), schedule.VM{VM: seen[1], Seen: t1, Lifecycle: schedule.NotReady, Launch: schedule.Launch{"subnet": "subnet-1"}})
		equal(t, "a VM that is gone", got[schedule.VM](t)(db.VM(ctx, id(2))), schedule.VM{VM: seen[2], Seen: t0, Gone: true, Lifecycle: schedule.NotReady})
		equal(t, "VMs that are there", len(got[[]schedule.VM](t)(db.VMs(ctx, ""))), 2)

		// Gone once, back once.
		_, gone, err = db.SaveInventory(ctx, vc, seen[:2], t1)
		must(t, err)
		equal(t, "gone again", gone, []transfer.VMID(nil))
		added, _, err = db.SaveInventory(ctx, vc, seen, t1)
		must(t, err)
		equal(t, "added when back", added, []transfer.VMID(nil))
		equal(t, "a VM that is back", got[schedule.VM](t)(db.VM(ctx, id(2))), schedule.VM{VM: seen[2], Seen: t1, Lifecycle: schedule.NotReady})

		// Another vCenter is another matter.
		other := machine(0)
		other.ID.VCenter = "vc-0002"
		_, gone, err = db.SaveInventory(ctx, "vc-0002", []transfer.VM{other}, t0)
		must(t, err)
		equal(t, "gone by another vCenter", gone, []transfer.VMID(nil))
		equal(t, "VMs of one", len(got[[]schedule.VM](t)(db.VMs(ctx, vc))), 3)
		equal(t, "VMs of all", len(got[[]schedule.VM](t)(db.VMs(ctx, ""))), 4)
		_, _, err = db.SaveInventory(ctx, "vc-0002", seen, t0)
		wantErr(t, "VMs of another vCenter", err, schedule.ErrInvalid)
		_, err = db.VM(ctx, id(99))
		wantErr(t, "unknown VM", err, schedule.ErrNotFound)
	})
}

// What is returned belongs to who asked.
func TestVMsAreCopies(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		fleet(t, db, 1)
		vm := got[schedule.VM](t)(db.VM(t.Context(), id(0)))
		vm.Tags[0], vm.Attributes["owner"], vm.Disks[0].Size = "x", "x", 1
		equal(t, "the next read", got[schedule.VM](t)(db.VM(t.Context(), id(0))).VM, machine(0))
	})
}

// An inventory in which nothing changed writes no VM.
func TestUnchangedInventoryIsNotWritten(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 50)
		// A trigger would refuse every write to vm; it differs between the two.
		if db.Kind() == store.SQLite {
			_, err := db.SQL().ExecContext(ctx, `CREATE TRIGGER stop BEFORE UPDATE ON vm BEGIN SELECT RAISE(ABORT, 'written'); END`)
			must(t, err)
		} else {
			_, err := db.SQL().ExecContext(ctx, `CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'written'; END $$;
				CREATE TRIGGER stop BEFORE UPDATE ON vm FOR EACH ROW EXECUTE FUNCTION stop()`)
			must(t, err)
		}
		seen := machines(50)
		_, _, err := db.SaveInventory(ctx, vc, seen, t0.Add(time.Minute))
		must(t, err)
		must(t, db.Plan(ctx, []schedule.Planned{{VM: id(1)}}))
		equal(t, "seen", got[schedule.VM](t)(db.VM(ctx, id(7))).Seen, t0.Add(time.Minute))
		seen[7].Host = "elsewhere"
		if _, _, err = db.SaveInventory(ctx, vc, seen, t0); err == nil {
			t.Fatal("the trigger does not work: this test shows nothing")
		}
	})
}

func TestPlanAndDue(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 9)
		var planned []schedule.Planned
		for i := range 9 {
			planned = append(planned, schedule.Planned{VM: id(i), Policy: "gold", Next: t0.Add(-time.Duration(i) * time.Minute), Why: "every 15m"})
		}
		planned[2].Next = t0.Add(time.Millisecond) // not yet
		planned[3].Next = time.Time{}
		planned[4].Policy = ""
		must(t, db.Plan(ctx, append(planned, schedule.Planned{VM: id(99), Policy: "gold"})))
		vm := got[schedule.VM](t)(db.VM(ctx, id(1)))
		equal(t, "planned", []any{vm.Policy, vm.Next, vm.NextWhy}, []any{"gold", t0.Add(-time.Minute), "every 15m"})
		got[bool](t)(db.SetPaused(ctx, id(5), true, "patching"))
		must(t, db.SetLifecycle(ctx, id(6), []schedule.Lifecycle{schedule.NotReady}, schedule.CutOver))
		queue(t, db, 7)
		_, _, err := db.SaveInventory(ctx, vc, machines(8), t0) // the last is gone
		must(t, err)

		due := func() (names []string) {
			for _, v := range got[[]schedule.VM](t)(db.DueVMs(ctx, t0)) {
				names = append(names, v.Name)
			}
			return names
		}
		equal(t, "due", due(), []string{"app0001", "app0000"}) // the longest overdue first
		run, _, err := db.AskCancel(ctx, id(7), t0)
		must(t, err)
		equal(t, "due when the run is gone", due(), []string{"app0007", "app0001", "app0000"})
		equal(t, "its state", got[schedule.Run](t)(db.Run(ctx, run)).State, schedule.RunCancelled)
		must(t, db.SetNext(ctx, id(3), t0, "resumed"))
		must(t, db.SetNext(ctx, id(0), time.Time{}, ""))
		equal(t, "due by SetNext", due(), []string{"app0007", "app0001", "app0003"})
	})
}

func TestWishes(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		fleet(t, db, 2)
		changed := func(paused bool, why string) bool { return got[bool](t)(db.SetPaused(ctx, id(0), paused, why)) }
		equal(t, "pause, again, resume, again", []bool{changed(true, "patching"), changed(true, "longer"), changed(false, "done"), changed(false, "")}, []bool{true, false, true, false})
		changed(true, "audit")
		must(t, db.SavePolicy(ctx, schedule.Policy{Name: "gold", Every: schedule.Duration(time.Hour)}))
		must(t, db.Choose(ctx, id(0), "gold"))
		must(t, db.SetLifecycle(ctx, id(0), []schedule.Lifecycle{schedule.NotReady, schedule.Testing}, schedule.Testing))
		vm := got[schedule.VM](t)(db.VM(ctx, id(0)))
		equal(t, "VM", []any{vm.Paused, vm.PausedWhy, vm.Chosen, vm.Lifecycle}, []any{true, "audit", "gold", schedule.Testing})
		must(t, db.Choose(ctx, id(0), ""))
		must(t, db.SetLaunch(ctx, id(0), schedule.Launch{"a": "b"}))
		must(t, db.SetLaunch(ctx, id(0), nil))
		vm = got[schedule.VM](t)(db.VM(ctx, id(0)))
		equal(t, "taken back", []any{vm.Chosen, len(vm.Launch)}, []any{"", 0})

		wantErr(t, "lifecycle", db.SetLifecycle(ctx, id(0), []schedule.Lifecycle{schedule.NotReady}, schedule.CutOver), schedule.ErrConflict)
		wantErr(t, "lifecycle from nothing", db.SetLifecycle(ctx, id(0), nil, schedule.CutOver), schedule.ErrConflict)
		equal(t, "lifecycle stays", got[schedule.VM](t)(db.VM(ctx, id(0))).Lifecycle, schedule.Testing)
		wantErr(t, "choose", db.Choose(ctx, id(0), "none"), schedule.ErrNotFound)
		for what, err := range map[string]error{
			"choose":    db.Choose(ctx, id(9), "gold"),
			"next":      db.SetNext(ctx, id(9), t0, ""),
			"launch":    db.SetLaunch(ctx, id(9), nil),
			"lifecycle": db.SetLifecycle(ctx, id(9), []schedule.Lifecycle{schedule.NotReady}, schedule.Testing),
		} {
			wantErr(t, what+" of an unknown VM", err, schedule.ErrNotFound)
		}
		_, err := db.SetPaused(ctx, id(9), true, "")
		wantErr(t, "pause an unknown VM", err, schedule.ErrNotFound)
	})
}

// Texts from elsewhere may hold what PostgreSQL does not store.
func TestOddTexts(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		m := machine(0)
		m.Name = "a\x00b\xffc" + "'ü"
		_, _, err := db.SaveInventory(ctx, vc, []transfer.VM{m}, t0)
		must(t, err)
		r := start(t, db, 0)
		must(t, db.AppendLog(ctx, r.ID, []schedule.LogLine{{At: t0, Level: "info", Text: m.Name}}))
		must(t, db.Record(ctx, schedule.Event{At: t0, Kind: schedule.EventRunEnd, Text: m.Name}))
		lines := got[[]schedule.LogLine](t)(db.Log(ctx, r.ID, 0, 0))
		equal(t, "line", lines[0].Text, "ab\uFFFDc'ü")
	})
}

func cancelled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A context that ended is no trouble of the database.
func TestCancelledContext(t *testing.T) {
	onEach(t, func(t *testing.T, db *store.DB) {
		fleet(t, db, 1)
		_, err := db.VMs(cancelled(t), "")
		if err == nil || store.IsTemporary(err) {
			t.Errorf("read: %v is temporary: %v", err, store.IsTemporary(err))
		}
		_, _, err = db.Queue(cancelled(t), wanted(0), t0)
		if err == nil || store.IsTemporary(err) {
			t.Errorf("write: %v is temporary: %v", err, store.IsTemporary(err))
		}
		queue(t, db, 0) // nothing is stuck
	})
}
