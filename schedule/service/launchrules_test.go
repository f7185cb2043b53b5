package service

import (
	"errors"
	"strings"
	"testing"

	"snapferry/schedule"
	"snapferry/transfer"
)

// standing is a VM called "web 1" that everything could be done to, but for its
// state.
func standing(life schedule.Lifecycle, jobs ...schedule.LaunchJob) *scene {
	vm := &schedule.VM{Lifecycle: life, Point: schedule.LastPoint{Cycle: "c2"}}
	vm.Name, vm.Disks = "web 1", []transfer.Disk{{ID: transfer.DiskID{Key: 2000}, Label: "Hard disk 1", Size: 1 << 30}}
	return &scene{vm: vm, jobs: jobs, points: []schedule.PointRow{{Cycle: "c2", Complete: true}, {Cycle: "c1", Complete: true, Suspect: "odd"}, {Cycle: "c0"}}}
}

func job(purpose, state string) schedule.LaunchJob {
	return schedule.LaunchJob{ID: "job-1", Purpose: purpose, State: state, Over: state == "ended" || state == "finalized"}
}

// TestActionsAndStates holds every action against every state, without jobs and
// with those that go with the state.
func TestActionsAndStates(t *testing.T) {
	const notReady, ready, testing_, marked, cutting, over, gone = schedule.NotReady, schedule.ReadyForTest, schedule.Testing, schedule.ReadyForCutover, schedule.CuttingOver, schedule.CutOver, schedule.Disconnected
	const test, done, cutover, revert, finalize = schedule.LaunchTest, schedule.LaunchTestDone, schedule.LaunchCutover, schedule.LaunchRevert, schedule.LaunchFinalize
	can := map[schedule.LaunchAction][]schedule.Lifecycle{
		test: {ready, testing_, marked}, cutover: {marked, cutting}, revert: {cutting, over}, finalize: {over},
	}
	for _, a := range schedule.LaunchActions() {
		for _, life := range append(schedule.Lifecycles(), "") {
			err := standing(life).may(a, &schedule.LaunchWish{})
			want := false
			for _, l := range can[a] {
				want = want || l == life
			}
			if (err == nil) != want {
				t.Errorf("%s of a VM that is %q: %v", a, life, err)
			}
			if err != nil && !errors.Is(err, schedule.ErrConflict) {
				t.Errorf("%s of a VM that is %q is no conflict: %v", a, life, err)
			}
		}
	}
	for _, c := range []struct {
		action schedule.LaunchAction
		wish   schedule.LaunchWish
		scene  *scene
		want   string // in error and hint; "" is none
	}{
		{cutover, schedule.LaunchWish{}, standing(ready), `snapferry mark "web 1" --as ready-for-cutover`},
		{cutover, schedule.LaunchWish{}, standing(testing_), `snapferry mark "web 1" --as ready-for-cutover`},
		{cutover, schedule.LaunchWish{}, standing(notReady), "snapferry sync"},
		{cutover, schedule.LaunchWish{}, standing(over), "snapferry finalize"},
		{cutover, schedule.LaunchWish{}, standing(gone), "--as reconnect"},
		{test, schedule.LaunchWish{}, standing(cutting), "snapferry revert"},
		{finalize, schedule.LaunchWish{}, standing(marked), "snapferry cutover"},
		{finalize, schedule.LaunchWish{}, standing(cutting), "snapferry cutover"},
		{finalize, schedule.LaunchWish{}, standing(gone), "no cutover that could be finalized"},

		{done, schedule.LaunchWish{}, standing(testing_), "no test that could be ended"},
		{done, schedule.LaunchWish{}, standing(testing_), "--as ready-for-test"},
		{done, schedule.LaunchWish{}, standing(testing_, job("test", "launched")), ""},
		{done, schedule.LaunchWish{}, standing(marked, job("test", "launching")), ""}, // marked while it runs
		{done, schedule.LaunchWish{}, standing(over, job("cutover", "launched"), job("test", "launched")), ""},
		{done, schedule.LaunchWish{}, standing(testing_, job("test", "ended")), "no test"},
		{done, schedule.LaunchWish{}, standing(testing_, job("cutover", "launched")), "no test"},

		{cutover, schedule.LaunchWish{}, standing(cutting, job("cutover", "launching")), ""},
		{cutover, schedule.LaunchWish{}, standing(cutting, job("cutover", "reverting")), "snapferry revert"},
		{cutover, schedule.LaunchWish{}, standing(marked, job("cutover", "reverted")), ""},
		{cutover, schedule.LaunchWish{}, standing(over, job("cutover", "finalizing")), "snapferry finalize"},

		{revert, schedule.LaunchWish{}, standing(marked, job("cutover", "launching")), ""}, // failed before the source went off
		{revert, schedule.LaunchWish{}, standing(over, job("cutover", "launched")), ""},
		{revert, schedule.LaunchWish{}, standing(over, job("cutover", "finalizing")), "no way back"},
		{revert, schedule.LaunchWish{}, standing(marked, job("cutover", "reverted")), "--discard"},
		{revert, schedule.LaunchWish{Discard: true}, standing(marked, job("cutover", "reverted")), ""},
		{revert, schedule.LaunchWish{}, standing(marked), "no cutover that could be reverted"},

		{finalize, schedule.LaunchWish{}, standing(cutting, job("cutover", "launched")), "force the finalization"},
		{finalize, schedule.LaunchWish{Force: true}, standing(cutting, job("cutover", "launched")), ""}, // its checks failed
		{finalize, schedule.LaunchWish{Force: true}, standing(cutting), "not come to its end"},
		{finalize, schedule.LaunchWish{}, standing(gone, job("cutover", "finalizing")), ""}, // a repeat

		{test, schedule.LaunchWish{Point: "c2"}, standing(ready), ""},
		{test, schedule.LaunchWish{Point: "c9"}, standing(ready), `no point "c9"`},
		{test, schedule.LaunchWish{Point: "c0"}, standing(ready), "not complete"},
		{test, schedule.LaunchWish{Point: "c1"}, standing(ready), "in doubt: odd"},
		{test, schedule.LaunchWish{Point: "c1", Force: true}, standing(ready), ""},
	} {
		err := c.scene.may(c.action, &c.wish)
		text := ""
		if err != nil {
			text = withHint(err)
		}
		if (c.want == "") != (err == nil) || !strings.Contains(text, c.want) {
			t.Errorf("%s %+v of a VM that is %s with %+v: %q, want %q", c.action, c.wish, c.scene.vm.Lifecycle, c.scene.jobs, text, c.want)
		}
	}
}

// TestVMsThatCannotBeLaunched, whatever their state.
func TestVMsThatCannotBeLaunched(t *testing.T) {
	for _, c := range []struct {
		action schedule.LaunchAction
		life   schedule.Lifecycle
		change func(*scene)
		want   string
	}{
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) { s.vm.Point.Cycle = "" }, "no complete recovery point"},
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) { s.vm.Gone = true }, "not in vCenter any more"},
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) { s.vm.Point.Suspect = "odd" }, "the newest point of web 1 is in doubt"},
		{schedule.LaunchCutover, schedule.ReadyForCutover, func(s *scene) { s.vm.Point.Cycle = "" }, "no complete recovery point"},
		{schedule.LaunchCutover, schedule.ReadyForCutover, func(s *scene) { s.vm.Gone = true }, "not in vCenter any more"},
		{schedule.LaunchCutover, schedule.ReadyForCutover, func(s *scene) { s.vm.Disks = nil }, "disk"},
		{schedule.LaunchCutover, schedule.ReadyForCutover, func(s *scene) { s.exclude = []string{"Hard disk 1"} }, "disk"},
		{schedule.LaunchRevert, schedule.CutOver, func(s *scene) { s.vm.Gone = true }, "no source to go back to"},
		{schedule.LaunchFinalize, schedule.CutOver, func(s *scene) { s.vm.Gone = true }, ""}, // somebody deleted the source first
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) {
			s.run = &schedule.LaunchRun{ID: 7, Action: schedule.LaunchCutover, State: schedule.RunRunning, VMName: "web 1"}
		}, "cutover of web 1 is running (launch run 7)"},
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) {
			s.run = &schedule.LaunchRun{ID: 7, Action: schedule.LaunchTest, Wish: schedule.LaunchWish{Force: true}, VMName: "web 1"}
		}, "launch run 7"},
		{schedule.LaunchTest, schedule.ReadyForTest, func(s *scene) {
			s.run = &schedule.LaunchRun{ID: 7, Action: schedule.LaunchTest, Wish: schedule.LaunchWish{Settings: schedule.Launch{}}}
		}, ""},
	} {
		s := standing(c.life)
		c.change(s)
		err := s.may(c.action, &schedule.LaunchWish{})
		if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.action, err, c.want)
		}
	}
}

func TestHintsAreCommandsThatCanBeTyped(t *testing.T) {
	for name, want := range map[string]string{"web1": "web1", "/DC0/vm/web-1.x": `"/DC0/vm/web-1.x"`, "web 1": `"web 1"`, "-x": `"-x"`, "a;b": `"a;b"`, "Ünïx_2": "Ünïx_2"} {
		if got := shellWord(name); got != want {
			t.Errorf("%q is typed as %s, want %s", name, got, want)
		}
	}
}
