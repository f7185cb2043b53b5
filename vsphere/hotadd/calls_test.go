package hotadd_test

import (
	"testing"
)

// TestCallsOfAnOpen: what reading a disk adds to a cycle.
func TestCallsOfAnOpen(t *testing.T) {
	e := start(t)
	f := e.freeze(e.vm("app01", mib), e.open())
	before := e.c.Calls()
	r := e.openDisk(f, 0)
	opened := e.c.Calls() - before
	e.close(r)
	closed := e.c.Calls() - before - opened
	// The waits are two or three, by how soon the task starts.
	if opened > 11 || closed > 9 {
		t.Errorf("%d calls to open, %d to close", opened, closed)
	}
	t.Logf("%d calls to open, %d to close", opened, closed)
	e.release(f)
	e.clean()
}
