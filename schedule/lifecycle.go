package schedule

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Lifecycle is where a VM is on its way to AWS, in MGN's meaning.
type Lifecycle string

// The lifecycle, in its order.
const (
	NotReady        Lifecycle = "not-ready"         // no complete recovery point yet
	ReadyForTest    Lifecycle = "ready-for-test"    // there is one
	Testing         Lifecycle = "testing"           // a test instance exists
	ReadyForCutover Lifecycle = "ready-for-cutover" // a test was done and found good
	CuttingOver     Lifecycle = "cutting-over"      // the source is off or being so, the last delta runs
	CutOver         Lifecycle = "cut-over"          // the cutover instance runs
	Disconnected    Lifecycle = "disconnected"      // replication has ended
)

// Lifecycles lists them in order.
func Lifecycles() []Lifecycle {
	return []Lifecycle{NotReady, ReadyForTest, Testing, ReadyForCutover, CuttingOver, CutOver, Disconnected}
}

// Replicates reports whether scheduled cycles run in this state. While the
// source is being cut over it is launch that calls for the last delta; after
// that there is nothing to replicate.
func (l Lifecycle) Replicates() bool {
	return l == NotReady || l == ReadyForTest || l == Testing || l == ReadyForCutover || l == ""
}

// Replication is how the copying of a VM stands.
type Replication string

// The replication states.
const (
	ReplicationNone    Replication = "not-replicated" // no policy
	ReplicationWaiting Replication = "waiting"        // its first cycle has not begun
	ReplicationInitial Replication = "initial-sync"   // the first point is being made
	ReplicationDelta   Replication = "delta"          // a cycle runs and there is a point already
	ReplicationCurrent Replication = "up-to-date"
	ReplicationLagging Replication = "lagging" // later than its policy asks for, and nothing failed
	ReplicationPaused  Replication = "paused"
	ReplicationStalled Replication = "stalled" // its runs fail; Reason says why
	ReplicationEnded   Replication = "ended"   // cut over or disconnected
)

// move is an action on a VM's lifecycle.
type move struct {
	to   Lifecycle
	from []Lifecycle
}

// moves are the actions. A mark that a VM has already is set again without
// harm.
var moves = map[string]move{
	// A person says so: the test went well, or there needs to be none.
	"ready-for-cutover": {ReadyForCutover, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
	// Taking that back.
	"ready-for-test": {ReadyForTest, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
	"disconnect":     {Disconnected, []Lifecycle{NotReady, ReadyForTest, Testing, ReadyForCutover, CutOver, Disconnected}},
	// Whether its old points still serve the next cycle finds out.
	"reconnect": {NotReady, []Lifecycle{Disconnected}},

	// A test instance is launched, also in the place of another; and it is gone
	// without anybody having said that it was good.
	"test":      {Testing, []Lifecycle{ReadyForTest, Testing, ReadyForCutover}},
	"test-done": {ReadyForTest, []Lifecycle{Testing}},
	// The source goes off, or a cutover that failed is gone on with; the instance
	// runs; or not, and the source goes on.
	"cutover":  {CuttingOver, []Lifecycle{ReadyForCutover, CuttingOver}},
	"cut-over": {CutOver, []Lifecycle{CuttingOver}},
	"revert":   {ReadyForCutover, []Lifecycle{CuttingOver, CutOver}},
	// Nobody goes back any more. A cutover whose checks failed is no cut-over, but
	// a person may have found its instance good.
	"finalize": {Disconnected, []Lifecycle{CuttingOver, CutOver}},
}

// Next is where an action takes a VM, and from where it may: what a store makes
// sure of once more as it writes. Marks are "ready-for-cutover",
// "ready-for-test", "disconnect" and "reconnect"; a launch takes the steps
// "test", "test-done", "cutover", "cut-over", "revert" and "finalize". The
// error is an ErrInvalid for any other action, and an ErrConflict where it
// cannot be done from here.
func (l Lifecycle) Next(action string) (to Lifecycle, from []Lifecycle, err error) {
	m, ok := moves[action]
	if !ok {
		return l, nil, fmt.Errorf("%w: %q is none of %s", ErrInvalid, action, strings.Join(slices.Sorted(maps.Keys(moves)), ", "))
	}
	from = slices.Clone(m.from)
	if !slices.Contains(from, l.orFirst()) {
		return l, from, fmt.Errorf("%w: %s needs a VM that is %s, and this one is %s", ErrConflict, action, oneOf(from), l.orFirst())
	}
	return m.to, from, nil
}

// orFirst reads what was never set as not ready.
func (l Lifecycle) orFirst() Lifecycle {
	if l == "" {
		return NotReady
	}
	return l
}

func oneOf(ls []Lifecycle) string {
	names := make([]string, len(ls))
	for i, l := range ls {
		names[i] = string(l)
	}
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " or " + names[n]
	}
	return strings.Join(names, "")
}

// AfterPoint is where a VM is once it has a complete recovery point.
func (l Lifecycle) AfterPoint() Lifecycle {
	if l.orFirst() == NotReady {
		return ReadyForTest
	}
	return l
}

// Replications lists them in the order in which all are shown: what needs a
// person first is not first, so that the eye finds the same state in the same
// place every day.
func Replications() []Replication {
	return []Replication{
		ReplicationCurrent, ReplicationDelta, ReplicationInitial, ReplicationWaiting, ReplicationLagging,
		ReplicationStalled, ReplicationPaused, ReplicationNone, ReplicationEnded,
	}
}
