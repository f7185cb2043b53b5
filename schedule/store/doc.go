// Package store keeps what the connector knows, in a SQLite file or in
// PostgreSQL: VMs, runs and their logs, points, policies, waves, appliances,
// alarms, events, deeds, samples. A DB is the Store of both schedule/engine and
// schedule/service; it imports neither.
//
//	open.go      Open: which database, its settings; sqlite.go, postgres.go
//	migrate.go   the schema and its versions; migration/ has the SQL
//	query.go     one querier over both; the same SQL runs on both
//	retry.go     what is tried again, and what a caller may try again
//	inventory.go, facts.go, vm.go, planned.go, wish.go   VMs: facts, reading, planning, what people want
//	queue.go, admit.go, work.go, run.go        runs: wanted, granted, under way, read
//	launch.go, launchjob.go                    launch runs and launches
//	history.go, alarm.go, sample.go, point.go, expire.go
//	policy.go, wave.go, appliance.go, hook.go
//	copy.go      from a SQLite file to PostgreSQL
//
// Instants are kept in milliseconds since the epoch, in UTC; 0 is the zero
// time. Every method may be called by many goroutines.
package store
