package store

import (
	"context"
	"fmt"

	"snapferry/schedule"
	"snapferry/transfer"
)

// pointKey names a point; point is how it is kept, so that two can be compared.
type pointKey struct {
	vm    transfer.VMID
	cycle transfer.CycleID
}

type point struct {
	frozen, confirmed, verified int64
	complete                    bool
	kind                        string
	blocks, disks               int64
	suspect, snapshots          string
}

func keep(p *schedule.PointRow) (point, error) {
	snapshots, err := encode(p.Snapshots)
	return point{ms(p.Frozen), ms(p.Confirmed), ms(p.Verified), p.Complete, string(p.Kind), p.Blocks, int64(p.Disks), p.Suspect, snapshots}, err
}

const pointColumns = `vcenter, moref, cycle, frozen_ms, confirmed_ms, verified_ms, complete, kind, blocks, disks, suspect, snapshots`

func scanPoint(scan func(...any) error) (k pointKey, p point, err error) {
	err = scan(&k.vm.VCenter, &k.vm.Moref, &k.cycle, &p.frozen, &p.confirmed, &p.verified, &p.complete, &p.kind, &p.blocks, &p.disks, &p.suspect, &p.snapshots)
	return k, p, err
}

// SavePoints makes the points of the given VMs these; points of other VMs,
// also among points, are left alone. What has not changed is not written.
func (db *DB) SavePoints(ctx context.Context, vms []transfer.VMID, points []schedule.PointRow) error {
	ours := make(map[transfer.VMID]bool, len(vms))
	for _, id := range vms {
		ours[id] = true
	}
	want := make(map[pointKey]point, len(points))
	for i := range points {
		p := &points[i]
		if !ours[p.VM] {
			continue
		}
		kept, err := keep(p)
		if err != nil {
			return fmt.Errorf("save points: %w", err)
		}
		want[pointKey{p.VM, p.Cycle}] = kept
	}
	err := db.write(ctx, again, func(q querier) error {
		var gone [][]any
		same := map[pointKey]bool{}
		err := eachVM(ctx, q, `SELECT `+pointColumns+` FROM point WHERE `, vms, "", func(scan func(...any) error) error {
			k, have, err := scanPoint(scan)
			p, ok := want[k]
			if !ok {
				gone = append(gone, []any{k.vm.VCenter, k.vm.Moref, string(k.cycle)})
			}
			same[k] = ok && p == have
			return err
		})
		if err != nil {
			return err
		}
		var rows [][]any
		for k, p := range want {
			if !same[k] {
				rows = append(rows, []any{k.vm.VCenter, k.vm.Moref, string(k.cycle), p.frozen, p.confirmed, p.verified, p.complete, p.kind, p.blocks, p.disks, p.suspect, p.snapshots})
			}
		}
		if err := insert(ctx, q, `DELETE FROM point WHERE (vcenter, moref, cycle) IN (VALUES`, ")", gone); err != nil {
			return err
		}
		return insert(ctx, q, `INSERT INTO point (`+pointColumns+`) VALUES`, `ON CONFLICT (vcenter, moref, cycle) DO UPDATE SET
			frozen_ms = excluded.frozen_ms, confirmed_ms = excluded.confirmed_ms, verified_ms = excluded.verified_ms, complete = excluded.complete,
			kind = excluded.kind, blocks = excluded.blocks, disks = excluded.disks, suspect = excluded.suspect, snapshots = excluded.snapshots`, rows)
	})
	if err != nil {
		return fmt.Errorf("save points: %w", err)
	}
	return nil
}

// Points are those of a VM, newest first.
func (db *DB) Points(ctx context.Context, vm transfer.VMID) (all []schedule.PointRow, err error) {
	err = db.read(ctx, func(q querier) error {
		all = nil
		return each(ctx, q, `SELECT `+pointColumns+` FROM point WHERE vcenter = $1 AND moref = $2 ORDER BY frozen_ms DESC, cycle DESC`, []any{vm.VCenter, vm.Moref}, func(scan func(...any) error) error {
			k, p, err := scanPoint(scan)
			if err != nil {
				return err
			}
			r := schedule.PointRow{VM: k.vm, Cycle: k.cycle, Frozen: instant(p.frozen), Confirmed: instant(p.confirmed), Verified: instant(p.verified),
				Complete: p.complete, Kind: transfer.PlanKind(p.kind), Blocks: p.blocks, Disks: int(p.disks), Suspect: p.suspect}
			all = append(all, r)
			return decode(p.snapshots, &all[len(all)-1].Snapshots)
		})
	})
	if err != nil {
		return nil, fmt.Errorf("read points of VM %s: %w", vm, err)
	}
	return all, nil
}
