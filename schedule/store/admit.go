package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// admitLock is the key of PostgreSQL's advisory lock that one Admit has.
const admitLock = 0x736e6170_66650002

// Admit reads the scene, lets decide choose and writes the grants, calling
// enqueue for each with the transaction: a pgx.Tx on PostgreSQL, a *sql.Tx on
// SQLite. Only one Admit runs at a time in the whole fleet. A grant may be of a
// queued run, or of an active one that goes to another appliance; one whose run
// has ended or moved since the scene was read is left out of what is returned.
// decide and enqueue may be called more than once, and must not call the DB: the
// transaction is all that they have.
func (db *DB) Admit(ctx context.Context, at time.Time, decide func(schedule.Scene) []schedule.Grant, enqueue func(ctx context.Context, tx any, g schedule.Grant) error) (granted []schedule.Grant, err error) {
	err = db.write(ctx, once, func(q querier) error {
		granted = nil
		if db.kind == PostgreSQL {
			if _, err := q.exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(admitLock)); err != nil {
				return err
			}
		}
		scene, had, err := readScene(ctx, q)
		if err != nil {
			return err
		}
		for _, g := range decide(scene) {
			ok, err := grant(ctx, q, g, had)
			if err != nil {
				return fmt.Errorf("run %d: %w", g.Run, err)
			}
			if !ok {
				continue
			}
			if err := enqueue(ctx, q.raw(), g); err != nil {
				return fmt.Errorf("enqueue run %d: %w", g.Run, err)
			}
			granted = append(granted, g)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("admit runs: %w", err)
	}
	return granted, nil
}

// grant writes one grant unless the run is no longer as the scene had it.
func grant(ctx context.Context, q querier, g schedule.Grant, had map[int64]transfer.ApplianceID) (bool, error) {
	before, ok := had[g.Run]
	if !ok {
		return false, fmt.Errorf("it is not in the scene: %w", schedule.ErrInvalid)
	}
	n, err := q.exec(ctx, `UPDATE run SET state = $2, appliance = $3 WHERE id = $1 AND ended_ms IS NULL AND appliance = $4`,
		g.Run, string(schedule.RunStarting), string(g.Appliance), string(before))
	return n > 0, err
}

// sceneQuery is not ordered by ID: SQLite would read all runs there are rather
// than the index of those that have not ended.
const sceneQuery = `SELECT r.id, r.vcenter, r.moref, r.state, r.appliance, r.urgent, r.priority, r.queued_ms, v.host, v.disks, v.datastores
	FROM run r JOIN vm v ON v.vcenter = r.vcenter AND v.moref = r.moref WHERE r.ended_ms IS NULL`

// readScene reads what decides which runs start, and who has each run.
func readScene(ctx context.Context, q querier) (s schedule.Scene, had map[int64]transfer.ApplianceID, err error) {
	if s.Limits, err = limits(ctx, q); err != nil {
		return s, nil, err
	}
	if s.Appliances, err = appliances(ctx, q); err != nil {
		return s, nil, err
	}
	accounts := map[transfer.ApplianceID]string{}
	for i := range s.Appliances {
		accounts[s.Appliances[i].ID] = s.Appliances[i].Account
	}
	had = map[int64]transfer.ApplianceID{}
	err = each(ctx, q, sceneQuery, nil, func(scan func(...any) error) error {
		var p schedule.Place
		var state schedule.RunState
		var datastores string
		err := scan(&p.Run, &p.VM.VCenter, &p.VM.Moref, &state, &p.Appliance, &p.Urgent, &p.Priority, &p.Queued, &p.Host, &p.Disks, &datastores)
		if err == nil {
			err = decode(datastores, &p.Datastores)
		}
		if err != nil {
			return err
		}
		had[p.Run] = p.Appliance
		if state == schedule.RunQueued {
			p.Appliance = "" // one that was given to an appliance before it was granted
			s.Queued = append(s.Queued, p)
			return nil
		}
		p.Account = accounts[p.Appliance]
		s.Active = append(s.Active, p)
		return nil
	})
	for _, places := range [][]schedule.Place{s.Queued, s.Active} {
		slices.SortFunc(places, func(a, b schedule.Place) int { return cmp.Compare(a.Run, b.Run) })
	}
	return s, had, err
}
