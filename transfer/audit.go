package transfer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"
)

// DefaultAudit is how many blocks per disk and cycle are read though CBT calls
// them unchanged: 128 MiB, a second of a datastore's time, and over a day of
// hourly cycles 6,000 blocks.
const DefaultAudit = 256

// AuditEvery is how often a disk that does not change is audited: its audit
// costs an attach, which a cycle without changes otherwise spares.
const AuditEvery = 24 * time.Hour

// AuditReport says what the audit of one disk looked at. Change tracking has
// lost writes silently before (KB 317933, KB 310751).
type AuditReport struct {
	Blocks int64 `json:"blocks"` // read and compared
	Of     int64 `json:"of"`     // that CBT called unchanged
	Wrong  int64 `json:"wrong"`  // that had changed all the same
	// Odds of finding, in this audit, one lost block, and one of ten.
	Odds   float64 `json:"odds"`
	Odds10 float64 `json:"odds10"`
}

// Odds is the probability that an audit of n blocks out of all meets at least
// one of lost ones.
func Odds(n, all, lost int64) float64 {
	if n <= 0 || all <= 0 || lost <= 0 {
		return 0
	}
	return 1 - MissChance(all, n, lost)
}

// auditSample chooses the blocks to audit: random ones that the plan does not
// read.
func (d *diskCycle) auditSample() []int64 {
	budget := int64(d.c.Audit)
	if budget <= 0 || d.decided.Kind != Delta {
		return nil
	}
	// An instant ahead of now is from a clock that was wrong: it says nothing.
	age := d.c.Now().Sub(d.dir.Audited())
	if d.read.Len() == 0 && age >= 0 && age < AuditEvery {
		return nil
	}
	blocks := DiskBlocks(d.frozen.Size)
	of := blocks - d.read.Len()
	sample := pick(min(budget, of), of, blocks, d.read.Has)
	d.meter(func(r *DiskReport) {
		n := int64(len(sample))
		r.Audit = &AuditReport{Of: of, Odds: Odds(n, of, 1), Odds10: Odds(n, of, 10)}
	})
	return sample
}

// pick returns n random indexes below blocks that are not taken; of is how
// many such there are.
func pick(n, of, blocks int64, taken func(int64) bool) []int64 {
	chosen := make([]int64, 0, n)
	if of <= 4*n { // few to choose from: walk along and choose each with the chance that is left
		left := of
		for i := int64(0); i < blocks && int64(len(chosen)) < n; i++ {
			if taken(i) {
				continue
			}
			if rand.Int64N(left) < n-int64(len(chosen)) {
				chosen = append(chosen, i)
			}
			left--
		}
		return chosen
	}
	seen := map[int64]bool{}
	for tries := int64(0); int64(len(chosen)) < n && tries < 1000*n; tries++ {
		if i := rand.Int64N(blocks); !taken(i) && !seen[i] {
			seen[i] = true
			chosen = append(chosen, i)
		}
	}
	return chosen
}

// audit reads the sample and returns how many of its blocks differ from what
// the parent holds.
func (d *diskCycle) audit(ctx context.Context, c *copier, sample []int64) (wrong int64, err error) {
	a := auditing{d: d, c: c, unknown: map[int64]Digest{}}
	g, ctxOfReads := errgroup.WithContext(ctx)
	g.SetLimit(d.c.Reads)
	for _, i := range sample {
		g.Go(func() error { return a.look(ctxOfReads, i) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	if err := a.ask(ctx); err != nil && ctx.Err() != nil {
		return 0, err
	} else if err != nil { // a proof that is missing is no reason to have no point
		d.c.Progress.alarmf("the audit of %s could not look at %d blocks, of which no digest is known here: %v", d.disk.Label, len(a.unknown), err)
	}
	d.meter(func(r *DiskReport) {
		r.Audit.Wrong = a.wrong.Load()
		r.Audit.Odds, r.Audit.Odds10 = Odds(r.Audit.Blocks, r.Audit.Of, 1), Odds(r.Audit.Blocks, r.Audit.Of, 10)
	})
	return a.wrong.Load(), d.dir.SetAudited(d.c.Now())
}

// distrust makes a full compare of a delta whose audit failed, and marks every
// point that holds this disk: nobody knows since when writes were lost.
func (d *diskCycle) distrust(ctx context.Context, wrong int64) error {
	why := fmt.Sprintf("the audit of %s found %d blocks changed that CBT called unchanged", d.disk.Label, wrong)
	d.c.Progress.alarmf("%s: change tracking of this VM cannot be trusted. This cycle compares the whole disk; earlier recovery points are marked as suspect. Reset CBT on the VM, and look for KB 317933 and KB 310751", why)
	d.decided.Kind, d.decided.Reason = Compare, why
	d.read.AddRange(0, DiskBlocks(d.frozen.Size))
	d.label.Kind, d.label.Reason = Compare, why
	d.meter(func(r *DiskReport) {
		r.Kind, r.Reason = Compare, why
		r.Blocks = d.read.Len() + d.decided.FillEnd - d.decided.FillFirst
	})
	return d.tell(ctx, d.decided.Base.ID, fmt.Sprintf("%s %s", d.c.Now().UTC().Format(time.RFC3339), why))
}

// tell marks every earlier snapshot of the disk as suspect, the newest before
// the others: whatever ends the process between, the next cycle finds its base
// suspect, compares, and marks the rest.
func (d *diskCycle) tell(ctx context.Context, newest SnapshotID, why string) error {
	var base, older []SnapshotID
	for _, s := range d.earlier {
		switch {
		case s.Label.Suspect != "":
		case s.ID == newest:
			base = append(base, s.ID)
		default:
			older = append(older, s.ID)
		}
	}
	if err := d.c.Store.Suspect(ctx, base, why); err != nil {
		return err
	}
	return d.c.Store.Suspect(ctx, older, why)
}

// digest reads block i and digests it.
func (c *copier) digest(i int64, buf []byte) (digest Digest, n int64, err error) {
	offset := i * BlockSize
	n = min(BlockSize, c.size-offset)
	if _, err := c.reader.ReadAt(buf[:n], offset); err != nil {
		return digest, n, fmt.Errorf("read %d bytes at %d of the frozen disk: %w", n, offset, err)
	}
	clear(buf[n:])
	if isZero(buf) {
		return ZeroDigest, n, nil
	}
	return sha256.Sum256(buf), n, nil
}
