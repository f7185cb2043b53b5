package store

import (
	"context"
	"fmt"
	"slices"

	"snapferry/schedule"
	"snapferry/transfer"
)

// plan is what Plan sets of a VM.
type plan struct {
	policy string
	next   int64
	why    string
}

// Plan sets policy and due time of many VMs. Those that have them already, and
// those that are not there, are not written.
func (db *DB) Plan(ctx context.Context, planned []schedule.Planned) error {
	err := db.write(ctx, again, func(q querier) error {
		have, err := plans(ctx, q)
		if err != nil {
			return err
		}
		var changed []schedule.Planned
		for _, p := range planned {
			if is, ok := have[p.VM]; ok && is != (plan{p.Policy, ms(p.Next), p.Why}) {
				changed = append(changed, p)
			}
		}
		// Always in the same order, lest two of these wait for each other.
		slices.SortFunc(changed, func(a, b schedule.Planned) int { return compareIDs(a.VM, b.VM) })
		return setPlans(ctx, q, changed)
	})
	if err != nil {
		return fmt.Errorf("plan VMs: %w", err)
	}
	return nil
}

func plans(ctx context.Context, q querier) (map[transfer.VMID]plan, error) {
	have := map[transfer.VMID]plan{}
	err := each(ctx, q, `SELECT vcenter, moref, policy, next_ms, next_why FROM vm`, nil, func(scan func(...any) error) error {
		var id transfer.VMID
		var p plan
		err := scan(&id.VCenter, &id.Moref, &p.policy, &p.next, &p.why)
		have[id] = p
		return err
	})
	return have, err
}

func setPlans(ctx context.Context, q querier, planned []schedule.Planned) error {
	const width = 5
	for chunk := range slices.Chunk(planned, maxParams/width) {
		var args []any
		for _, p := range chunk {
			args = append(args, p.VM.VCenter, p.VM.Moref, p.Policy, fmt.Sprint(ms(p.Next)), p.Why)
		}
		// VALUES names its columns alike in both databases; its parameters are
		// texts in PostgreSQL.
		_, err := q.exec(ctx, `UPDATE vm SET policy = p.column3, next_ms = CAST(p.column4 AS BIGINT), next_why = p.column5
			FROM (VALUES `+values(len(chunk), width, 1)+`) AS p WHERE vm.vcenter = p.column1 AND vm.moref = p.column2`, args...)
		if err != nil {
			return err
		}
	}
	return nil
}
