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
	jobs := func(q schedule.LaunchJobQuery) string {
		query, _ := jobsQuery(q, true)
		return query
	}
	return map[string]string{
		"scene": sceneQuery, "unended": run + `WHERE ended_ms IS NULL`, "active": run + active, "of VM": run + ofVM, "failed": run + failed, "newest": run + `WHERE TRUE ORDER BY id DESC LIMIT 50`,
		"launches": launches(schedule.LaunchQuery{}), "active launches": launches(schedule.LaunchQuery{Active: true, Before: 9}),
		"launches of VM": launches(schedule.LaunchQuery{VM: &id}), "launches of wave": launches(schedule.LaunchQuery{Wave: "w"}),
		"claimable": claimable, "provings": provings,
		"jobs": jobs(schedule.LaunchJobQuery{}), "older jobs": jobs(schedule.LaunchJobQuery{Before: "x"}), "open jobs": jobs(schedule.LaunchJobQuery{Open: true}),
		"jobs of VM": jobs(schedule.LaunchJobQuery{VM: &id}), "open jobs of VM": jobs(schedule.LaunchJobQuery{VM: &id, Open: true}),
		"due": `SELECT ` + vmColumns + ` FROM ` + vmTables + ` WHERE ` + dueCondition,
	}
}

// CacheFacts bounds the cache of facts.
func (db *DB) CacheFacts(most int) { db.facts.most = most }
