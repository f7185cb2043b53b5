package store

import (
	"context"
	"fmt"

	"snapferry/schedule"
)

// Where a policy comes from.
const (
	originFile = "file"
	originAPI  = "api"
)

// Policies are all policies in the order in which they are matched: the file's
// in its own order, then the others by name.
func (db *DB) Policies(ctx context.Context) ([]schedule.Policy, error) {
	rows, err := db.policyRows(ctx, false)
	if err != nil {
		return nil, err
	}
	ps := make([]schedule.Policy, len(rows))
	for i := range rows {
		ps[i] = rows[i].Policy
	}
	return ps, nil
}

// PolicyRows are all policies, where each comes from, and how many VMs that are
// not gone have it; in the order of Policies.
func (db *DB) PolicyRows(ctx context.Context) ([]schedule.PolicyRow, error) {
	return db.policyRows(ctx, true)
}

func (db *DB) policyRows(ctx context.Context, count bool) (rows []schedule.PolicyRow, err error) {
	err = db.view(ctx, func(q querier) error {
		rows = nil
		err := each(ctx, q, `SELECT name, origin, body FROM policy ORDER BY CASE WHEN origin = 'file' THEN 0 ELSE 1 END, place, name`, nil, func(scan func(...any) error) error {
			var r schedule.PolicyRow
			var name, body string
			err := scan(&name, &r.Origin, &body)
			if err == nil {
				err = decode(body, &r.Policy)
			}
			rows = append(rows, r)
			return err
		})
		if err != nil || !count {
			return err
		}
		vms := map[string]int{}
		err = each(ctx, q, `SELECT policy, count(*) FROM vm WHERE NOT gone AND policy <> '' GROUP BY policy`, nil, func(scan func(...any) error) error {
			var name string
			var n int
			err := scan(&name, &n)
			vms[name] = n
			return err
		})
		for i := range rows {
			rows[i].VMs = vms[rows[i].Name]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	return rows, nil
}

// SetFilePolicies makes those of origin "file" exactly these; ErrConflict names
// one of origin "api" that is in the way.
func (db *DB) SetFilePolicies(ctx context.Context, ps []schedule.Policy) error {
	err := db.write(ctx, again, func(q querier) error {
		old := map[string]bool{}
		err := each(ctx, q, `SELECT name FROM policy WHERE origin = $1`, []any{originFile}, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			old[name] = true
			return err
		})
		if err != nil {
			return err
		}
		for i, p := range ps {
			if err := putPolicy(ctx, q, p, originFile, i); err != nil {
				return err
			}
			delete(old, p.Name)
		}
		for name := range old {
			if _, err := q.exec(ctx, `DELETE FROM policy WHERE name = $1 AND origin = $2`, name, originFile); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("take over the file's policies: %w", err)
	}
	return nil
}

// putPolicy writes a policy unless there is one of its name that comes from
// elsewhere.
func putPolicy(ctx context.Context, q querier, p schedule.Policy, origin string, place int) error {
	if p.Name == "" {
		return fmt.Errorf("a policy needs a name: %w", schedule.ErrInvalid)
	}
	body, err := encode(p)
	if err != nil {
		return err
	}
	n, err := q.exec(ctx, `INSERT INTO policy (name, origin, place, body) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET place = excluded.place, body = excluded.body WHERE policy.origin = excluded.origin`, p.Name, origin, place, body)
	switch {
	case err != nil:
		return err
	case n == 0 && origin == originFile:
		return fmt.Errorf("policy %s was made by hand: delete it there or give the file's another name: %w", p.Name, schedule.ErrConflict)
	case n == 0:
		return fmt.Errorf("policy %s is in the configuration file: change it there: %w", p.Name, schedule.ErrConflict)
	}
	return nil
}

// SavePolicy makes or replaces one of origin "api".
func (db *DB) SavePolicy(ctx context.Context, p schedule.Policy) error {
	err := db.write(ctx, again, func(q querier) error { return putPolicy(ctx, q, p, originAPI, 0) })
	if err != nil {
		return fmt.Errorf("save policy: %w", err)
	}
	return nil
}

// DeletePolicy deletes one of origin "api". VMs for which it was chosen keep
// the choice: nobody knows what else was meant.
func (db *DB) DeletePolicy(ctx context.Context, name string) error {
	err := db.write(ctx, again, func(q querier) error {
		n, err := q.exec(ctx, `DELETE FROM policy WHERE name = $1 AND origin = $2`, name, originAPI)
		if err != nil || n > 0 {
			return err
		}
		if err := one(ctx, q, `SELECT count(*) FROM policy WHERE name = $1`, []any{name}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("it is in the configuration file: delete it there: %w", schedule.ErrConflict)
		}
		return schedule.ErrNotFound
	})
	if err != nil {
		return fmt.Errorf("delete policy %s: %w", name, err)
	}
	return nil
}
