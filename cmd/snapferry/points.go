package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

func pointsCommand() *cli.Command {
	return &cli.Command{
		Name: "points", Args: "[VM]", Short: "list recovery points, from the tags in AWS alone",
		Long: `Needs no vCenter and nothing on this machine: what AWS holds is the truth.
VM is a name, a moref, an instance UUID or vcenter/moref, as the tags have it.`,
		Examples: []string{"snapferry points", "snapferry points app01", "snapferry points app01 --json"},
		New: func(_, fs *pflag.FlagSet) cli.Run {
			s := newSettings(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 1 {
					return nil, cli.Usagef("points takes one VM, or none for all")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				points, notes, err := w.notedPoints(ctx)
				if points == nil && err != nil {
					return nil, err
				}
				shown := points
				if len(args) == 1 {
					if shown = matching(points, args[0]); len(shown) == 0 && err == nil {
						_, err = pointsOf(points, args[0])
						return nil, err
					}
				}
				return newPointList(shown, notes), err // unreadable labels are an error beside the rest
			}
		},
	}
}

// pointList is the result of points. Newest first.
type pointList struct {
	Points []listedPoint `json:"points"`
}

// listedPoint is a point and what verifying it has shown.
type listedPoint struct {
	transfer.Point
	Verified *transfer.PointVerification `json:"verified,omitempty"`
	Boot     *transfer.BootProof         `json:"boot,omitempty"`
}

func newPointList(points []transfer.Point, notes map[transfer.SnapshotID]transfer.Notes) pointList {
	l := pointList{Points: make([]listedPoint, len(points))}
	for i, p := range points {
		l.Points[i] = listedPoint{p, transfer.VerifiedPoint(p, notes), transfer.BootOf(p, notes)}
	}
	return l
}

func (l pointList) Text(w io.Writer) {
	if len(l.Points) == 0 {
		fmt.Fprintln(w, "There is no recovery point in this account and region.")
		return
	}
	t := newTable("VM", "POINT", "FROZEN", "CONFIRMED", ">DISKS", "KINDS", ">SIZE", ">BLOCKS", "BOOTED", "VERIFIED", "STATE")
	for _, p := range l.Points {
		t.row(p.VMName, p.Cycle, timeText(p.Frozen), timeText(p.Confirmed), len(p.Disks), kindsText(p.Point),
			bytesText(pointSize(p.Point)), blocksText(p.Point), bootText(p.Boot), verifiedText(p), stateText(p.Point))
	}
	t.write(w, "")
}

// bootText says whether the point is known to boot.
func bootText(b *transfer.BootProof) string {
	switch {
	case b == nil:
		return "-"
	case b.OK:
		return "yes, " + timeText(b.At)
	}
	return "NO, " + timeText(b.At)
}

func pointSize(p transfer.Point) (size int64) {
	for _, s := range p.Disks {
		size += s.Label.DiskSize
	}
	return size
}

// blocksText is how many blocks the point wrote, "?" where a tag does not say.
func blocksText(p transfer.Point) string {
	var n int64
	for _, s := range p.Disks {
		if s.Label.Blocks < 0 {
			return "?"
		}
		n += s.Label.Blocks
	}
	return fmt.Sprint(n)
}

func kindsText(p transfer.Point) string {
	var kinds []string
	for _, s := range p.Disks {
		if k := string(s.Label.Kind); !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return strings.Join(kinds, "+")
}

func stateText(p transfer.Point) string {
	if !p.Complete {
		return "incomplete: " + p.Missing
	}
	text := "complete"
	if ex := p.Disks[0].Label.Excluded; len(ex) > 0 {
		text += ", without " + strings.Join(ex, ", ")
	}
	return text
}

// points reads the recovery points of every VM. Beside an error about labels
// that cannot be read it returns the others.
func (w *wire) points(ctx context.Context) ([]transfer.Point, error) {
	store, err := w.store(ctx)
	if err != nil {
		return nil, err
	}
	snapshots, err := store.AllSnapshots(ctx)
	if err != nil && len(snapshots) == 0 {
		return nil, err
	}
	return transfer.Points(snapshots), err
}

// point reads the points and picks one.
func (w *wire) point(ctx context.Context, name string) (transfer.Point, error) {
	points, err := w.points(ctx)
	if points == nil && err != nil {
		return transfer.Point{}, err
	}
	p, perr := pickPoint(points, name)
	if perr != nil {
		return p, errors.Join(perr, err) // the one that was meant may be among the unreadable
	}
	return p, nil
}
