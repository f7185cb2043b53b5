package main

import (
	"context"
	"sync"
	"time"

	"snapferry/ebs"
	"snapferry/schedule"
	"snapferry/transfer"
)

// paces bound what the VMs of one policy together send, by the time of day.
type paces struct {
	now func() time.Time

	mu sync.Mutex
	of map[string]*ebs.Rate
}

func newPaces(now func() time.Time) *paces { return &paces{now: now, of: map[string]*ebs.Rate{}} }

// limit is the store with the policy's bandwidth before each put.
func (p *paces) limit(policy *schedule.Policy, store transfer.Store) transfer.Store {
	if policy == nil || len(policy.Bandwidth) == 0 {
		return store
	}
	return ebs.Limited(store, func(ctx context.Context, bytes int) error { return p.wait(ctx, policy, bytes) })
}

// wait lets bytes go when the policy's share has room for them. The limit is
// looked up each time: a window may open in the middle of a copy.
func (p *paces) wait(ctx context.Context, policy *schedule.Policy, bytes int) error {
	limit, ok := policy.LimitAt(p.now())
	if !ok {
		return nil
	}
	return p.rate(policy.Name, limit).Wait(ctx, bytes)
}

func (p *paces) rate(name string, limit schedule.Rate) *ebs.Rate {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.of[name]
	if r == nil {
		r = ebs.NewRate(int64(limit))
		p.of[name] = r
	}
	r.Set(int64(limit)) // nothing happens where it is the same
	return r
}
