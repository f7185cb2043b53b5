// Package engine runs cycles durably: it is the one package that knows the
// workflow library (DBOS). What it decides it asks package schedule, what it
// remembers it keeps in a Store, what it does to the world goes through Work.
//
//	engine.go     New, Run, the loops, the end
//	plan.go       policies and due times; what is due is queued
//	admit.go      queued runs start where limits have room; runs of lost
//	              appliances go to others; runs that nobody works on are found
//	library.go    the library: one queue per appliance, one workflow per run
//	replicate.go  a run: claim, cycle, finish; after.go what is tidied then
//	tell.go       how far a run is: progress, fence and cancel in one statement
//	finish.go     how a run ended, and what that means for its VM
//	launch.go     a launch run: claim, launch, finish; launchmove.go what it
//	              means for the VM, launchsync.go its final sync, launchtell.go
//	              events and alarms; launchwork.go what it takes
//	launchdue.go  tests that are over, points to prove, orphans
//	alive.go      an appliance's place: a locked file, or session.go's session
//	watch.go      inventory, alarms, throughput, history; clean.go, alarms.go
//
// The rules that keep a point from being made twice or by the wrong one:
//
//   - Claim raises the run's epoch, and every Tell and Finish is conditional on
//     it. Who is told that it is no longer his calls Config.Fenced and never
//     goes on: the process ends.
//   - Before a disk is sealed or a point confirmed, a Tell must have succeeded,
//     however long that takes; other steps go on without the database for as
//     long as the fleet cannot have given this appliance up. Detaching and
//     removing VM snapshots waits for nothing.
//   - An appliance is given up when its lock was free for Liveness.Free, by one
//     that has taken that lock; its runs move inside Store.Admit's transaction,
//     with limits and all. It finds its row marked when it is back.
//   - Launch runs have the same epoch, raised by ClaimLaunch; a job must have
//     been saved before anything is made. They are no workflows: see
//     schedule/DESIGN.md.
package engine
