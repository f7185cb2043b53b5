package ebs

import (
	"context"

	"snapferry/transfer"
)

var _ transfer.ReapStore = (*Store)(nil)

// Abandon deletes a draft that a crash left, pending or failed, after a look at
// its tags and its state: one that EC2 calls completed is an error. Of one that
// is gone it returns nil.
func (s *Store) Abandon(ctx context.Context, id transfer.SnapshotID) error {
	return (&draft{s: s, id: id}).Abort(ctx)
}
