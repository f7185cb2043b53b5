package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"snapferry/schedule"
	"snapferry/transfer"
)

// factsCache keeps what vCenter said of VMs, decoded. It is most of a VM's
// bytes and seldom changes, while lists of all VMs are read every few seconds.
// The database's hash says whether an entry still holds.
type factsCache struct {
	most int // 0 is maxFacts
	mu   sync.Mutex
	by   map[transfer.VMID]fact
}

type fact struct {
	hash string
	vm   transfer.VM
}

// maxFacts bounds the cache to several times the largest fleet that one
// vCenter manages comfortably; beyond it begins anew.
const maxFacts = 20_000

// fill puts the facts to rows that were read. A VM whose facts changed after
// its row was read gets the newer ones.
func (c *factsCache) fill(ctx context.Context, q querier, all []vmRow) ([]schedule.VM, error) {
	fresh := map[transfer.VMID]fact{}
	if missing := c.take(all); len(missing) > 0 {
		var err error
		if fresh, err = loadFacts(ctx, q, missing); err != nil {
			return nil, err
		}
		c.put(fresh)
	}
	found := make([]schedule.VM, len(all))
	for i := range all {
		found[i] = all[i].vm
		if f, ok := fresh[found[i].ID]; ok {
			found[i].VM = clone(f.vm)
		}
	}
	return found, nil
}

// take fills rows from the cache and returns the VMs that it does not have.
func (c *factsCache) take(all []vmRow) (missing []transfer.VMID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		r := &all[i]
		if f, ok := c.by[r.vm.ID]; ok && f.hash == r.hash {
			r.vm.VM = clone(f.vm)
		} else {
			missing = append(missing, r.vm.ID)
		}
	}
	return missing
}

func (c *factsCache) put(fresh map[transfer.VMID]fact) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.by == nil || len(c.by)+len(fresh) > cmp.Or(c.most, maxFacts) {
		c.by = make(map[transfer.VMID]fact, len(fresh))
	}
	maps.Copy(c.by, fresh)
}

func loadFacts(ctx context.Context, q querier, ids []transfer.VMID) (map[transfer.VMID]fact, error) {
	fresh := make(map[transfer.VMID]fact, len(ids))
	err := eachVM(ctx, q, `SELECT vcenter, moref, hash, facts FROM vm WHERE `, ids, "", func(scan func(...any) error) error {
		var id transfer.VMID
		var f fact
		var text string
		if err := scan(&id.VCenter, &id.Moref, &f.hash, &text); err != nil {
			return err
		}
		if err := decode(text, &f.vm); err != nil {
			return fmt.Errorf("read VM %s: %w", id, err)
		}
		fresh[id] = f
		return nil
	})
	return fresh, err
}

// clone is a copy whose slices and maps are its own.
func clone(v transfer.VM) transfer.VM {
	v.Tags = slices.Clone(v.Tags)
	v.Attributes = maps.Clone(v.Attributes)
	v.Obstacles = slices.Clone(v.Obstacles)
	v.Disks = slices.Clone(v.Disks)
	for i := range v.Disks {
		v.Disks[i].Obstacles = slices.Clone(v.Disks[i].Obstacles)
	}
	return v
}

// eachVM asks for rows of many VMs, some hundred at a time: query goes on with
// a condition on vcenter and moref, then with tail. args are $1 and so on of
// the query.
func eachVM(ctx context.Context, q querier, query string, ids []transfer.VMID, tail string, f func(scan func(...any) error) error, args ...any) error {
	for chunk := range slices.Chunk(ids, maxParams/2-len(args)) {
		all := slices.Clone(args)
		for _, id := range chunk {
			all = append(all, id.VCenter, id.Moref)
		}
		err := each(ctx, q, query+`(vcenter, moref) IN (VALUES `+values(len(chunk), 2, len(args)+1)+`) `+tail, all, f)
		if err != nil {
			return err
		}
	}
	return nil
}
