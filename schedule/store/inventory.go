package store

import (
	"context"
	"fmt"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// known is what the database has of a VM before an inventory.
type known struct {
	hash string
	gone bool
}

// SaveInventory makes the VMs of one vCenter what seen says, see engine.Store.
// VMs that have not changed are not written. Without any VM seen all are gone.
func (db *DB) SaveInventory(ctx context.Context, vcenter string, seen []transfer.VM, at time.Time) (added, gone []transfer.VMID, err error) {
	for i := range seen {
		if id := seen[i].ID; id.VCenter != vcenter || id.Moref == "" {
			return nil, nil, fmt.Errorf("save inventory of vCenter %s: VM %s is not of it: %w", vcenter, id, schedule.ErrInvalid)
		}
	}
	err = db.write(ctx, again, func(q querier) error {
		added, gone = nil, nil
		// First of all: it makes a second inventory of this vCenter wait.
		before := int64(0)
		if err := each(ctx, q, `SELECT seen_ms FROM inventory WHERE vcenter = $1`, []any{vcenter}, func(scan func(...any) error) error { return scan(&before) }); err != nil {
			return err
		}
		_, err := q.exec(ctx, `INSERT INTO inventory (vcenter, seen_ms) VALUES ($1, $2) ON CONFLICT (vcenter) DO UPDATE SET seen_ms = excluded.seen_ms`, vcenter, ms(at))
		if err != nil {
			return err
		}
		have, err := knownVMs(ctx, q, vcenter)
		if err != nil {
			return err
		}
		if added, err = saveSeen(ctx, q, seen, have); err != nil {
			return err
		}
		gone, err = saveGone(ctx, q, vcenter, have, before)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("save inventory of vCenter %s: %w", vcenter, err)
	}
	return added, gone, nil
}

func knownVMs(ctx context.Context, q querier, vcenter string) (map[string]known, error) {
	have := map[string]known{}
	err := each(ctx, q, `SELECT moref, hash, gone FROM vm WHERE vcenter = $1`, []any{vcenter}, func(scan func(...any) error) error {
		var moref string
		var k known
		err := scan(&moref, &k.hash, &k.gone)
		have[moref] = k
		return err
	})
	return have, err
}

// saveSeen writes VMs that are new, changed or back, and takes all that were
// seen out of have.
func saveSeen(ctx context.Context, q querier, seen []transfer.VM, have map[string]known) (added []transfer.VMID, err error) {
	var rows [][]any
	done := map[string]bool{}
	for i := range seen {
		vm := &schedule.VM{VM: seen[i]}
		if done[vm.ID.Moref] {
			continue
		}
		done[vm.ID.Moref] = true
		facts, err := encode(vm.VM)
		if err != nil {
			return nil, err
		}
		sum := hash(facts)
		k, ok := have[vm.ID.Moref]
		delete(have, vm.ID.Moref)
		if ok && k.hash == sum && !k.gone {
			continue
		}
		if !ok {
			added = append(added, vm.ID)
		}
		datastores, err := encode(vm.Datastores())
		if err != nil {
			return nil, err
		}
		rows = append(rows, []any{vm.ID.VCenter, vm.ID.Moref, vm.Name, vm.Host, datastores, len(vm.Disks), sum, facts, string(schedule.NotReady)})
	}
	return added, insert(ctx, q, `INSERT INTO vm (vcenter, moref, name, host, datastores, disks, hash, facts, lifecycle) VALUES`,
		`ON CONFLICT (vcenter, moref) DO UPDATE SET name = excluded.name, host = excluded.host, datastores = excluded.datastores,
		disks = excluded.disks, hash = excluded.hash, facts = excluded.facts, gone = FALSE`, rows)
}

// saveGone marks those that are left in have; before is when the inventory
// last had them.
func saveGone(ctx context.Context, q querier, vcenter string, have map[string]known, before int64) (gone []transfer.VMID, err error) {
	for moref, k := range have {
		if k.gone {
			continue
		}
		if _, err := q.exec(ctx, `UPDATE vm SET gone = TRUE, seen_ms = $3 WHERE vcenter = $1 AND moref = $2`, vcenter, moref, before); err != nil {
			return nil, err
		}
		gone = append(gone, transfer.VMID{VCenter: vcenter, Moref: moref})
	}
	return gone, nil
}
