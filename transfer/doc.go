// Package transfer is the core of Snapferry: what one replication is.
//
// It knows virtual machines, disks, areas, blocks, drafts and recovery points
// as plain values, and the world only through the interfaces in source.go
// (the frozen VM) and store.go (the snapshots in the cloud). It imports the
// standard library and golang.org/x/sync, nothing else, so that every decision
// here can be tried without a vCenter or an AWS account.
//
// Read it in this order:
//
//	cycle.go     the story: freeze, plan, copy, seal, commit, release
//	plan.go      the decision, a pure function: seed, delta or compare, and why
//	pipeline.go  one disk: read, compare, digest, put
//	point.go     which snapshots make a recovery point, which is a baseline
//	conversion.go  what made a guest ready for EC2, as a child of a point's snapshot
//	readback.go  reading a recovery point back, and proving it; a sample of it
//	sourcecheck.go  a recovery point held against the VM, frozen anew
//	retention.go which recovery points stay; prune.go deletes the others
//	reap.go      what a crash left and what is done about it; reaper.go does it
//
// DESIGN.md beside this file says what is promised and why it holds.
package transfer
