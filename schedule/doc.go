// Package schedule is the connector as a service: when each VM is replicated,
// how many at once, by which appliance, and how it stands.
//
// This package holds the words and the decisions, all of them pure: nothing
// here reads a clock, a database or a network.
//
//	vm.go        a source VM as the connector keeps it
//	policy.go    what is wanted: how often, when not, how long points stay
//	check.go     what of that makes no sense
//	due.go       when a VM is next replicated, and why
//	week.go      windows of the week; cron.go, zone.go: wall clocks that change
//	assign.go    which policy a VM gets
//	admit.go     what decides which queued runs start, and room.go how
//	measure.go   what cycles have taken: the interval's floor, convergence
//	status.go    how a VM stands, in MGN's words: lag, backlog, forecast
//	lifecycle.go where a VM is on its way to AWS, and what takes it further
//	launching.go launch runs and launches; prove.go: when a point is proved
//	reason.go    why a run failed, as a word
//	quota.go     whether policies fit into what AWS grants
//	run.go       a run and its history; wave.go, alarm.go, event.go likewise
//
// The effects are next door: schedule/store keeps it all in SQLite or
// PostgreSQL, schedule/engine runs cycles durably on it, schedule/service is
// what a person or a program asks. DESIGN.md says how they fit together.
package schedule
