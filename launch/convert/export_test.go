package convert

import (
	"context"

	"snapferry/transfer"
)

// ParseFacts is for tests.
func ParseFacts(out string) (Facts, error) {
	f := Facts{Tools: map[string]bool{}, Units: map[string]bool{}, Files: map[string]string{}, Free: map[string]int64{}}
	return f, parseFacts(out, &f)
}

// RegFile is for tests: a registry edit of each kind.
func RegFile(hive string, w WindowsFacts, drivers bool) string {
	values := w.systemEdits(drivers)
	if drivers {
		values = append(values, firstBootEdits(w.SystemRoot)...)
	}
	return regFile(hive, values)
}

// Workdir is for tests.
type Workdir = workdir

// NewWorkdir is for tests.
func NewWorkdir(parent, key string) (*workdir, error) { return newWorkdir(parent, key) }

// Path is for tests.
func (w *workdir) Path() string { return w.path }

// Remove is for tests.
func (w *workdir) Remove() error { return w.remove() }

// Abandon lets go of the lock, as the end of the process does.
func (w *workdir) Abandon() { w.lock.Close() }

// Start is for tests: a program that is noted.
func (w *workdir) Start(ctx context.Context, name string, args ...string) (pid int, wait func() error, err error) {
	cmd := w.command(ctx, name, args...)
	if err := w.start(cmd); err != nil {
		return 0, nil, err
	}
	return cmd.Process.Pid, func() error { return finish(cmd) }, nil
}

// Run is for tests.
var Run = (*workdir).run

// MergeHive and HiveNumber are for tests.
var (
	MergeHive  = (*workdir).mergeHive
	HiveNumber = (*workdir).hiveNumber
)

// Serve, MakeOverlay and OpenOverlay are for tests.
var (
	Serve       = (*workdir).serve
	MakeOverlay = (*workdir).makeOverlay
	OpenOverlay = (*workdir).openOverlay
)

// Changed is for tests.
func (o *overlay) Changed(ctx context.Context, yield func(transfer.Extent) error) error {
	return o.changed(ctx, yield)
}
