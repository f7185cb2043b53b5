package ebs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

func TestSnapshotsFindsAVMsOwnInEveryState(t *testing.T) {
	r := newRig(t, aws.Options{})
	other := func(s *transfer.DraftSpec) { s.Label.VM.Moref = "vm-1" }
	done, open, failed := r.sealed(nil), r.start().ID(), r.start().ID()
	if err := r.aws.FailSnapshot(string(failed), "Given key ID is not accessible"); err != nil {
		t.Fatal(err)
	}
	foreign := r.start(other).ID()
	r.aws.AddForeign("999999999999", 1, map[string]string{tagVersion: "1", tagVCenter: label().VM.VCenter, tagVM: label().VM.Moref})

	found, err := r.store.Snapshots(t.Context(), label().VM)
	if err != nil {
		t.Fatal(err)
	}
	states := map[transfer.SnapshotID]transfer.State{}
	for _, s := range found {
		states[s.ID] = s.State
		want := label()
		if s.ID == done {
			want.Blocks = 0
		}
		if diff := cmp.Diff(want, s.Label); diff != "" {
			t.Errorf("label of %s: %s", s.ID, diff)
		}
		if s.VolumeGiB != 1 || s.Started.IsZero() || s.Encrypted {
			t.Errorf("snapshot is %+v", s)
		}
		if s.ID == failed && s.Message != "Given key ID is not accessible" {
			t.Errorf("message %q", s.Message)
		}
	}
	want := map[transfer.SnapshotID]transfer.State{done: transfer.Completed, open: transfer.Pending, failed: transfer.Failed}
	if diff := cmp.Diff(want, states); diff != "" {
		t.Error(diff)
	}
	all, err := r.store.AllSnapshots(t.Context())
	if err != nil || len(all) != 4 {
		t.Errorf("%d of all snapshots (%v), want 4 with %s", len(all), err, foreign)
	}
}

func TestSnapshotsTurnsEveryPage(t *testing.T) {
	r := newRig(t, aws.Options{OddPages: true})
	want := map[transfer.SnapshotID]bool{}
	for range 7 {
		want[r.start().ID()] = true
	}
	for range 8 { // which pages are odd differs
		found, err := r.store.Snapshots(t.Context(), label().VM)
		if err != nil {
			t.Fatal(err)
		}
		got := map[transfer.SnapshotID]bool{}
		for _, s := range found {
			got[s.ID] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestUnreadableLabelsAreNamed(t *testing.T) {
	r := newRig(t, aws.Options{})
	good := r.start().ID()
	bad := r.start().ID()
	if err := r.store.tag(t.Context(), "test", bad, time.Time{}, map[string]string{tagOrdinal: "4/2"}); err != nil {
		t.Fatal(err)
	}
	found, err := r.store.Snapshots(t.Context(), label().VM)
	wantKind(t, err, transfer.Permanent, string(bad), tagOrdinal, "4/2")
	if found != nil {
		t.Errorf("returned %d snapshots beside the error", len(found))
	}
	all, err := r.store.AllSnapshots(t.Context())
	wantKind(t, err, transfer.Permanent, string(bad))
	if len(all) != 1 || all[0].ID != good {
		t.Errorf("the readable ones are %v", all)
	}
}

func TestConfirm(t *testing.T) {
	r := newRig(t, aws.Options{})
	ids := map[transfer.SnapshotID]transfer.ChangeID{}
	for range 6 {
		ids[r.sealed(nil)] = "52 de c0 d9 b4 1f/9"
	}
	var untracked transfer.SnapshotID
	for untracked = range ids {
		ids[untracked] = ""
		break
	}
	before := r.store.Calls()[opTag]
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	r.faults.Add(fault.Rule{Op: opTag, Kind: fault.LostAnswer})
	if err := r.store.Confirm(t.Context(), at, ids); err != nil {
		t.Fatal(err)
	}
	if n := r.store.Calls()[opTag] - before; n != 7 {
		t.Errorf("%d tag writes, want one each and one again", n)
	}
	found, err := r.store.Snapshots(t.Context(), label().VM)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range found {
		if !s.Label.Confirmed.Equal(at) || s.Label.ChangeID != ids[s.ID] {
			t.Errorf("snapshot %s: confirmed %v, change ID %q", s.ID, s.Label.Confirmed, s.Label.ChangeID)
		}
	}
}

func TestConfirmOfADeletedSnapshot(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.sealed(nil)
	if err := r.aws.DeleteOutOfBand(string(id)); err != nil {
		t.Fatal(err)
	}
	err := r.store.Confirm(t.Context(), time.Now(), map[transfer.SnapshotID]transfer.ChangeID{id: "x/1"})
	wantKind(t, err, transfer.Retry, "confirm snapshot "+string(id), "deleted")
}

func TestDeleteOnlyWhatIsOurs(t *testing.T) {
	r := newRig(t, aws.Options{})
	id := r.sealed(nil)
	r.faults.Add(fault.Rule{Op: opDelete, Kind: fault.LostAnswer})
	for range 2 {
		if err := r.store.Delete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if _, there := r.info(id); there {
		t.Error("it is still there")
	}
	foreign := transfer.SnapshotID(r.aws.AddForeign("123456789012", 1, map[string]string{"Name": "app01", "snapferry": "yes"}))
	wantKind(t, r.store.Delete(t.Context(), foreign), transfer.Permanent, string(foreign), "does not carry our tags", "by hand")
	if _, there := r.info(foreign); !there {
		t.Error("a snapshot of somebody else was deleted")
	}
	used := r.sealed(nil)
	if err := r.aws.UseInImage(string(used), "ami-0123456789abcdef0"); err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.store.Delete(t.Context(), used), transfer.Permanent, "in use", "AMI")
}

func TestIdentity(t *testing.T) {
	r := newRig(t, aws.Options{Region: "eu-central-1"})
	id, err := r.store.Identity(t.Context())
	if err != nil || id.Account != "123456789012" || id.ARN == "" || id.Region != "eu-central-1" || r.store.Region() != id.Region {
		t.Errorf("identity %+v, %v", id, err)
	}
}

func TestStatesOfSomeThatAreGone(t *testing.T) {
	r := newRig(t, aws.Options{})
	open, done, gone := r.start().ID(), r.sealed(nil), r.sealed(nil)
	if err := r.aws.DeleteOutOfBand(string(gone)); err != nil {
		t.Fatal(err)
	}
	got, err := r.store.states(t.Context(), []transfer.SnapshotID{open, gone, done})
	want := map[transfer.SnapshotID]ending{open: {state: transfer.Pending}, done: {state: transfer.Completed}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(ending{})); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
