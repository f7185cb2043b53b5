package ebs

import (
	"context"
	"fmt"
	"time"

	"snapferry/transfer"
)

// SetRates changes the limits of Config while transfers run, at once: those
// that wait for a turn wait at the new rates. bytesPerSecond is as
// Config.BytesPerSecond, the others as PutsPerSecondPerAccount and
// GetsPerSecondPerAccount: 0 is 95 % of the region's quota, negative no limit.
// May be called by anybody at any time; rates that stay as they are lose
// nothing.
func (s *Store) SetRates(bytesPerSecond int64, putsPerSecond, getsPerSecond float64) {
	c := Config{PutsPerSecondPerAccount: putsPerSecond, GetsPerSecondPerAccount: getsPerSecond}.withDefaults(s.api.region)
	now := time.Now()
	s.bytes.set(float64(bytesPerSecond), now)
	s.puts.set(c.PutsPerSecondPerAccount, now)
	s.gets.set(c.GetsPerSecondPerAccount, now)
}

// Rate is a bandwidth that some transfers share, such as those of one policy.
// Its methods may be called by many goroutines at once.
type Rate struct{ p *pacer }

// NewRate returns a Rate of bytesPerSecond; 0 is no limit.
func NewRate(bytesPerSecond int64) *Rate { return &Rate{pacerOf(float64(bytesPerSecond), byteBurst)} }

// Set changes the rate, at once, for those too that wait already.
func (r *Rate) Set(bytesPerSecond int64) { r.p.set(float64(bytesPerSecond), time.Now()) }

// Wait returns when so many bytes, at most a block, may go. Its error is ctx's
// end, or that the turn would come after it.
func (r *Rate) Wait(ctx context.Context, bytes int) error { return r.p.wait(ctx, bytes) }

// Limited is a store whose drafts call wait before each Put, with the block's
// length: Rate.Wait, for one. It does all else as store does; the limits of
// store hold besides.
func Limited(store transfer.Store, wait func(ctx context.Context, bytes int) error) transfer.Store {
	return limited{store, wait}
}

type limited struct {
	transfer.Store
	wait func(ctx context.Context, bytes int) error
}

// Start implements transfer.Store.
func (l limited) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	d, err := l.Store.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	return limitedDraft{d, l.wait}, nil
}

type limitedDraft struct {
	transfer.Draft
	wait func(ctx context.Context, bytes int) error
}

// Put implements transfer.Draft.
func (d limitedDraft) Put(ctx context.Context, index int64, block []byte, digest transfer.Digest) error {
	if err := d.wait(ctx, len(block)); err != nil {
		return fmt.Errorf("wait for a turn to put block %d of snapshot %s: %w", index, d.ID(), err)
	}
	return d.Draft.Put(ctx, index, block, digest)
}

// AccountRates are the request rates that all appliances of an account may use
// together in this region where nobody says otherwise: 95 % of its quotas.
func (s *Store) AccountRates() (putsPerSecond, getsPerSecond float64) {
	c := Config{}.withDefaults(s.api.region)
	return c.PutsPerSecondPerAccount, c.GetsPerSecondPerAccount
}
