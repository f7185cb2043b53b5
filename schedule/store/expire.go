package store

import (
	"context"
	"fmt"
	"time"
)

// expireBatch is how many rows one transaction deletes: others that write wait
// for no longer than some milliseconds.
const expireBatch = 500

// expiring are the statements that delete what is older than $1, $2 rows at a
// time. A VM's newest run stays, and its newest that made a point.
var expiring = []string{
	`DELETE FROM run WHERE id IN (SELECT r.id FROM run r WHERE r.ended_ms IS NOT NULL AND r.ended_ms < $1
		AND r.id <> (SELECT max(n.id) FROM run n WHERE n.vcenter = r.vcenter AND n.moref = r.moref)
		AND (r.state <> 'done' OR r.id <> (SELECT max(n.id) FROM run n WHERE n.vcenter = r.vcenter AND n.moref = r.moref AND n.state = 'done'))
		LIMIT $2)`,
	// A launch run stays while it is its VM's newest, or its newest proof, from
	// which the next is reckoned.
	`DELETE FROM launch_run WHERE id IN (SELECT r.id FROM launch_run r WHERE r.ended_ms IS NOT NULL AND r.ended_ms < $1
		AND r.id <> (SELECT max(n.id) FROM launch_run n WHERE n.vcenter = r.vcenter AND n.moref = r.moref)
		AND (NOT r.prove OR r.id <> (SELECT max(n.id) FROM launch_run n WHERE n.vcenter = r.vcenter AND n.moref = r.moref AND n.prove))
		LIMIT $2)`,
	// A job stays as long as a run that is about it, and the newest of a VM.
	`DELETE FROM launch_job WHERE id IN (SELECT j.id FROM launch_job j WHERE j.finished AND j.made_ms < $1
		AND NOT EXISTS (SELECT 1 FROM launch_run r WHERE r.job = j.id AND r.job <> '')
		AND j.made_ms < (SELECT max(n.made_ms) FROM launch_job n WHERE n.vcenter = j.vcenter AND n.moref = j.moref)
		LIMIT $2)`,
	`DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_ms < $1 LIMIT $2)`,
	`DELETE FROM alarm WHERE id IN (SELECT id FROM alarm WHERE cleared_ms IS NOT NULL AND cleared_ms < $1 LIMIT $2)`,
	`DELETE FROM deed WHERE id IN (SELECT id FROM deed WHERE at_ms < $1 LIMIT $2)`,
	`DELETE FROM lag_sample WHERE (vcenter, moref, at_ms) IN (SELECT vcenter, moref, at_ms FROM lag_sample WHERE at_ms < $1 LIMIT $2)`,
	`DELETE FROM rate_sample WHERE (at_ms, appliance) IN (SELECT at_ms, appliance FROM rate_sample WHERE at_ms < $1 LIMIT $2)`,
}

// Expire deletes history that is older: runs with their logs, launch runs and
// jobs that are over, events, cleared alarms, deeds, samples. A VM's newest run
// stays, and its newest that succeeded; so does its newest launch. It is many transactions; one that fails leaves the rest for the
// next time.
func (db *DB) Expire(ctx context.Context, before time.Time) error {
	for _, statement := range expiring {
		for n := int64(expireBatch); n == expireBatch; {
			err := db.statement(ctx, func(q querier) (err error) {
				n, err = q.exec(ctx, statement, ms(before), expireBatch)
				return err
			})
			if err != nil {
				return fmt.Errorf("delete old history: %w", err)
			}
		}
	}
	return nil
}
