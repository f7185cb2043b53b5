package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// ErrInUse is why a snapshot is not deleted while an image or a launch needs
// it.
var ErrInUse = errors.New("the snapshot is in use")

// Expirer deletes sealed snapshots whose time is over.
type Expirer interface {
	// Expire deletes a completed snapshot after a look at what its tags say
	// now: one that does not carry our mark is an error, one that something
	// uses is ErrInUse. Of one that is gone it returns nil.
	Expire(ctx context.Context, id SnapshotID) error
}

// Pruned is a verdict and what followed from it.
type Pruned struct {
	Verdict
	Deleted []SnapshotID `json:"deleted,omitempty"`
	// Blocked is why snapshots of a point that was to go are still there.
	Blocked string `json:"blocked,omitempty"`
}

// Gone reports that nothing of the point is there any more.
func (p Pruned) Gone() bool { return len(p.Deleted) == len(p.Point.sealed()) }

// Prune deletes the points that are not kept, oldest first, and returns what
// came of each verdict, in their order. A point that is in use is passed over;
// any other error ends it, and the next run goes on where this one stopped.
//
// The disks of a point go one after the other, the first disk first. From the
// first deletion on the tags call the point incomplete ("1 of 2 disks are
// there"), so that no crash leaves anything that looks like a recovery point,
// and Retain knows the rest of it again. The first disk is the one that images
// boot from, hence the one whose deletion AWS refuses where it refuses any: the
// refusal then comes while the point is still whole. Side by side they would be
// gone sooner, and a refusal could come too late. Conversions go before the
// disks, for both reasons: images boot from them, and a point is as whole
// without them.
func Prune(ctx context.Context, store Expirer, verdicts []Verdict) ([]Pruned, error) {
	result := make([]Pruned, len(verdicts))
	order := make([]int, len(verdicts))
	for i, v := range verdicts {
		result[i].Verdict, order[i] = v, i
	}
	slices.SortStableFunc(order, func(a, b int) int { return -newestFirst(verdicts[a].Point, verdicts[b].Point) })
	for n, i := range order {
		p := &result[i]
		if p.Keep {
			continue
		}
		err := p.delete(ctx, store)
		if err == nil || errors.Is(err, ErrInUse) {
			continue
		}
		for _, rest := range order[n+1:] {
			if !result[rest].Keep {
				result[rest].Blocked = "not reached: an earlier deletion failed"
			}
		}
		return result, fmt.Errorf("prune %s of %s: %w", p.Point.Cycle, p.Point.VMName, err)
	}
	return result, nil
}

// delete deletes the snapshots of one point: conversions, then disks by ordinal.
func (p *Pruned) delete(ctx context.Context, store Expirer) error {
	for _, s := range p.Point.sealed() {
		if err := store.Expire(ctx, s.ID); err != nil {
			p.Blocked = err.Error()
			return err
		}
		p.Deleted = append(p.Deleted, s.ID)
	}
	return nil
}
