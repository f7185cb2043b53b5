// Package torture runs the real binary against a lab and does to it what bad
// days do: faults by rule in both services, other hands on the VM, an
// appliance whose disk was restored or lost, and kill -9 at every named step,
// at the k-th call and at random instants, while the guest writes. After each
// run the invariants of the product are held against what the simulators hold,
// never against the program's word.
//
// Change tracking that loses writes and says nothing is among the rules. Then
// and only then a point may differ from what its cycle froze, until an audit
// meets a lost block: from there on the newest point must be right, and each
// earlier one of the disk suspect.
//
// The work is cut into lives: one lab, a few dozen events. A life depends on
// its seed, and on what other lives have left to do: rules that never fired go
// before others, and deaths or faults, whichever a full run lacks more, are the
// likelier. What a child does between two events is up to the scheduler. A
// failure names the seed of its life:
//
//	make torture SEED=17 TIME=1m     # the first life has seed 17
//
// The variables SNAPFERRY_TORTURE_SEED, _TIME (a duration), _LIVES (so many
// lives, each to its end, whatever the time) and _WORKERS (lives side by side)
// are the same by another way. Without any the test is a short one.
//
// A migration has tests of its own, by the verbs that launch: its crashes are
// not drawn but counted, since a wire between the program and both services sees
// each call that changes something, and every one is a place to die. make torture
// draws two of each operation, SNAPFERRY_LONG=1 has them all; make test none.
package torture
