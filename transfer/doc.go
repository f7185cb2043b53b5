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
//	verify.go    reading a recovery point back; restore.go writes it to a file
//
// DESIGN.md beside this file says what is promised and why it holds.
package transfer
