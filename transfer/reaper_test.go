package transfer_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/test/memory"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// wreck is what crashes of us left on reapVM and others.
type wreck struct {
	*transfer.Reaper
	source *memory.Leftovers
	store  *memory.ReapStore
}

func newWreck(t *testing.T) *wreck {
	w := &wreck{source: memory.NewLeftovers("vm-9"), store: &memory.ReapStore{Store: memory.NewStore(), InUse: map[transfer.SnapshotID]bool{}}}
	w.Reaper = &transfer.Reaper{Source: w.source, Store: w.store, State: manifest.Dir(t.TempDir()), Appliance: us,
		Now: func() time.Time { return reapNow }, Cleanup: time.Minute}
	second := markedSnapshot(us)
	second.VM, second.VMName, second.Snapshot = others, "app02", "snapshot-2"
	w.source.Add([]transfer.MarkedSnapshot{markedSnapshot(us), second}, []transfer.MarkedDisk{markedDisk(us)})
	w.store.Put(ebsSnap("snap-1", transfer.Pending, "c1", 1, 2, day))
	w.store.Put(ebsSnap("snap-2", transfer.Completed, "c1", 2, 2, day))
	w.store.Put(ebsSnap("snap-3", transfer.Completed, "c2", 1, 2, time.Hour))
	w.store.Put(ebsSnap("snap-4", transfer.Completed, "c2", 2, 2, time.Hour))
	return w
}

func (w *wreck) run(t *testing.T, dry bool) transfer.ReapReport {
	t.Helper()
	rep, err := w.Run(t.Context(), dry)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func (w *wreck) left() (ids []string) {
	all, _ := w.store.AllSnapshots(context.Background())
	for _, s := range all {
		ids = append(ids, string(s.ID))
	}
	slices.Sort(ids)
	return ids
}

func deeds(rep transfer.ReapReport) (done, not []string) {
	for _, a := range rep.Things {
		if text := string(a.Do) + " " + a.ID; a.Done {
			done = append(done, text)
		} else {
			not = append(not, text)
		}
	}
	return done, not
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestReaperCleansAndIsIdempotent(t *testing.T) {
	w := newWreck(t)
	dry := w.run(t, true)
	done, not := deeds(dry)
	wantList(t, "dry run did", done)
	wantList(t, "dry run would", not, "detach scsi0:1", "remove snapshot-1", "abort snap-1", "leave snap-2", "remove snapshot-2")
	wantList(t, "dry run touched", w.source.Log())
	if vms, _ := w.State.VMs(); len(vms) > 0 {
		t.Errorf("a dry run made state folders: %v", vms)
	}
	done, not = deeds(w.run(t, false))
	wantList(t, "done", done, "detach scsi0:1", "remove snapshot-1", "abort snap-1", "remove snapshot-2")
	wantList(t, "not done", not, "leave snap-2") // its sibling was a draft
	wantList(t, "order", w.source.Log(), "detach scsi0:1", "remove snapshot-1", "remove snapshot-2")
	done, not = deeds(w.run(t, false))
	wantList(t, "second run", done, "delete snap-2")
	wantList(t, "second run left", not)
	if rep := w.run(t, false); len(rep.Things)+len(rep.Alarms) > 0 {
		t.Errorf("third run: %+v", rep)
	}
	wantList(t, "in AWS", w.left(), "snap-3", "snap-4")
}

func TestReaperOnlyForSomeVMs(t *testing.T) {
	w := newWreck(t)
	w.VMs = []transfer.VMID{others}
	done, not := deeds(w.run(t, false))
	wantList(t, "done", done, "remove snapshot-2")
	wantList(t, "not done", not)
}

func TestReaperLeavesALiveCycleAlone(t *testing.T) {
	for _, dry := range []bool{true, false} {
		w := newWreck(t)
		lock, err := w.State.Lock(reapVM.VCenter, reapVM.Moref)
		if err != nil {
			t.Fatal(err)
		}
		rep := w.run(t, dry)
		for _, a := range rep.Things {
			if a.VM == reapVM && (a.Do != transfer.DeedLeave || !strings.Contains(a.Reason, "runs on this machine")) {
				t.Errorf("dry %v: %s %s because %q", dry, a.Do, a.ID, a.Reason)
			}
		}
		if len(rep.Things) != 5 {
			t.Errorf("%+v", rep.Things)
		}
		lock.Unlock()
		if lock, err = w.State.Lock(others.VCenter, others.Moref); err != nil {
			t.Errorf("the reaper kept a lock: %v", err)
		} else {
			lock.Unlock()
		}
	}
}

func TestReaperKeepsWhatAJournalNames(t *testing.T) {
	w := newWreck(t)
	journal(t, w.State, "snap-1", transfer.DraftSpec{Token: "x", Label: transfer.Label{VM: reapVM, Disk: reapDisk(1), Cycle: "c1"}})
	w.Now = time.Now // the file's time is real
	w.store.Put(ebsSnap("snap-1", transfer.Pending, "c1", 1, 2, 0, func(s *transfer.Snapshot) { s.Started = time.Now().Add(-9 * day) }))
	done, not := deeds(w.run(t, false))
	wantList(t, "done", done, "detach scsi0:1", "remove snapshot-1", "remove snapshot-2")
	wantList(t, "not done", not, "leave snap-1", "leave snap-2")
}

func journal(t *testing.T, dir manifest.Dir, id transfer.SnapshotID, spec transfer.DraftSpec) {
	t.Helper()
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := dir.Lock(reapVM.VCenter, reapVM.Moref)
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Unlock()
	d, err := vm.Disk(spec.Label.Disk.String())
	if err != nil {
		t.Fatal(err)
	}
	j, err := d.StartJournal(manifest.Header{Snapshot: string(id), Blocks: 8, Spec: text})
	if err != nil {
		t.Fatal(err)
	}
	j.Close()
}

func TestReaperGoesOnAfterFailures(t *testing.T) {
	w := newWreck(t)
	w.source.Hook = func(id string) error {
		if id == "snapshot-1" {
			t.Error("its VM snapshot was to be removed while the disk hangs there")
		}
		if id == "scsi0:1" {
			return transfer.Fail(transfer.Retry, "detach", errors.New("vCenter says no"), "Look there.")
		}
		return nil
	}
	rep, err := w.Run(t.Context(), false)
	if err == nil || !strings.Contains(err.Error(), "vCenter says no") {
		t.Errorf("error: %v", err)
	}
	done, not := deeds(rep)
	wantList(t, "done", done, "abort snap-1", "remove snapshot-2")
	wantList(t, "not done", not, "detach scsi0:1", "remove snapshot-1", "leave snap-2")
	wantList(t, "log", w.source.Log(), "remove snapshot-2")
	if text := strings.Join(rep.Alarms, "\n"); !strings.Contains(text, "attached disk") || !strings.Contains(text, "snapferry-c1 of app01") {
		t.Errorf("alarms: %s", text)
	}
	if rep.Things[0].Hint != "Look there." {
		t.Errorf("hint: %+v", rep.Things[0])
	}
}

func TestReaperWithoutOneSide(t *testing.T) {
	w := newWreck(t)
	w.source.ListErr = errors.New("vCenter is away")
	rep, err := w.Run(t.Context(), false)
	done, _ := deeds(rep)
	wantList(t, "without vCenter", done, "abort snap-1")
	if err == nil || len(rep.Unseen) != 2 {
		t.Errorf("%v, unseen %v", err, rep.Unseen)
	}
	w = newWreck(t)
	w.store.AllErr = transfer.Fail(transfer.Permanent, "list", errors.New("the label of snap-7 cannot be read"), "")
	w.store.Remove("snap-1")
	rep, err = w.Run(t.Context(), false)
	done, not := deeds(rep)
	wantList(t, "with labels that cannot be read", done, "detach scsi0:1", "remove snapshot-1", "remove snapshot-2")
	wantList(t, "not done", not, "leave snap-2") // the one that cannot be read may be its sibling
	if err == nil || !strings.Contains(rep.Unseen[0], "snap-7") {
		t.Errorf("%v, unseen %v", err, rep.Unseen)
	}
}

// TestReaperLooksAgain: a cycle that ended between the look and the lock may
// have sealed.
func TestReaperLooksAgain(t *testing.T) {
	w := newWreck(t)
	w.Source = &lateLook{Leftovers: w.source, then: func() {
		w.store.Put(ebsSnap("snap-1", transfer.Completed, "c1", 1, 2, day))
	}}
	done, not := deeds(w.run(t, false))
	wantList(t, "done", done, "detach scsi0:1", "remove snapshot-1", "remove snapshot-2")
	wantList(t, "not done", not)
	wantList(t, "in AWS", w.left(), "snap-1", "snap-2", "snap-3", "snap-4")
}

// lateLook lets something happen after EBS was listed.
type lateLook struct {
	*memory.Leftovers
	then func()
}

func (l *lateLook) Snapshots(ctx context.Context, vms []transfer.VMID) ([]transfer.MarkedSnapshot, error) {
	l.then()
	return l.Leftovers.Snapshots(ctx, vms)
}

func TestReaperLeavesWhatIsInUse(t *testing.T) {
	w := newWreck(t)
	w.store.Remove("snap-1")
	w.store.InUse["snap-2"] = true
	rep := w.run(t, false)
	if a := rep.Things[2]; a.ID != "snap-2" || a.Do != transfer.DeedLeave || !strings.Contains(a.Reason, "in use") {
		t.Errorf("%+v", a)
	}
}

func TestReaperAlarms(t *testing.T) {
	w := newWreck(t)
	old := markedSnapshot(them)
	old.Snapshot, old.Created, old.Low = "snapshot-3", reapNow.Add(-50*time.Hour), "vmfs1 has 7 MiB free of 900"
	w.source.Add([]transfer.MarkedSnapshot{old}, nil)
	rep := w.run(t, false)
	if text := strings.Join(rep.Alarms, "\n"); len(rep.Alarms) != 2 || !strings.Contains(text, "50 hours old") || !strings.Contains(text, "vmfs1 has 7 MiB free") {
		t.Errorf("alarms: %s", text)
	}
}

// TestReaperInterrupted ends the deed under way and begins no other.
func TestReaperInterrupted(t *testing.T) {
	w := newWreck(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.source.Hook = func(string) error { cancel(); return nil }
	rep, err := w.Run(ctx, false)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	done, _ := deeds(rep)
	wantList(t, "done", done, "detach scsi0:1")
}
