package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/launch"
	"snapferry/transfer"
)

// overdueTest is a test whose time is over.
type overdueTest struct {
	Job      launch.JobID  `json:"job"`
	VM       transfer.VMID `json:"vm"`
	Instance string        `json:"instance,omitempty"`
	Ends     time.Time     `json:"ends"`
	Ended    bool          `json:"ended"` // it is gone now
}

// endOverdue ends the tests whose time is over, as their tags in AWS say: where
// no service runs nothing else does. A dry run only lists them.
func (w *wire) endOverdue(ctx context.Context, dry bool) (over []overdueTest, err error) {
	store, err := w.store(ctx)
	if err != nil {
		return nil, nil // said already by what looked for drafts
	}
	book := bookOf(w.cfg)
	k := &launching{cfg: w.cfg, store: store, save: book.save}
	l, err := k.launcher()
	if err != nil {
		return nil, err
	}
	inventory, err := l.Inventory(ctx, transfer.VMID{})
	if err != nil {
		return nil, err
	}
	var wrong []error
	for _, j := range launch.JobsOf(inventory) {
		if !j.Due(time.Now()) {
			continue
		}
		t := overdueTest{Job: j.ID, VM: j.Request.VM, Instance: j.Instance, Ends: j.Ends}
		if !dry {
			err := l.EndTest(ctx, book.known(j))
			t.Ended = err == nil
			wrong = append(wrong, err)
		}
		over = append(over, t)
	}
	return over, errors.Join(wrong...)
}

// known is the job as the book has it, or else as it was found in AWS.
func (b launchBook) known(found launch.Job) *launch.Job {
	rows, _ := b.jobs(&found.Request.VM) // without the book its tags serve
	jobs, _ := launchJobs(rows)
	for i := range jobs {
		if jobs[i].ID == found.ID {
			return &jobs[i]
		}
	}
	return &found
}

// endKnownOverdue does so before other work, where this machine's own book has
// one; it says on stderr what it did.
func (w *wire) endKnownOverdue(ctx context.Context) {
	rows, err := bookOf(w.cfg).jobs(nil)
	jobs, jerr := launchJobs(rows)
	if err = errors.Join(err, jerr); err != nil {
		logged(ctx, "look for tests whose time is over", "error", err)
	}
	due := false
	for _, j := range jobs {
		due = due || j.Due(time.Now())
	}
	if !due {
		return
	}
	over, err := w.endOverdue(ctx, false)
	for _, t := range over {
		if t.Ended {
			fmt.Fprintf(w.std.Err, "ended test %s: its time was over at %s\n", t.Job, timeText(t.Ends))
		}
	}
	if err != nil {
		fmt.Fprintf(w.std.Err, "a test whose time is over could not be ended: %v\n", err)
	}
}
