package store

import (
	"context"
	"fmt"
	"slices"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Waves are all waves by name, each with its VMs.
func (db *DB) Waves(ctx context.Context) (all []schedule.Wave, err error) {
	err = db.view(ctx, func(q querier) error {
		all, err = waves(ctx, q, "")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list waves: %w", err)
	}
	return all, nil
}

// Wave is one wave with its VMs.
func (db *DB) Wave(ctx context.Context, name string) (w schedule.Wave, err error) {
	err = db.view(ctx, func(q querier) error {
		all, err := waves(ctx, q, name)
		if err == nil && (name == "" || len(all) == 0) {
			err = schedule.ErrNotFound
		}
		if err == nil {
			w = all[0]
		}
		return err
	})
	if err != nil {
		return schedule.Wave{}, fmt.Errorf("wave %s: %w", name, err)
	}
	return w, nil
}

// waves reads the wave of a name, "" reads all.
func waves(ctx context.Context, q querier, name string) (all []schedule.Wave, err error) {
	err = each(ctx, q, `SELECT name, note FROM wave WHERE $1 = '' OR name = $1 ORDER BY name`, []any{name}, func(scan func(...any) error) error {
		var w schedule.Wave
		err := scan(&w.Name, &w.Note)
		all = append(all, w)
		return err
	})
	if err != nil || len(all) == 0 {
		return all, err
	}
	of := map[string][]transfer.VMID{}
	err = each(ctx, q, `SELECT wave, vcenter, moref FROM vm WHERE wave <> '' AND ($1 = '' OR wave = $1) ORDER BY name, vcenter, moref`, []any{name}, func(scan func(...any) error) error {
		var wave string
		var id transfer.VMID
		err := scan(&wave, &id.VCenter, &id.Moref)
		of[wave] = append(of[wave], id)
		return err
	})
	for i := range all {
		all[i].VMs = of[all[i].Name]
	}
	return all, err
}

// SaveWave makes or replaces a wave. Its VMs leave the waves they were in.
func (db *DB) SaveWave(ctx context.Context, w schedule.Wave) error {
	if w.Name == "" {
		return fmt.Errorf("save wave: it needs a name: %w", schedule.ErrInvalid)
	}
	err := db.write(ctx, again, func(q querier) error {
		_, err := q.exec(ctx, `INSERT INTO wave (name, note) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET note = excluded.note`, w.Name, w.Note)
		if err != nil {
			return err
		}
		was := map[transfer.VMID]bool{}
		err = each(ctx, q, `SELECT vcenter, moref FROM vm WHERE wave = $1`, []any{w.Name}, func(scan func(...any) error) error {
			var id transfer.VMID
			err := scan(&id.VCenter, &id.Moref)
			was[id] = true
			return err
		})
		if err != nil {
			return err
		}
		for _, id := range slices.SortedFunc(slices.Values(w.VMs), compareIDs) {
			n, err := q.exec(ctx, `UPDATE vm SET wave = $3 WHERE vcenter = $1 AND moref = $2`, id.VCenter, id.Moref, w.Name)
			if err == nil && n == 0 {
				err = noVM(id)
			}
			if err != nil {
				return err
			}
			delete(was, id)
		}
		for id := range was {
			if _, err := q.exec(ctx, `UPDATE vm SET wave = '' WHERE vcenter = $1 AND moref = $2 AND wave = $3`, id.VCenter, id.Moref, w.Name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("save wave %s: %w", w.Name, err)
	}
	return nil
}

// DeleteWave deletes a wave; its VMs are in none then.
func (db *DB) DeleteWave(ctx context.Context, name string) error {
	err := db.write(ctx, again, func(q querier) error {
		n, err := q.exec(ctx, `DELETE FROM wave WHERE name = $1`, name)
		if err == nil && n == 0 {
			err = schedule.ErrNotFound
		}
		if err == nil {
			_, err = q.exec(ctx, `UPDATE vm SET wave = '' WHERE wave = $1`, name)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete wave %s: %w", name, err)
	}
	return nil
}
