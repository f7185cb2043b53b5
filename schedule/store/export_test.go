package store

import (
	"snapferry/schedule"
	"snapferry/transfer"
)

// What tests need of the inside.
var (
	OpenWith   = open
	Migrations = migrations
	Clone      = clone
)

// Queries are those that are asked often, by what they are for.
func Queries() map[string]string {
	active, _ := runsTail(schedule.RunQuery{Active: true, Before: 9})
	id := transfer.VMID{VCenter: "v", Moref: "m"}
	ofVM, _ := runsTail(schedule.RunQuery{VM: &id})
	failed, _ := runsTail(schedule.RunQuery{State: schedule.RunFailed, Before: 9})
	run := `SELECT ` + runColumns + ` FROM run `
	launches := func(q schedule.LaunchQuery) string {
		tail, _ := launchRunsTail(q)
		return `SELECT ` + launchRunColumns + ` FROM launch_run ` + tail
	}
	jobs := func(vm *transfer.VMID, open bool) string {
		query, _ := jobsQuery(vm, open, true, 0)
		return query
	}
	return map[string]string{
		"scene": sceneQuery, "unended": run + `WHERE ended_ms IS NULL`, "active": run + active, "of VM": run + ofVM, "failed": run + failed, "newest": run + `WHERE TRUE ORDER BY id DESC LIMIT 50`,
		"launches": launches(schedule.LaunchQuery{}), "active launches": launches(schedule.LaunchQuery{Active: true, Before: 9}),
		"launches of VM": launches(schedule.LaunchQuery{VM: &id}), "launches of wave": launches(schedule.LaunchQuery{Wave: "w"}),
		"claimable": claimable, "provings": provings,
		"jobs": jobs(nil, false), "open jobs": jobs(nil, true), "jobs of VM": jobs(&id, false), "open jobs of VM": jobs(&id, true),
		"due": `SELECT ` + vmColumns + ` FROM ` + vmTables + ` WHERE ` + dueCondition,
	}
}

// CacheFacts bounds the cache of facts.
func (db *DB) CacheFacts(most int) { db.facts.most = most }
