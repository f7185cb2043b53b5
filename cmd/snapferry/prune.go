package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/transfer"
)

type pruneOptions struct {
	dryRun, yes bool
	rules       config.Retention // as flags gave them
}

const pruneLong = `A point stays if any rule keeps it. The rules are those of the settings
(retention; without any: the last 3, 7 daily, 4 weekly). Where one --keep flag
is given, the flags alone are the rules.

Whatever the rules say, these stay: the newest complete point of a VM, points
that an image or a launch uses, the snapshots that the next delta builds on,
and what is not complete (snapferry clean looks after that), except for what a
deletion that broke off has left, which is finished.

Without VM: the VMs whose newest point this appliance made. VM is a name, a
moref, an instance UUID or vcenter/moref, as the tags have it.`

func pruneCommand() *cli.Command {
	return &cli.Command{
		Name: "prune", Args: "[VM...]", Short: "delete recovery points that no rule keeps",
		Long: pruneLong,
		Examples: []string{
			"snapferry prune --dry-run",
			"snapferry prune app01 --keep-last 2 --keep-daily 14 --keep-monthly 6",
		},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			o := &pruneOptions{}
			s := newSettings(fs)
			own.BoolVar(&o.dryRun, "dry-run", false, "say what would be deleted and why; delete nothing")
			own.BoolVarP(&o.yes, "yes", "y", false, "do not ask before deleting")
			ruleFlags(own, o, s)
			s.state(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				return w.prune(ctx, *o, args)
			}
		},
	}
}

// ruleFlags declares the rules. They come together: half of the settings' and
// half of the command line's would be a policy that nobody wrote.
func ruleFlags(own *pflag.FlagSet, o *pruneOptions, s *settings) {
	own.IntVar(&o.rules.Last, "keep-last", 0, "keep the newest `n` points")
	own.IntVar(&o.rules.Days, "keep-days", 0, "keep all points of the last `n` days")
	own.IntVar(&o.rules.Daily, "keep-daily", 0, "keep the newest point of each of `n` days")
	own.IntVar(&o.rules.Weekly, "keep-weekly", 0, "keep the newest point of each of `n` weeks")
	own.IntVar(&o.rules.Monthly, "keep-monthly", 0, "keep the newest point of each of `n` months")
	s.overrides = append(s.overrides, func(c *config.Config) error {
		for _, name := range []string{"keep-last", "keep-days", "keep-daily", "keep-weekly", "keep-monthly"} {
			if own.Changed(name) {
				c.Retention.SetRules(o.rules)
			}
		}
		return nil
	})
}

// policy is the settings' retention in the core's words.
func policy(r config.Retention) (transfer.Policy, error) {
	loc, err := r.Location()
	return transfer.Policy{Last: r.Last, Days: r.Days, Daily: r.Daily, Weekly: r.Weekly, Monthly: r.Monthly, Location: loc}, err
}

func (w *wire) prune(ctx context.Context, o pruneOptions, names []string) (cli.Value, error) {
	rules, err := policy(w.cfg.Retention)
	if err != nil {
		return nil, err
	}
	points, notes, lerr := w.notedPoints(ctx)
	if lerr != nil && (points == nil || !o.dryRun) {
		// An unreadable snapshot may be a disk of any point, which then seems
		// to be the rest of one.
		return nil, fmt.Errorf("nothing is deleted while some labels cannot be read: %w", lerr)
	}
	result := &pruneResult{Policy: rules, TimeZone: rules.Location.String(), DryRun: o.dryRun}
	points, result.Others, err = w.prunable(points, names)
	if err != nil {
		return nil, errors.Join(err, lerr)
	}
	verdicts := transfer.Retain(points, rules, time.Now(), inUse(notes))
	result.Points = make([]transfer.Pruned, len(verdicts))
	for i, v := range verdicts {
		result.Points[i].Verdict = v
	}
	if n, snapshots := result.going(); o.dryRun || n == 0 {
		return result, lerr
	} else if err := ask(ctx, w.std, fmt.Sprintf("prune deletes %s (%s), for good.", plural(int64(n), "recovery point"), plural(int64(snapshots), "EBS snapshot")),
		o.yes, "prune", "Nothing was deleted. --yes goes on without asking."); err != nil {
		return nil, err
	}
	store, err := w.store(ctx)
	if err != nil {
		return nil, err
	}
	result.Points, err = transfer.Prune(ctx, store, verdicts)
	return result, err
}

// inUse says who uses a snapshot, by its notes, as transfer.Retain asks it.
func inUse(notes map[transfer.SnapshotID]transfer.Notes) func(transfer.SnapshotID) (string, bool) {
	return func(id transfer.SnapshotID) (string, bool) {
		by := notes[id].InUse
		return by, by != ""
	}
}

// prunable is the points of the VMs that are meant, and how many VMs were left
// out because another appliance replicates them: its policy is its own.
func (w *wire) prunable(points []transfer.Point, names []string) (of []transfer.Point, others int, err error) {
	meant := map[transfer.VMID]bool{}
	for _, name := range names {
		found, err := pointsOf(points, name)
		if err != nil {
			return nil, 0, err
		}
		meant[found[0].VM] = true
	}
	if len(names) == 0 && len(points) > 0 {
		id, err := w.knownAppliance()
		if err != nil {
			return nil, 0, err
		}
		for _, p := range points { // newest first: the first of a VM decides
			if _, seen := meant[p.VM]; !seen {
				meant[p.VM] = p.Disks[0].Label.Appliance == id
			}
		}
	}
	for _, mine := range meant {
		if !mine {
			others++
		}
	}
	return slices.DeleteFunc(slices.Clone(points), func(p transfer.Point) bool { return !meant[p.VM] }), others, nil
}

// knownAppliance is the appliance's ID, where it has one already.
func (w *wire) knownAppliance() (transfer.ApplianceID, error) {
	if id := w.cfg.Appliance.ID; id != "" {
		return transfer.ApplianceID(id), nil
	}
	id, err := readID(filepath.Join(w.cfg.StateDir, "appliance-id"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", transfer.Fail(transfer.Permanent, "prune the VMs of this appliance", errors.New("this machine has no appliance ID, so none is known to be its own"), "Name the VMs.")
	}
	return id, err
}

// pruneResult is the result of prune.
type pruneResult struct {
	Policy   transfer.Policy   `json:"policy"`
	TimeZone string            `json:"timeZone"`
	DryRun   bool              `json:"dryRun"`
	Points   []transfer.Pruned `json:"points"`
	Others   int               `json:"otherVMs"` // left out: another appliance replicates them
}

// going counts what is to go.
func (r *pruneResult) going() (points, snapshots int) {
	for _, p := range r.Points {
		if !p.Keep {
			points, snapshots = points+1, snapshots+len(p.Point.Disks)
		}
	}
	return points, snapshots
}

// Exit is 3 where a point is half gone and AWS holds the rest of it.
func (r *pruneResult) Exit() int {
	for _, p := range r.Points {
		if p.Blocked != "" && len(p.Deleted) > 0 {
			return exitAlarm
		}
	}
	return exitDone
}

func (r *pruneResult) Text(w io.Writer) {
	if len(r.Points) > 0 {
		t := newTable("VM", "POINT", "HOLDS", ">DISKS", "VERDICT", "WHY")
		for _, p := range r.Points {
			t.row(p.Point.VMName, p.Point.Cycle, timeText(p.Point.Instant()), len(p.Point.Disks), r.verdictText(p), whyText(p))
		}
		t.write(w, "")
	}
	points, snapshots := r.going()
	gone, deleted := 0, 0
	for _, p := range r.Points {
		deleted += len(p.Deleted)
		if !p.Keep && p.Gone() {
			gone++
		}
	}
	switch {
	case r.DryRun:
		fmt.Fprintf(w, "%s (%s) would be deleted, %d kept. Nothing was deleted.\n", plural(int64(points), "point"), plural(int64(snapshots), "snapshot"), len(r.Points)-points)
	default:
		fmt.Fprintf(w, "%s deleted (%s), %d kept.\n", plural(int64(gone), "point"), plural(int64(deleted), "snapshot"), len(r.Points)-gone)
	}
	if r.Others > 0 {
		fmt.Fprintf(w, "%s of other appliances left out: name them to prune them.\n", plural(int64(r.Others), "VM"))
	}
}

func (r *pruneResult) verdictText(p transfer.Pruned) string {
	switch {
	case p.Keep:
		return "keep"
	case r.DryRun:
		return "delete"
	case p.Gone():
		return "deleted"
	case len(p.Deleted) > 0:
		return "ALARM: deleted in part"
	}
	return "not deleted"
}

func whyText(p transfer.Pruned) string {
	if p.Blocked != "" {
		return p.Why + "; " + p.Blocked
	}
	return p.Why
}
