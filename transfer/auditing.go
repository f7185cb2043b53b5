package transfer

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// auditing is the audit of one disk under way.
type auditing struct {
	d     *diskCycle
	c     *copier
	wrong atomic.Int64

	mu      sync.Mutex
	unknown map[int64]Digest // as on the disk; nobody here knows what the parent has
}

// look reads one block of the frozen disk and holds it against what the parent
// is known to have.
func (a *auditing) look(ctx context.Context, i int64) error {
	buf, err := a.c.buffers.get(ctx)
	if err != nil {
		return err
	}
	defer a.c.buffers.put(buf)
	digest, _, err := a.c.digest(i, buf)
	if err != nil {
		return err
	}
	known, ok, err := a.c.known(i)
	switch {
	case err != nil:
		return err
	case ok:
		a.met(known == digest)
	default:
		a.mu.Lock()
		a.unknown[i] = digest
		a.mu.Unlock()
	}
	return nil
}

func (a *auditing) met(same bool) {
	if !same {
		a.wrong.Add(1)
	}
	a.d.meter(func(r *DiskReport) { r.Audit.Blocks++ })
}

// errEnough ends a listing that has told all that is asked.
var errEnough = errors.New("enough")

// ask holds the blocks of which no digest is known here against AWS itself: an
// appliance that lost its state needs its audits no less.
func (a *auditing) ask(ctx context.Context) error {
	if len(a.unknown) == 0 {
		return nil
	}
	base := a.d.decided.Base
	reader, err := a.d.c.Store.Read(ctx, base.ID)
	if err != nil {
		return err
	}
	tokens := map[int64]string{}
	last := slices.Max(slices.Collect(maps.Keys(a.unknown)))
	err = reader.Blocks(ctx, func(i int64, token string) error {
		if i > last {
			return errEnough
		}
		if _, ok := a.unknown[i]; ok {
			tokens[i] = token
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(a.d.c.Reads)
	for i, digest := range a.unknown {
		token, present := tokens[i]
		switch {
		case present:
			g.Go(func() error { return a.get(ctx, reader, i, token, digest) })
		case base.Encrypted && base.Label.ZerosAbsent:
			// Left out on purpose, and reads as garbage: nothing to hold it against.
		default:
			a.met(digest == ZeroDigest && !base.Encrypted)
		}
	}
	return g.Wait()
}

func (a *auditing) get(ctx context.Context, reader SnapshotReader, i int64, token string, want Digest) error {
	buf, err := a.c.buffers.get(ctx)
	if err != nil {
		return err
	}
	defer a.c.buffers.put(buf)
	got, err := reader.Get(ctx, i, token, buf)
	if err == nil {
		a.met(got == want)
	}
	return err
}
