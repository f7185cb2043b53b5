package service

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"snapferry/schedule"
	"snapferry/transfer"
)

// A page of the list of VMs.
const (
	defaultPage = 100
	maxPage     = 1000
)

// VMs is a page of the VMs that a query chooses. Its counts are of all VMs that
// fit the query but for their replication state.
func (s *Service) VMs(ctx context.Context, q schedule.VMQuery) (schedule.VMPage, error) {
	order, ok := orders[cmp.Or(q.Sort, "name")]
	switch {
	case !ok:
		return schedule.VMPage{}, invalid("", "VMs cannot be sorted by %q", q.Sort)
	case q.Offset < 0 || q.Limit < 0 || q.Limit > maxPage:
		return schedule.VMPage{}, invalid("", "a page has 1 to %d VMs", maxPage)
	}
	f, err := s.fleet(ctx)
	if err != nil {
		return schedule.VMPage{}, err
	}
	page := schedule.VMPage{Counts: map[schedule.Replication]int{}}
	chosen := choose(f.vms, q, page.Counts)
	sortVMs(chosen, order, q.Desc)
	page.Total = len(chosen)
	from := min(q.Offset, len(chosen))
	to := min(from+cmp.Or(q.Limit, defaultPage), len(chosen))
	page.VMs = make([]schedule.VMStatus, 0, to-from)
	ids := make([]transfer.VMID, 0, to-from)
	for _, vm := range chosen[from:to] {
		page.VMs = append(page.VMs, *vm)
		ids = append(ids, vm.ID)
	}
	if len(ids) == 0 {
		return page, nil
	}
	lags, err := s.store.Lags(ctx, ids, f.at.Add(-lagSpan))
	if err != nil {
		return page, err
	}
	page.Lags = make(map[string][]schedule.LagSample, len(lags))
	for id, samples := range lags {
		page.Lags[id.String()] = some(samples)
	}
	return page, nil
}

// choose are the VMs that a query chooses.
func choose(vms []schedule.VMStatus, q schedule.VMQuery, counts map[schedule.Replication]int) []*schedule.VMStatus {
	text := strings.ToLower(strings.TrimSpace(q.Text))
	chosen := make([]*schedule.VMStatus, 0, len(vms))
	for i := range vms {
		vm := &vms[i]
		if (q.Lifecycle != "" && vm.Lifecycle != q.Lifecycle) || (q.Policy != "" && vm.Policy != q.Policy) ||
			(q.Wave != "" && vm.Wave != q.Wave) || !hasText(vm, text) {
			continue
		}
		counts[vm.Replication]++
		if q.Replication == "" || vm.Replication == q.Replication {
			chosen = append(chosen, vm)
		}
	}
	return chosen
}

// hasText looks for a text, in lower case, in name, path and IDs.
func hasText(vm *schedule.VMStatus, text string) bool {
	return text == "" || strings.Contains(strings.ToLower(vm.Name), text) || strings.Contains(strings.ToLower(vm.Path), text) ||
		strings.Contains(strings.ToLower(vm.ID.String()), text) || strings.Contains(strings.ToLower(vm.InstanceUUID), text)
}

// order compares two VMs; blank ones, which have nothing to compare, come last
// whichever way it goes.
type order struct {
	compare func(a, b *schedule.VMStatus) int
	blank   func(*schedule.VMStatus) bool
}

func never(*schedule.VMStatus) bool { return false }

var orders = map[string]order{
	"name":    {func(a, b *schedule.VMStatus) int { return 0 }, never}, // what decides between equals
	"lag":     {func(a, b *schedule.VMStatus) int { return cmp.Compare(a.Lag, b.Lag) }, func(vm *schedule.VMStatus) bool { return vm.Point.Cycle == "" }},
	"size":    {func(a, b *schedule.VMStatus) int { return cmp.Compare(a.Bytes(), b.Bytes()) }, never},
	"state":   {func(a, b *schedule.VMStatus) int { return cmp.Compare(urgency(a), urgency(b)) }, never},
	"next":    {func(a, b *schedule.VMStatus) int { return a.Next.Compare(b.Next) }, func(vm *schedule.VMStatus) bool { return vm.Next.IsZero() }},
	"backlog": {func(a, b *schedule.VMStatus) int { return cmp.Compare(a.Backlog, b.Backlog) }, never},
}

// urgency orders states by how much they want to be looked at.
func urgency(vm *schedule.VMStatus) int {
	return slices.Index([]schedule.Replication{
		schedule.ReplicationStalled, schedule.ReplicationLagging, schedule.ReplicationInitial, schedule.ReplicationDelta, schedule.ReplicationWaiting,
		schedule.ReplicationPaused, schedule.ReplicationCurrent, schedule.ReplicationNone, schedule.ReplicationEnded,
	}, vm.Replication)
}

// sortVMs sorts by an order, then by name and ID, so that pages never overlap.
func sortVMs(vms []*schedule.VMStatus, o order, desc bool) {
	way := 1
	if desc {
		way = -1
	}
	names := make(map[*schedule.VMStatus]string, len(vms))
	for _, vm := range vms {
		names[vm] = strings.ToLower(vm.Name)
	}
	slices.SortFunc(vms, func(a, b *schedule.VMStatus) int {
		if x, y := o.blank(a), o.blank(b); x != y {
			if x {
				return 1
			}
			return -1
		}
		return way * cmp.Or(o.compare(a, b), natural(names[a], names[b]), compareIDs(a.ID, b.ID))
	})
}

// natural compares names as people count: app2 is before app10.
func natural(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, n := strings.TrimLeft(a[:x], "0"), strings.TrimLeft(b[:y], "0")
			if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
				return c
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return n
}
