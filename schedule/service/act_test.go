package service_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"snapferry/schedule"
	"snapferry/transfer"
)

func TestPauseLetsARunningCycleGoOn(t *testing.T) {
	r := newRig(t, machines("a", "b", "c")...)
	r.gold("a", "b", "c")
	ctx := t.Context()
	done := ok(r.Sync(ctx, alice, ids("a", "b"), false))
	r.begin(done[0].Run)
	last := r.last()
	kicks := r.kicked

	got := ok(r.Pause(ctx, alice, ids("a", "b", "c"), "patch day"))
	want := fmt.Sprintf("a: paused; run %d goes on\nb: paused; run %d, which was queued, is cancelled\nc: paused", done[0].Run, done[1].Run)
	if results(got) != want {
		t.Errorf("pause:\n%s\nwant\n%s", results(got), want)
	}
	if r.kicked != kicks+1 {
		t.Errorf("kicked %d times, want once", r.kicked-kicks)
	}
	for _, name := range []string{"a", "b", "c"} {
		if vm := r.vm(name); !vm.Paused || vm.PausedWhy != "patch day" || vm.Replication != schedule.ReplicationPaused {
			t.Errorf("%s: paused %v because %q, %s", name, vm.Paused, vm.PausedWhy, vm.Replication)
		}
	}
	if run := ok(r.Run(ctx, done[0].Run)); run.State != schedule.RunRunning || run.Cancel {
		t.Errorf("the running cycle is %s, cancel %v", run.State, run.Cancel)
	}
	if run := ok(r.Run(ctx, done[1].Run)); run.State != schedule.RunCancelled {
		t.Errorf("the queued run is %s", run.State)
	}
	wantEvents := []string{"REPLICATION_PAUSED a", "REPLICATION_PAUSED b", "REPLICATION_CANCELLED b", "REPLICATION_PAUSED c"}
	if diff := cmp.Diff(wantEvents, r.events(last)); diff != "" {
		t.Error(diff)
	}
	again := ok(r.Pause(ctx, alice, ids("c"), "other reason"))
	if again[0].Result != "already paused" || r.vm("c").PausedWhy != "patch day" {
		t.Errorf("paused again: %+v, because %q", again, r.vm("c").PausedWhy)
	}
}

func TestSyncOfAPausedVMRunsOnceAndLeavesItPaused(t *testing.T) {
	r := newRig(t, machines("a")...)
	r.gold("a")
	ctx := t.Context()
	ok(r.Pause(ctx, alice, ids("a"), ""))
	done := ok(r.Sync(ctx, alice, ids("a"), true))
	run := ok(r.Run(ctx, done[0].Run))
	if run.Trigger != "user alice" || !run.Seed || run.Policy != "gold" || run.State != schedule.RunQueued {
		t.Errorf("queued: %+v", run)
	}
	if vm := r.vm("a"); !vm.Paused || vm.PausedWhy != "paused by alice" || vm.Run == nil || vm.Run.ID != run.ID {
		t.Errorf("after sync: paused %v (%s), run %v", vm.Paused, vm.PausedWhy, vm.Run)
	}
	again := ok(r.Pause(ctx, alice, ids("a"), ""))
	if again[0].Run != run.ID || ok(r.Run(ctx, run.ID)).State != schedule.RunQueued {
		t.Errorf("pausing what is paused took its run away: %+v", again)
	}
	scene := schedule.Scene{}
	ok(r.db.Admit(ctx, r.now, func(s schedule.Scene) []schedule.Grant { scene = s; return nil }, nil))
	if len(scene.Queued) != 1 || !scene.Queued[0].Urgent || scene.Queued[0].Priority != 7 {
		t.Errorf("queued: %+v", scene.Queued)
	}
}

func TestSyncAnswersWithTheRunThatThereIs(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	ctx := t.Context()
	first := ok(r.Sync(ctx, alice, ids("a", "a", "b"), false))
	if results(first) != "a: queued\nb: queued" { // without a policy too
		t.Fatalf("sync:\n%s", results(first))
	}
	r.begin(first[1].Run)
	again := ok(r.Sync(ctx, alice, ids("a", "b"), false))
	if results(again) != "a: already queued\nb: already running" || again[1].Run != first[1].Run {
		t.Errorf("again:\n%s", results(again))
	}
	seed := ok(r.Sync(ctx, alice, ids("b"), true))
	if !strings.Contains(seed[0].Error, "none that copies everything anew") {
		t.Errorf("a seed beside another run: %+v", seed)
	}
}

func TestSyncRefusesWhatCannotBeReplicated(t *testing.T) {
	rdm := machine("rdm")
	rdm.Disks = append(rdm.Disks, rdm.Disks[0])
	rdm.Disks[1].ID.Key, rdm.Disks[1].Label = 2001, "Hard disk 2"
	rdm.Disks[1].Obstacles = []transfer.Obstacle{{Reason: "it is a raw device mapping", Remedy: "Turn it into a virtual disk."}}
	whole := machine("whole")
	whole.Obstacles = []transfer.Obstacle{{Reason: "fault tolerance is on", Remedy: "Turn it off."}}
	excluded := rdm
	excluded.ID, excluded.Name = id("excluded"), "excluded"
	bare := machine("bare")
	bare.Disks = nil
	r := newRig(t, rdm, whole, excluded, bare, machine("over"), machine("gone"))
	ctx := t.Context()
	if err := r.db.SavePolicy(ctx, schedule.Policy{Name: "no2", Every: schedule.Duration(time.Hour), Exclude: []string{"Hard disk 2"}}); err != nil {
		t.Fatal(err)
	}
	if err := r.db.Plan(ctx, []schedule.Planned{{VM: id("excluded"), Policy: "no2"}}); err != nil {
		t.Fatal(err)
	}
	ok(r.Mark(ctx, alice, ids("over"), "disconnect"))
	r.inventory(rdm, whole, excluded, bare, machine("over"))

	done := ok(r.Sync(ctx, alice, ids("rdm", "whole", "excluded", "bare", "over", "gone", "nobody"), false))
	for i, part := range []string{"it is a raw device mapping", "fault tolerance is on. Turn it off.", "", "no disk", "disconnected", "not in vCenter any more", "there is no VM"} {
		if (part == "") != (done[i].Error == "") || !strings.Contains(done[i].Error, part) {
			t.Errorf("%s: %q, want %q in it", done[i].VM.Moref, done[i].Error, part)
		}
	}
	if runs := ok(r.Runs(ctx, schedule.RunQuery{})); len(runs) != 1 || runs[0].VM != id("excluded") {
		t.Errorf("queued: %+v", runs)
	}
}

func TestResumePlansAnew(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	r.gold("a")
	ctx := t.Context()
	ok(r.Pause(ctx, alice, ids("a"), ""))
	r.now = r.now.Add(48 * time.Hour)
	done := ok(r.Resume(ctx, alice, ids("a", "b")))
	if results(done) != "a: resumed\nb: was not paused" {
		t.Fatal(results(done))
	}
	vm := r.vm("a")
	if vm.Paused || vm.PausedWhy != "" || vm.Next.Before(r.now) || !strings.HasPrefix(vm.NextWhy, "resumed by alice; ") {
		t.Errorf("resumed: paused %v (%q), next %v %q", vm.Paused, vm.PausedWhy, vm.Next, vm.NextWhy)
	}
}

func TestCancel(t *testing.T) {
	r := newRig(t, machines("a", "b", "c")...)
	ctx := t.Context()
	queued := ok(r.Sync(ctx, alice, ids("a", "b"), false))
	r.begin(queued[1].Run)
	done := ok(r.Cancel(ctx, alice, ids("a", "b", "c")))
	if results(done) != "a: cancelled\nb: cancelling\nc! c has no run to cancel" {
		t.Error(results(done))
	}
	if run := ok(r.Run(ctx, queued[1].Run)); !run.Cancel || run.State != schedule.RunRunning {
		t.Errorf("the running one: %+v", run)
	}
}

func TestMarksAreTheLifecycle(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	r.gold("a", "b")
	ctx := t.Context()
	if err := r.db.SetLifecycle(ctx, id("a"), []schedule.Lifecycle{schedule.NotReady}, schedule.ReadyForTest); err != nil {
		t.Fatal(err)
	}
	run := ok(r.Sync(ctx, alice, ids("a"), false))[0].Run
	last := r.last()
	done := ok(r.Mark(ctx, alice, ids("a", "b"), "ready-for-cutover"))
	if done[0].Result != "ready-for-cutover" || !strings.Contains(done[1].Error, "not-ready") {
		t.Errorf("marked:\n%s", results(done))
	}
	done = ok(r.Mark(ctx, alice, ids("a"), "disconnect"))
	if want := fmt.Sprintf("a: disconnected; run %d: cancelled", run); results(done) != want {
		t.Errorf("disconnected: %s, want %s", results(done), want)
	}
	if vm := r.vm("a"); vm.Lifecycle != schedule.Disconnected || vm.Replication != schedule.ReplicationEnded || vm.Run != nil {
		t.Errorf("after that: %s, %s, run %v", vm.Lifecycle, vm.Replication, vm.Run)
	}
	done = ok(r.Mark(ctx, alice, ids("a"), "reconnect"))
	if vm := r.vm("a"); results(done) != "a: not-ready" || vm.Next.IsZero() {
		t.Errorf("reconnected: %s, next %v", results(done), vm.Next)
	}
	want := []string{"LIFECYCLE_STATE_CHANGE a", "LIFECYCLE_STATE_CHANGE a", "REPLICATION_CANCELLED a", "LIFECYCLE_STATE_CHANGE a"}
	if diff := cmp.Diff(want, r.events(last)); diff != "" {
		t.Error(diff)
	}
	for _, as := range []string{"", "test", "finalize", "cut-over"} {
		if _, err := r.Mark(ctx, alice, ids("a"), as); !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("mark as %q: %v", as, err)
		}
	}
}

func TestWavesActOnAll(t *testing.T) {
	broken := machine("b")
	broken.Obstacles = []transfer.Obstacle{{Reason: "it has a shared bus"}}
	r := newRig(t, machine("a"), broken, machine("c"))
	ctx := t.Context()
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "w1", VMs: ids("a", "b", "c", "a")}); err != nil {
		t.Fatal(err)
	}
	done := ok(r.ActOnWave(ctx, alice, "w1", "sync"))
	if len(done) != 3 || done[0].Result != "queued" || !strings.Contains(done[1].Error, "shared bus") || done[2].Result != "queued" {
		t.Errorf("sync:\n%s", results(done))
	}
	if run := ok(r.Run(ctx, done[2].Run)); run.Trigger != "wave w1" {
		t.Errorf("trigger %q", run.Trigger)
	}
	if done := ok(r.ActOnWave(ctx, alice, "w1", "cancel")); done[0].Result != "cancelled" || done[1].Error == "" {
		t.Errorf("cancel:\n%s", results(done))
	}
	ok(r.ActOnWave(ctx, alice, "w1", "pause"))
	if why := r.vm("b").PausedWhy; why != "wave w1 paused by alice" {
		t.Errorf("paused because %q", why)
	}
	if done := ok(r.ActOnWave(ctx, alice, "w1", "resume")); results(done) != "a: resumed\nb: resumed\nc: resumed" {
		t.Errorf("resume:\n%s", results(done))
	}
	if done := ok(r.ActOnWave(ctx, alice, "w1", "disconnect")); results(done) != "a: disconnected\nb: disconnected\nc: disconnected" {
		t.Errorf("disconnect:\n%s", results(done))
	}
	if _, err := r.ActOnWave(ctx, alice, "w1", "dance"); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("dance: %v", err)
	}
	if _, err := r.ActOnWave(ctx, alice, "w2", "sync"); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("no such wave: %v", err)
	}
}

func TestChoose(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	r.gold()
	ctx := t.Context()
	done := ok(r.Choose(ctx, alice, append(ids("a"), transfer.VMID{VCenter: "x", Moref: "y"}), "gold"))
	if done[0].Result != "policy gold" || done[1].Error == "" || r.vm("a").Chosen != "gold" {
		t.Errorf("chose:\n%s, %q", results(done), r.vm("a").Chosen)
	}
	if _, err := r.Choose(ctx, alice, ids("a"), "silver"); !errors.Is(err, schedule.ErrInvalid) || transfer.HintOf(err) == "" {
		t.Errorf("an unknown policy: %v", err)
	}
	if err := r.DeletePolicy(ctx, alice, "gold"); !errors.Is(err, schedule.ErrConflict) || !strings.Contains(err.Error(), "a") {
		t.Errorf("delete a policy that is in use: %v", err)
	}
	if done := ok(r.Choose(ctx, alice, ids("a"), "")); done[0].Result != "policy by match" || r.vm("a").Chosen != "" {
		t.Errorf("taken back: %s", results(done))
	}
	if err := r.DeletePolicy(ctx, alice, "gold"); err != nil {
		t.Error(err)
	}
	if err := r.DeletePolicy(ctx, alice, "gold"); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestPoliciesThatBreakTheQuotaAreRefused(t *testing.T) {
	var vms []transfer.VM
	for i := range 100 {
		vms = append(vms, machine(fmt.Sprint(i)))
	}
	r := newRig(t, vms...)
	ctx := t.Context()
	p := schedule.Policy{Name: "keen", Every: schedule.Duration(time.Minute), Retention: transfer.Policy{Days: 1}, Match: []schedule.Match{{Name: "*"}}}
	err := r.SavePolicy(ctx, alice, p)
	if !errors.Is(err, schedule.ErrInvalid) || !strings.Contains(err.Error(), "1440 × 100 = 144000") {
		t.Errorf("saved: %v", err)
	}
	p.Match = nil
	if err := r.SavePolicy(ctx, alice, p); err != nil {
		t.Fatal(err)
	}
	var all []transfer.VMID
	for _, vm := range vms {
		all = append(all, vm.ID)
	}
	if _, err := r.Choose(ctx, alice, all, "keen"); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("chosen for all: %v", err)
	}
	// Too many got in another way: what makes it less may be saved, what makes
	// it more may not.
	for _, vm := range all {
		if err := r.db.Choose(ctx, vm, "keen"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.db.Plan(ctx, planAll(all, "keen")); err != nil {
		t.Fatal(err)
	}
	p.Retention.Last = 10_000
	if err := r.SavePolicy(ctx, alice, p); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("more still: %v", err)
	}
	p.Retention = transfer.Policy{Last: 1200}
	if err := r.SavePolicy(ctx, alice, p); err != nil {
		t.Errorf("less: %v", err)
	}
}

func planAll(vms []transfer.VMID, policy string) (planned []schedule.Planned) {
	for _, vm := range vms {
		planned = append(planned, schedule.Planned{VM: vm, Policy: policy})
	}
	return planned
}

func TestRefusalsOfGroups(t *testing.T) {
	r := newRig(t, machines("a")...)
	ctx := t.Context()
	for _, name := range []string{"", " ", "=x", "-x", "@x", "+x", "a/b", ".", "..", "x ", "ä\n", strings.Repeat("x", 65)} {
		if err := r.SaveWave(ctx, alice, schedule.Wave{Name: name}); !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("wave %q: %v", name, err)
		}
	}
	for _, name := range []string{"w", "Welle 1", "Ünïx.2-b_c", strings.Repeat("x", 64)} {
		if err := r.SaveWave(ctx, alice, schedule.Wave{Name: name}); err != nil {
			t.Errorf("wave %q: %v", name, err)
		}
	}
	if err := r.SaveWave(ctx, alice, schedule.Wave{Name: "w", VMs: ids("nobody")}); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("a wave of nobody: %v", err)
	}
	if err := r.DeleteWave(ctx, alice, "none"); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("delete no wave: %v", err)
	}
	if err := r.SavePolicy(ctx, alice, schedule.Policy{Name: "x"}); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("a policy without rhythm: %v", err)
	}
	for _, l := range []schedule.Launch{{"": "x"}, {"a b": "x"}, {"=x": "y"}, {"tag. a": "x"}, {"tag.a=b": "x"}, {"tag.a\nb": "x"}, {"k": "\x00"}, {"k": "\r"}, {"k": "\xff"}, {"k": strings.Repeat("x", 16<<10+1)}} {
		if err := r.SetLaunch(ctx, alice, id("a"), l); !errors.Is(err, schedule.ErrInvalid) {
			t.Errorf("launch %.20q: %v", l, err)
		}
	}
	if err := r.SetLaunch(ctx, alice, id("b"), schedule.Launch{}); !errors.Is(err, schedule.ErrNotFound) {
		t.Errorf("launch of nobody: %v", err)
	}
	if err := r.SetLaunch(ctx, alice, id("a"), schedule.Launch{"subnet": "subnet-1", "test.subnet": "", "tag.Owner": "Zoë", "test.tag.billing:Kostenträger 7": "x"}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(schedule.Launch{"subnet": "subnet-1", "tag.Owner": "Zoë", "test.tag.billing:Kostenträger 7": "x"}, r.vm("a").Launch); diff != "" {
		t.Error(diff)
	}
	if _, err := r.Pause(ctx, alice, ids("a"), "two\nlines"); !errors.Is(err, schedule.ErrInvalid) {
		t.Errorf("a reason of two lines: %v", err)
	}
}

// A database that fails is an error of each VM, and nothing is kicked.
func TestNothingIsKickedWhenNothingWasDone(t *testing.T) {
	r := newRig(t, machines("a", "b")...)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	kicks := r.kicked
	done, err := r.Pause(ctx, alice, ids("a", "b"), "")
	if err != nil || len(done) != 2 || done[0].Error == "" || done[1].Error == "" || r.kicked != kicks {
		t.Errorf("paused: %+v, %v, kicked %d", done, err, r.kicked-kicks)
	}
}
