package launch

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"snapferry/transfer"
)

// crash runs an operation that ends at call n, before or after that call's
// effect, and reports whether it came that far.
func (g *rig) crash(n int, after bool, op func(ctx context.Context)) (reached bool) {
	ctx, cancel := context.WithCancel(g.t.Context())
	defer cancel()
	g.mu.Lock()
	g.killAt, g.after, g.kill = g.calls+n, after, cancel
	g.mu.Unlock()
	op(ctx)
	g.mu.Lock()
	reached = g.dead
	g.mu.Unlock()
	g.revive()
	return reached
}

// eachCrash tries an operation with every change as the last one, and without.
func eachCrash(t *testing.T, try func(t *testing.T, n int, after bool) (reached bool)) {
	t.Helper()
	n := 1
	for ; ; n++ {
		reached := true
		for _, after := range []bool{false, true} {
			if !after && n > 1 { // what the end before a change leaves is what the end after the one before it left
				continue
			}
			name := fmt.Sprintf("call %d, after %v", n, after)
			if !t.Run(name, func(t *testing.T) { reached = try(t, n, after) }) {
				return
			}
		}
		if !reached {
			break
		}
	}
	if n < 5 {
		t.Errorf("the operation made %d changes only: the test looks at nothing", n)
	}
}

func TestCrashInTestThenAgain(t *testing.T) {
	for _, licence := range []map[string]string{nil, {"licence": "aws", "stockImage": "ami-stock"}, {"licence": "import", "platform": "Linux"}} {
		t.Run(string(licence["licence"]), func(t *testing.T) {
			eachCrash(t, func(t *testing.T, n int, after bool) bool {
				g := newRig(t)
				first := g.job(ForTest, licence)
				reached := g.crash(n, after, func(ctx context.Context) {
					j := *clone(t, first)
					_ = g.launcher().Test(ctx, &j)
				})
				j := g.load(first)
				g.must(g.launcher().Test(t.Context(), j))
				if len(g.alive(ForTest)) != 1 {
					t.Fatalf("%d test instances", len(g.alive(ForTest)))
				}
				g.must(g.launcher().EndTest(t.Context(), j))
				g.only("snap-c1-")
				g.unmarked()
				return reached
			})
		})
	}
}

func clone(t *testing.T, j Job) *Job {
	t.Helper()
	b, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var c Job
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// TestCrashInTestThenEnd: nobody goes on; the job is ended, with what was saved
// of it.
func TestCrashInTestThenEnd(t *testing.T) {
	for _, licence := range []map[string]string{nil, {"licence": "aws", "stockImage": "ami-stock"}, {"licence": "import", "platform": "Linux"}} {
		t.Run(string(licence["licence"]), func(t *testing.T) {
			eachCrash(t, func(t *testing.T, n int, after bool) bool {
				g := newRig(t)
				first := g.job(ForTest, licence)
				reached := g.crash(n, after, func(ctx context.Context) {
					j := *clone(t, first)
					_ = g.launcher().Test(ctx, &j)
				})
				g.must(g.launcher().EndTest(t.Context(), g.load(first)))
				g.only("snap-c1-")
				g.unmarked()
				return reached
			})
		})
	}
}

func TestCrashInEndTest(t *testing.T) {
	eachCrash(t, func(t *testing.T, n int, after bool) bool {
		g := newRig(t)
		first := g.job(ForTest, nil)
		g.must(g.launcher().Test(t.Context(), &first))
		reached := g.crash(n, after, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().EndTest(ctx, &j)
		})
		g.must(g.launcher().EndTest(t.Context(), g.load(first)))
		g.only("snap-c1-")
		g.unmarked()
		return reached
	})
}

func TestCrashInCutoverThenAgain(t *testing.T) {
	for _, licence := range []map[string]string{nil, {"licence": "aws", "stockImage": "ami-stock"}} {
		t.Run(string(licence["licence"]), func(t *testing.T) {
			eachCrash(t, func(t *testing.T, n int, after bool) bool {
				g := newRig(t)
				first := g.job(ForCutover, licence)
				reached := g.crash(n, after, func(ctx context.Context) {
					j := *clone(t, first)
					_ = g.launcher().Cutover(ctx, &j, g.source())
				})
				j := g.load(first)
				g.must(g.launcher().Cutover(t.Context(), j, g.source()))
				if len(g.alive(ForCutover)) != 1 || g.on || g.shutoff != 1 {
					t.Fatalf("%d cutover instances, source on %v, off %d times", len(g.alive(ForCutover)), g.on, g.shutoff)
				}
				if v := g.vols[g.alive(ForCutover)[0].vols["/dev/sda1"]]; v.snapshot != "snap-conv-c2" {
					t.Errorf("it runs from %s", v.snapshot)
				}
				g.must(g.launcher().Finalize(t.Context(), j, Ending{Prune: g.prune}))
				g.only(j.Instance, "vol-")
				if len(g.vols) != 2 {
					t.Errorf("%d volumes", len(g.vols))
				}
				return reached
			})
		})
	}
}

func TestCrashInCutoverThenRevert(t *testing.T) {
	eachCrash(t, func(t *testing.T, n int, after bool) bool {
		g := newRig(t)
		first := g.job(ForCutover, nil)
		reached := g.crash(n, after, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().Cutover(ctx, &j, g.source())
		})
		j := g.load(first)
		g.must(g.launcher().Revert(t.Context(), j, g.source()))
		if !g.on {
			t.Fatal("the source is off")
		}
		for _, i := range g.alive(ForCutover) {
			if s := i.state(g.clock); s != "stopped" {
				t.Errorf("%s is %s while the source is on", i.id, s)
			}
		}
		g.must(g.launcher().Discard(t.Context(), j))
		g.only("snap-c1-", "snap-c2-")
		g.unmarked()
		return reached
	})
}

func TestCrashInRevert(t *testing.T) {
	eachCrash(t, func(t *testing.T, n int, after bool) bool {
		g := newRig(t)
		first := g.job(ForCutover, nil)
		g.must(g.launcher().Cutover(t.Context(), &first, g.source()))
		reached := g.crash(n, after, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().Revert(ctx, &j, g.source())
		})
		j := g.load(first)
		g.must(g.launcher().Revert(t.Context(), j, g.source()))
		if !g.on || g.instances[j.Instance].state(g.clock) != "stopped" || g.instances[j.Instance].tags[tagReverted] == "" {
			t.Errorf("source on %v, instance %s", g.on, g.instances[j.Instance].state(g.clock))
		}
		return reached
	})
}

func TestCrashInFinalize(t *testing.T) {
	eachCrash(t, func(t *testing.T, n int, after bool) bool {
		g := newRig(t)
		test := g.job(ForTest, nil)
		g.must(g.launcher().Test(t.Context(), &test))
		first := g.job(ForCutover, nil)
		g.must(g.launcher().Cutover(t.Context(), &first, g.source()))
		e := Ending{
			EndReplication: func(context.Context) error { return g.call("end-replication", func() {}) },
			Prune:          g.prune,
		}
		reached := g.crash(n, after, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().Finalize(ctx, &j, e)
		})
		j := g.load(first)
		g.must(g.launcher().Finalize(t.Context(), j, e))
		g.only(first.Instance, "vol-")
		if len(g.vols) != 2 || len(g.alive(ForCutover)) != 1 {
			t.Errorf("%d volumes, %d instances", len(g.vols), len(g.alive(ForCutover)))
		}
		return reached
	})
}

// TestCrashAndLostJob: what was saved of the job is gone as well; the tags alone
// end it. EC2 shows everything by then.
func TestCrashAndLostJob(t *testing.T) {
	eachCrash(t, func(t *testing.T, n int, after bool) bool {
		g := newRig(t)
		first := g.job(ForTest, nil)
		reached := g.crash(n, after, func(ctx context.Context) {
			j := *clone(t, first)
			_ = g.launcher().Test(ctx, &j)
		})
		g.must(g.Sleep(t.Context(), 2*g.lag))
		all, err := g.launcher().Inventory(t.Context(), vm)
		g.must(err)
		for _, j := range JobsOf(all) {
			g.must(g.launcher().EndTest(t.Context(), &j))
		}
		g.only("snap-c1-", "snap-conv-c1") // which is deleted with its point
		return reached
	})
}

func TestLostAnswers(t *testing.T) {
	for _, op := range []string{
		"RegisterImage", "RunInstances", "CreateVolume", "CreateReplaceRootVolumeTask", "AttachVolume", "ImportImage", "CreateTags", "TerminateInstances",
		"DeregisterImage", "DeleteSnapshot", "DescribeInstances", "ModifyInstanceAttribute",
	} {
		for licence, flat := range map[string]map[string]string{"byol": nil, "aws": {"licence": "aws", "stockImage": "ami-stock"}, "import": {"licence": "import", "platform": "Linux"}} {
			t.Run(op+" "+licence, func(t *testing.T) {
				g := newRig(t)
				g.lose[op] = 1
				j := g.job(ForTest, flat)
				g.must(g.launcher().Test(t.Context(), &j))
				if len(g.alive(ForTest)) != 1 {
					t.Fatalf("%d instances", len(g.alive(ForTest)))
				}
				g.must(g.launcher().EndTest(t.Context(), &j))
				g.only("snap-c1-")
				g.unmarked()
			})
		}
	}
}

// TestUserDataChangedAfterACrash: EC2 refuses the token with other parameters,
// and the instance that it made for the first ones is found.
func TestUserDataChangedAfterACrash(t *testing.T) {
	g := newRig(t)
	g.user = "one"
	first := g.job(ForTest, map[string]string{"userDataFile": "/user-data"})
	var j *Job
	for n := 1; ; n++ {
		if n > 200 {
			t.Fatal("RunInstances was never reached")
		}
		g = newRig(t)
		g.user = "one"
		g.lag = 0
		g.crash(n, true, func(ctx context.Context) {
			c := *clone(t, first)
			_ = g.launcher().Test(ctx, &c)
		})
		if len(g.alive(ForTest)) == 1 {
			break
		}
	}
	j = g.load(first)
	g.user = "two"
	i := g.alive(ForTest)[0]
	delete(i.tags, tagJob) // as if its tags were not known yet
	g.must(g.launcher().Test(t.Context(), j))
	if len(g.alive(ForTest)) != 1 || j.Instance != i.id || len(j.Notes) == 0 {
		t.Errorf("%d instances, %s, notes %v", len(g.alive(ForTest)), j.Instance, j.Notes)
	}
}

func TestOtherVMsAreLeftAlone(t *testing.T) {
	g := newRig(t)
	l := g.launcher()
	j := g.job(ForTest, nil)
	g.must(l.Test(t.Context(), &j))
	other := transfer.VMID{VCenter: vm.VCenter, Moref: "vm-8"}
	g.snaps["snap-x"] = &snap{thing: thing{id: "snap-x", tags: map[string]string{tagVersion: "1", tagVCenter: other.VCenter, tagVM: other.Moref, tagKind: "conversion", tagConverts: "c1", tagInUse: string(j.ID)}}, gib: 1, state: "completed"}
	g.vols["vol-x"] = &vol{thing: thing{id: "vol-x", tags: map[string]string{tagVCenter: other.VCenter, tagVM: other.Moref}}, ready: g.clock}
	g.must(l.EndTest(t.Context(), &j))
	if g.snaps["snap-x"] == nil || g.vols["vol-x"] == nil || g.snaps["snap-x"].tags[tagInUse] == "" {
		t.Error("what is of another VM was touched")
	}
}
