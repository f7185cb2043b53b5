package launch

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"snapferry/transfer"
)

// connect stands for the network of the instance.
func (g *rig) connect(ctx context.Context, network, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, network, g.addr)
}

func TestTestFromLaunchToEnd(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForTest, map[string]string{"test.for": "2h", "tag.owner": "ops"})
	g.must(l.Test(t.Context(), &j))
	if j.State != StateLaunched || j.Type != "c6i.large" || j.Boot != "snap-conv-c1" || j.PrivateIP == "" {
		t.Errorf("job: state %s, type %s, boot %s, IP %s", j.State, j.Type, j.Boot, j.PrivateIP)
	}
	i := g.alive(ForTest)[0]
	for k, want := range map[string]string{tagVM: "vm-7", tagVCenter: "vc-1", tagJob: string(j.ID), tagPoint: "c1", "owner": "ops", "env": "prod", "Name": "app01 (test)", tagEnds: stamp(j.Ends)} {
		if i.tags[k] != want {
			t.Errorf("tag %s is %q, want %q", k, i.tags[k], want)
		}
	}
	if i.subnet != "subnet-test" {
		t.Errorf("it runs in %s", i.subnet)
	}
	img := g.images[j.Image]
	if img.mode != "legacy-bios" || *img.mappings["/dev/sda1"].SnapshotId != "snap-conv-c1" || *img.mappings["/dev/sdf"].SnapshotId != "snap-c1-2" {
		t.Errorf("image: %+v", img)
	}
	for _, id := range []string{"snap-c1-1", "snap-c1-2", "snap-conv-c1"} {
		if g.snaps[id].tags[tagInUse] != string(j.ID) {
			t.Errorf("%s is marked %q", id, g.snaps[id].tags[tagInUse])
		}
	}
	if p := ProofOf(g.snaps["snap-c1-1"].tags); p == nil || !p.OK || p.Job != j.ID {
		t.Errorf("proof: %+v", p)
	}
	for d, id := range i.vols {
		if g.vols[id].tags[tagDisk] == "" || i.keep[d] {
			t.Errorf("volume at %s: disk %q, kept %v", d, g.vols[id].tags[tagDisk], i.keep[d])
		}
	}
	if j.Due(j.Ends.Add(-time.Second)) || !j.Due(j.Ends) {
		t.Error("Due does not turn at Ends")
	}
	g.must(l.EndTest(t.Context(), &j))
	g.only("snap-c1-")
	g.unmarked()
	if j.State != StateEnded || j.Due(j.Ends) {
		t.Errorf("state %s, due %v", j.State, j.Due(j.Ends))
	}
	g.must(l.EndTest(t.Context(), &j)) // again
}

func TestTestEndsThePreviousOne(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	first := g.job(ForTest, nil)
	g.must(l.Test(t.Context(), &first))
	second := g.job(ForTest, nil)
	g.must(l.Test(t.Context(), &second))
	alive := g.alive(ForTest)
	if len(alive) != 1 || alive[0].tags[tagJob] != string(second.ID) {
		t.Fatalf("%d test instances", len(alive))
	}
	if g.count("convert") != 2 || g.snaps["snap-conv-c1"] == nil {
		t.Error("the conversion of the same point went with the previous test")
	}
	g.clock = second.Ends
	ended, err := g.launcher().EndDue(t.Context()) // by the tags alone
	g.must(err)
	if len(ended) != 1 || ended[0].ID != second.ID {
		t.Errorf("ended %v", ended)
	}
	g.only("snap-c1-")
	g.unmarked()
}

func TestCutoverToFinalize(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	test := g.job(ForTest, nil)
	g.must(l.Test(t.Context(), &test))
	j := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &j, g.source()))
	if g.on || j.Request.Point.Cycle != "c2" || j.Boot != "snap-conv-c2" {
		t.Errorf("source on: %v, point %s, boot %s", g.on, j.Request.Point.Cycle, j.Boot)
	}
	d := j.Downtime
	if d == nil || d.ToLaunch < 20*time.Second || d.Total <= d.ToLaunch || len(d.Steps) == 0 || d.Steps[0].Step != StepPowerOff {
		t.Fatalf("downtime: %+v", d)
	}
	var sum time.Duration
	for _, s := range d.Steps {
		sum += s.Took
	}
	if sum > d.Total {
		t.Errorf("the steps took %v of %v", sum, d.Total)
	}
	if len(g.alive(ForTest)) != 1 {
		t.Error("the cutover ended the test")
	}
	order := []string{}
	for _, e := range j.Events {
		order = append(order, string(e.Kind))
	}
	for _, want := range []EventKind{EventJobStart, EventPowerOffEnd, EventSnapshotEnd, EventConversionEnd, EventLaunchEnd, EventJobEnd} {
		if !slices.Contains(order, string(want)) {
			t.Errorf("no event %s in %v", want, order)
		}
	}
	ended, cbt := false, false
	e := Ending{
		EndReplication: func(context.Context) error { ended = true; return nil },
		Prune:          g.prune,
		StopTracking:   func(context.Context) error { cbt = true; return nil },
	}
	g.must(l.Finalize(t.Context(), &j, e))
	if !ended || !cbt || j.State != StateFinalized {
		t.Errorf("ended %v, CBT off %v, state %s", ended, cbt, j.State)
	}
	g.only(j.Instance, "vol-")
	if n := len(g.vols); n != 2 {
		t.Errorf("%d volumes", n)
	}
	for _, i := range g.alive(ForCutover) {
		for d, keep := range i.keep {
			if !keep {
				t.Errorf("the volume at %s goes with its instance", d)
			}
		}
	}
	g.must(l.Finalize(t.Context(), &j, e))

	// The machine is the user's now: what knows the tags alone neither reverts it
	// nor ends it for another migration of the VM.
	known := JobsOf(must(l.Inventory(t.Context(), vm)))
	if len(known) != 1 || known[0].State != StateFinalized {
		t.Fatalf("by its tags it is %+v", known)
	}
	if err := l.Revert(t.Context(), &known[0], g.source()); err == nil || !strings.Contains(err.Error(), "finalized") {
		t.Errorf("revert: %v", err)
	}
	again := g.job(ForCutover, nil)
	again.Request.Point = g.point("c3", 2)
	g.must(l.Cutover(t.Context(), &again, g.source()))
	if len(g.alive(ForCutover)) != 2 {
		t.Errorf("alive: %v", g.alive(ForCutover))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// prune deletes every point, as far as nothing uses it.
func (g *rig) prune(context.Context) (kept []transfer.SnapshotID, err error) {
	err = g.call("prune", func() {
		for id, s := range g.snaps {
			if s.tags[tagInUse] != "" {
				g.t.Errorf("%s is pruned while %s uses it", id, s.tags[tagInUse])
			}
			delete(g.snaps, id)
		}
	})
	return nil, err
}

func TestFinalizeSaysWhatIsLeft(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &j, g.source()))
	err := l.Finalize(t.Context(), &j, Ending{Prune: func(context.Context) ([]transfer.SnapshotID, error) {
		return []transfer.SnapshotID{"snap-c2-1", "snap-c2-2"}, nil // and c1 is neither deleted nor kept
	}})
	if err == nil || !strings.Contains(err.Error(), "snap-c1-1") || strings.Contains(err.Error(), "snap-c2-1") {
		t.Fatalf("finalize: %v", err)
	}
	g.must(l.Finalize(t.Context(), &j, Ending{})) // without pruning, points stay
	g.only(j.Instance, "vol-", "snap-c")
	if slices.ContainsFunc(j.Left, func(r Resource) bool { return r.Kind == KindConversion }) {
		t.Errorf("left: %v", j.Left)
	}
}

func TestFinalizeNeedsTheInstance(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &j, g.source()))
	g.instances[j.Instance].over = g.clock // by other hands
	if err := l.Finalize(t.Context(), &j, Ending{Prune: g.prune}); err == nil {
		t.Fatal("it deleted the points of a VM whose instance is gone")
	}
	if g.count("prune") != 0 {
		t.Error("points were pruned")
	}
}

func TestRevert(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &j, g.source()))
	g.must(l.Revert(t.Context(), &j, g.source()))
	if !g.on || g.instances[j.Instance].state(g.clock) != "stopped" || j.State != StateReverted {
		t.Fatalf("source on: %v, instance %s, state %s", g.on, g.instances[j.Instance].state(g.clock), j.State)
	}
	if err := l.Finalize(t.Context(), &j, Ending{}); err == nil {
		t.Error("a reverted cutover was finalized")
	}
	again := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &again, g.source()))
	alive := g.alive(ForCutover)
	if len(alive) != 1 || alive[0].tags[tagJob] != string(again.ID) {
		t.Errorf("%d cutover instances", len(alive))
	}
	g.must(l.Finalize(t.Context(), &again, Ending{Prune: g.prune}))
	g.only(again.Instance, "vol-")
	if len(g.vols) != 2 {
		t.Errorf("%d volumes", len(g.vols))
	}
}

func TestCutoverIsNotBegunOverAnother(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForCutover, nil)
	g.must(l.Cutover(t.Context(), &j, g.source()))
	other := g.job(ForCutover, nil)
	if err := l.Cutover(t.Context(), &other, g.source()); err == nil || !strings.Contains(err.Error(), j.Instance) {
		t.Fatalf("a second cutover: %v", err)
	}
	if len(g.alive(ForCutover)) != 1 {
		t.Error("the first instance is gone")
	}
}

func TestPowerOff(t *testing.T) {
	t.Run("a guest that hangs", func(t *testing.T) {
		g := newRig(t)
		g.stuck = true
		j := g.job(ForCutover, map[string]string{"shutdownTimeout": "1s"})
		err := g.launcher().Cutover(t.Context(), &j, g.source())
		if err == nil || !strings.Contains(err.Error(), "has not shut down within 1s") || g.forced != 0 {
			t.Fatalf("%v, forced %d", err, g.forced)
		}
		if j.Error == "" || j.Hint == "" {
			t.Errorf("the job says %q, %q", j.Error, j.Hint)
		}
		g.stuck = false
		g.must(g.launcher().Cutover(t.Context(), &j, g.source()))
	})
	t.Run("forced where that is asked for", func(t *testing.T) {
		g := newRig(t)
		g.stuck = true
		j := g.job(ForCutover, map[string]string{"shutdownTimeout": "1s", "forcePowerOff": "yes"})
		g.must(g.launcher().Cutover(t.Context(), &j, g.source()))
		if g.forced != 1 || len(j.Notes) == 0 {
			t.Errorf("forced %d, notes %v", g.forced, j.Notes)
		}
	})
}

func TestNothingIsOffBeforeThePreflight(t *testing.T) {
	for name, spoil := range map[string]func(*rig, *Job){
		"no permission":        func(g *rig, _ *Job) { g.deny["RegisterImage"] = true },
		"no such subnet":       func(_ *rig, j *Job) { j.Request.Settings.NICs[0].Subnet = "subnet-no" },
		"no such type":         func(_ *rig, j *Job) { j.Request.Settings.InstanceType = "z9.huge" },
		"an incomplete point":  func(_ *rig, j *Job) { j.Request.Point.Complete = false },
		"an address elsewhere": func(_ *rig, j *Job) { j.Request.Settings.NICs[0].PrivateIP = "10.99.0.1" },
		"encryption by default": func(g *rig, j *Job) {
			g.encrypt = true
			j.Request.Point.Disks[1].Label.ZerosAbsent = true
		},
		"a key and absent zeros": func(_ *rig, j *Job) {
			j.Request.Point.Disks[0].Label.ZerosAbsent = true
			j.Request.Settings.Volume.KMSKey = "alias/x"
		},
		"an SSM check without SSM": func(_ *rig, j *Job) { j.Request.Settings.Checks = []Check{{Kind: CheckSSM, Target: "true"}} },
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			j := g.job(ForCutover, nil)
			spoil(g, &j)
			if err := g.launcher().Cutover(t.Context(), &j, g.source()); err == nil {
				t.Fatal("no error")
			}
			if !g.on {
				t.Error("the source is off")
			}
			g.only("snap-c1-")
			g.unmarked()
		})
	}
}

func TestStockImage(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForCutover, map[string]string{"licence": "aws", "stockImage": "ami-stock"})
	g.must(l.Cutover(t.Context(), &j, g.source()))
	i := g.instances[j.Instance]
	if v := g.vols[i.vols["/dev/sda1"]]; v.snapshot != "snap-conv-c2" {
		t.Errorf("the root volume is of %q", v.snapshot)
	}
	if v := g.vols[i.vols["/dev/sdf"]]; v == nil || v.snapshot != "snap-c2-2" {
		t.Errorf("the data volume is %+v", v)
	}
	if len(g.vols) != 2 || g.count("RegisterImage") != 0 {
		t.Errorf("%d volumes, %d images", len(g.vols), g.count("RegisterImage"))
	}
	g.must(l.Finalize(t.Context(), &j, Ending{Prune: g.prune}))
	g.only(j.Instance, "vol-")
}

func TestImport(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForTest, map[string]string{"licence": "import", "platform": "Windows"})
	g.must(l.Test(t.Context(), &j))
	if g.count("convert") != 0 || len(g.alive(ForTest)) != 1 {
		t.Errorf("%d conversions, %d instances", g.count("convert"), len(g.alive(ForTest)))
	}
	g.must(l.EndTest(t.Context(), &j))
	g.only("snap-c1-")
	for id, s := range g.snaps { // those that AWS's import made carry our job
		if s.tags[tagVersion] == "" {
			t.Errorf("%s is left", id)
		}
	}
	g.unmarked()
}

func TestNoRoomForTheType(t *testing.T) {
	g := newRig(t)
	g.noRoom["c6i.large"] = true
	j := g.job(ForTest, nil)
	g.must(g.launcher().Test(t.Context(), &j))
	if j.Type != "m6i.large" || !slices.Equal(j.Without, []string{"c6i.large"}) || len(g.alive(ForTest)) != 1 {
		t.Errorf("type %s, without %v", j.Type, j.Without)
	}
	set := g.job(ForTest, map[string]string{"instanceType": "c6i.large"})
	err := g.launcher().Test(t.Context(), &set)
	if transfer.KindOf(err) != transfer.Retry || transfer.HintOf(err) == "" {
		t.Errorf("a type that was set: %v", err)
	}
}

func TestSickInstanceLeavesAWitness(t *testing.T) {
	g := newRig(t)
	g.sick = true
	j := g.job(ForTest, nil)
	if err := g.launcher().Test(t.Context(), &j); err == nil {
		t.Fatal("no error")
	}
	if j.Console != "Kernel panic - not syncing\n" || string(j.Screen) != "jpeg" {
		t.Errorf("console %q, screen %q", j.Console, j.Screen)
	}
	if ProofOf(g.snaps["snap-c1-1"].tags) != nil {
		t.Error("the point counts as proved")
	}
	g.must(g.launcher().EndTest(t.Context(), &j))
	g.only("snap-c1-")
}

func TestPreviewChangesNothing(t *testing.T) {
	g := newRig(t)
	g.deny["CreateTags"] = true
	j := g.job(ForCutover, nil)
	p, err := g.launcher().Preview(t.Context(), j)
	g.must(err)
	if p.Type != "c6i.large" || p.Problem != "" || len(p.Steps) < 10 {
		t.Errorf("preview: %+v", p)
	}
	want := []Permission{{Action: "ec2:RegisterImage", Allowed: true}, {Action: "ec2:CreateTags"}, {Action: "ec2:RunInstances", Unknown: "there is no image yet to ask with"}}
	if !slices.Equal(p.Permissions, want) {
		t.Errorf("permissions: %+v", p.Permissions)
	}
	g.only("snap-c1-")
	g.unmarked()
	if !g.on || len(g.images) != 1 {
		t.Error("the preview did something")
	}
}

func TestGuestThatIsReady(t *testing.T) {
	g := newRig(t)
	g.ready = true
	j := g.job(ForTest, nil)
	g.must(g.launcher().Test(t.Context(), &j))
	if j.Boot != "snap-c1-1" || !j.Conversion.Ready {
		t.Errorf("boot %s, %+v", j.Boot, j.Conversion)
	}
	g.must(g.launcher().EndTest(t.Context(), &j))
	g.only("snap-c1-")
	if len(g.snaps) != 2 {
		t.Errorf("%d snapshots", len(g.snaps))
	}
}

func TestJobHoldsNoUserData(t *testing.T) {
	g := newRig(t)
	g.user = "password=hunter2"
	j := g.job(ForTest, map[string]string{"userDataFile": "/etc/user-data"})
	g.must(g.launcher().Test(t.Context(), &j))
	b, err := json.Marshal(j)
	g.must(err)
	if strings.Contains(string(b), "hunter2") || strings.Contains(string(b), "cGFzc3dvcmQ") {
		t.Error("the job holds the user data")
	}
}
