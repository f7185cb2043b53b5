package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/transfer"
)

// sampleFlags declares --sample and the seed that makes one repeatable.
func sampleFlags(fs *pflag.FlagSet, sample **transfer.Sample) {
	seed := rand.Uint64() >> 11 // JSON's numbers hold 53 bits
	fs.Func("sample", "read only this `share` of the blocks, chosen at random, such as 1%", func(text string) error {
		f, err := parseShare(text)
		if err == nil {
			*sample = &transfer.Sample{Fraction: f, Seed: seed}
		}
		return err
	})
	fs.Func("sample-seed", "`number` that chooses the blocks: that of an earlier sample chooses the same", func(text string) error {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number from 0", text)
		}
		if seed = n; *sample != nil { // in whatever order they are given
			(*sample).Seed = n
		}
		return nil
	})
}

// parseShare reads "1%" or "0.5 %".
func parseShare(text string) (float64, error) {
	number, ok := strings.CutSuffix(strings.TrimSpace(text), "%")
	f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if !ok || err != nil || !(f > 0 && f <= 100) { // so that NaN is refused
		return 0, fmt.Errorf("%q is not a share such as 1%% (above 0%%, at most 100%%)", text)
	}
	return f / 100, nil
}

// choose narrows the reading to a sample of the blocks.
func (r *reading) choose(ctx context.Context, sample transfer.Sample) error {
	present, err := transfer.ListBlocks(ctx, r.snap, r.reader)
	if err != nil {
		return err
	}
	r.only = sample.Choose(present, uint64(r.snap.Label.Ordinal))
	r.blocks = r.only.Len()
	odds := transfer.NewSampleOdds(sample, present.Len(), r.blocks)
	r.odds = &odds
	return nil
}

// oddsText says what was sampled and, where nothing wrong was met, what that
// allows to say.
func oddsText(w io.Writer, label string, o *transfer.SampleOdds, ok bool) {
	if o == nil {
		return
	}
	fmt.Fprintf(w, "%s: %d of %s sampled (%.3g %%, seed %d)", label, o.Sampled, plural(o.Of, "block"), o.Fraction*100, o.Seed)
	if ok && o.Detects > 0 {
		fmt.Fprintf(w, ": had %d or more of them been wrong, at least one would have been met with %.0f %% confidence", o.Detects, o.Confidence*100)
	}
	fmt.Fprintln(w)
}

// note stores a result with its snapshot; where it cannot, it says why. That
// is no failure: whoever may only read may verify, too.
func (w *wire) note(ctx context.Context, id transfer.SnapshotID, v transfer.Verification) (notStored []string) {
	store, err := w.store(ctx)
	if err == nil {
		var kept bool
		if kept, err = store.Note(ctx, id, v); err == nil && !kept {
			return []string{fmt.Sprintf("%s: an earlier result says that it is wrong, and stays", id)}
		}
	}
	if err != nil {
		return []string{fmt.Sprintf("%s: %v", id, err)}
	}
	return nil
}

func notStoredText(w io.Writer, notStored []string) {
	for _, why := range notStored {
		fmt.Fprintf(w, "The result was not stored with the point: %s\n", why)
	}
}

// notedPoints is points, and what is noted on their snapshots.
func (w *wire) notedPoints(ctx context.Context) ([]transfer.Point, map[transfer.SnapshotID]transfer.Notes, error) {
	store, err := w.store(ctx)
	if err != nil {
		return nil, nil, err
	}
	snapshots, notes, err := store.AllWithNotes(ctx)
	if err != nil && len(snapshots) == 0 {
		return nil, nil, err
	}
	return transfer.Points(snapshots), notes, err
}

// verifiedText is what verifying a point has shown: "full 2026-03-04".
func verifiedText(p listedPoint) string {
	v := p.Verified
	switch {
	case v == nil:
		return "-"
	case v.Disks == 0:
		return "unreadable"
	}
	text := string(v.Kind)
	if v.Kind != transfer.VerifyFull && v.Blocks < v.Of {
		text += fmt.Sprintf(" %.2g%%", float64(v.Blocks)/float64(v.Of)*100)
	}
	text += " " + v.At.UTC().Format("2006-01-02")
	switch {
	case !v.OK:
		text = "WRONG: " + text
	case !v.Proven:
		text += ", readable only"
	}
	if v.Disks < len(p.Disks) {
		text += fmt.Sprintf(", %d of %s", v.Disks, plural(int64(len(p.Disks)), "disk"))
	}
	return text
}
