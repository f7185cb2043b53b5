package transfer_test

import (
	"sync"
	"testing"
	"time"

	"snapferry/transfer"
)

// TestReportSaysWhatFreezeReleaseAndSealTook, by a clock that goes on a second
// with each look at it.
func TestReportSaysWhatFreezeReleaseAndSealTook(t *testing.T) {
	r := newRig(t, 2*mib)
	var mu sync.Mutex
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Second)
		return at
	}
	run := func() (transfer.Report, error) {
		c := r.cycle(transfer.Options{})
		c.Now, c.Progress = now, transfer.NewProgress(now, nil)
		return c.Run(t.Context())
	}
	rep, err := run()
	if err != nil || rep.FreezeTook < time.Second || rep.ReleaseTook < time.Second || rep.SealTook < time.Second {
		t.Errorf("freeze %v, release %v, seal %v, %v", rep.FreezeTook, rep.ReleaseTook, rep.SealTook, err)
	}
	if all := rep.Ended.Sub(rep.Started); rep.FreezeTook+rep.FrozenFor > all || rep.ReleaseTook > rep.FrozenFor || rep.SealTook > all {
		t.Errorf("of %v: freeze %v, frozen %v, release %v, seal %v", all, rep.FreezeTook, rep.FrozenFor, rep.ReleaseTook, rep.SealTook)
	}
	if rep, err = run(); err != nil || rep.Outcome != transfer.OutcomeConfirmed || rep.SealTook != 0 || rep.FreezeTook == 0 || rep.ReleaseTook == 0 {
		t.Errorf("%s: freeze %v, release %v, seal %v, %v", rep.Outcome, rep.FreezeTook, rep.ReleaseTook, rep.SealTook, err)
	}
}
