package engine

import (
	"testing"

	"snapferry/transfer"
)

type doubt struct {
	alive
	yes bool
}

func (d doubt) doubtful() bool { return d.yes }

// Which steps wait for the database.
func TestMust(t *testing.T) {
	for _, doubtful := range []bool{false, true} {
		tell := &teller{j: &job{e: &Engine{alive: doubt{yes: doubtful}}}}
		for step, want := range map[transfer.Step]bool{
			transfer.StepInspect: doubtful, transfer.StepFreeze: doubtful, transfer.StepPlan: doubtful, transfer.StepCopy: doubtful,
			transfer.StepSeal: true, transfer.StepCommit: true,
			transfer.StepDetach: false, transfer.StepRelease: false,
		} {
			if got := tell.must(step); got != want {
				t.Errorf("doubtful %v: step %s waits: %v", doubtful, step, got)
			}
		}
	}
}
