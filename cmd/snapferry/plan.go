package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"snapferry/cmd/internal/cli"
	"snapferry/ebs"
	"snapferry/transfer"
)

// assumedRate is for a plan when nobody says a rate and none was measured:
// what a 1 Gbit/s uplink gives.
const assumedRate = 110e6

// plan says what sync would do. It freezes nothing and changes nothing.
func (w *wire) plan(ctx context.Context, o syncOptions, names []string) (cli.Value, error) {
	sources, err := w.sources(ctx, names, lookOnly{})
	if err != nil {
		return nil, err
	}
	store, err := w.store(ctx)
	if err != nil {
		return nil, err
	}
	byDefault, err := store.EncryptsByDefault(ctx)
	if err != nil {
		return nil, err
	}
	result := &planResult{}
	result.Rate, result.RateFrom = w.planRate(o)
	for _, src := range sources {
		vm, err := src.source.Inspect(ctx)
		if err != nil {
			return result, err
		}
		disks, excluded, err := transfer.ChooseDisks(vm, w.cfg.Transfer.ExcludeDisk)
		if err != nil {
			return result, err
		}
		snapshots, err := store.Snapshots(ctx, vm.ID)
		if err != nil {
			return result, err
		}
		planned := plannedVM{VMName: vm.Name, VM: vm.ID, Excluded: excluded}
		for _, d := range disks {
			p, err := w.planDisk(o, vm, d, snapshots, byDefault)
			if err != nil {
				return result, err
			}
			planned.Disks = append(planned.Disks, p)
		}
		result.VMs = append(result.VMs, planned)
	}
	result.sum()
	return result, nil
}

func (w *wire) planRate(o syncOptions) (rate float64, from string) {
	limit := float64(w.cfg.Transfer.Limit)
	switch {
	case o.rate > 0 && (limit == 0 || float64(o.rate) <= limit):
		return float64(o.rate), "--rate"
	case limit > 0:
		return limit, "--limit"
	}
	if m, ok := w.lastRate(); ok {
		return m.BytesPerSecond, "measured " + m.At.Format(time.DateOnly)
	}
	return assumedRate, "assumed: none is measured yet, say one with --rate"
}

// planDisk decides as a cycle would, with what can be known before the freeze.
func (w *wire) planDisk(o syncOptions, vm transfer.VM, d transfer.Disk, snapshots []transfer.Snapshot, byDefault bool) (plannedDisk, error) {
	t := w.options(o.seed)
	in := transfer.PlanInput{
		Disk: d, Zeros: t.Zeros, Encrypted: t.Encrypted, KMSKey: t.KMSKey, EncryptByDefault: byDefault, Reseed: t.Reseed,
	}
	in.Base, in.NoBase = transfer.Baseline(snapshots, d.ID)
	if in.Base != nil {
		foresee(&in, vm)
		if m := w.manifest(*in.Base); m != nil {
			in.Known = transfer.KnownPartly
			if m.Header().Whole {
				in.Known = transfer.KnownWhole
			}
			m.Close()
		}
	}
	decided, err := transfer.Decide(in)
	if err != nil {
		return plannedDisk{}, err
	}
	p := plannedDisk{Disk: d.ID, Label: d.Label, Size: d.Size, Kind: decided.Kind, Reason: decided.Reason}
	if decided.Base != nil {
		p.Parent = decided.Base.ID
	}
	p.measure(decided, snapshots)
	return p, nil
}

// foresee fills in what the freeze will show: the change ID of a disk whose
// tracking has begun but had no snapshot yet, and why there will be none.
func foresee(in *transfer.PlanInput, vm transfer.VM) {
	switch {
	case in.Disk.ChangeID != "":
	case vm.CBT:
		in.Disk.ChangeID = in.Base.Label.ChangeID
	case vm.Snapshots > 0:
		in.Tracking = fmt.Sprintf("CBT is off, and cannot be enabled while the VM has %s", plural(int64(vm.Snapshots), "snapshot"))
	default:
		in.Tracking = "CBT is off; this cycle enables it"
	}
}

// measure says how much there is to do. Of a delta nobody knows before the
// freeze: what the disk's former deltas wrote is an estimate.
func (p *plannedDisk) measure(d transfer.Plan, snapshots []transfer.Snapshot) {
	blocks := transfer.DiskBlocks(p.Size)
	fill := d.FillEnd - d.FillFirst
	p.Bytes, p.Puts, p.Bound = p.Size, blocks+fill, boundAtMost
	if d.Kind == transfer.Seed {
		return
	}
	var sum, n int64
	for _, s := range snapshots {
		if l := s.Label; l.Disk == p.Disk && l.Kind != transfer.Seed && l.Blocks >= 0 && s.State == transfer.Completed {
			sum, n = sum+l.Blocks, n+1
		}
	}
	if n == 0 {
		return
	}
	p.From = n
	p.Bound = boundEstimate
	p.Puts = min((sum+n-1)/n+fill, blocks+fill)
	if d.Kind == transfer.Delta {
		p.Bytes = p.Puts * transfer.BlockSize
	}
}

// What the numbers of a plan are.
const (
	boundAtMost   = "at most"
	boundEstimate = "estimate"
)

// planResult is the result of sync --plan.
type planResult struct {
	VMs      []plannedVM `json:"vms"`
	Rate     float64     `json:"rate"` // bytes a second
	RateFrom string      `json:"rateFrom"`
	Bytes    int64       `json:"bytes"` // to read
	Puts     int64       `json:"puts"`
	Hours    float64     `json:"hours"`
	Dollars  float64     `json:"dollars"` // for the puts
	cost     ebs.Dollars
}

type plannedVM struct {
	VM       transfer.VMID `json:"vm"`
	VMName   string        `json:"vmName"`
	Excluded []string      `json:"excluded,omitempty"`
	Disks    []plannedDisk `json:"disks"`
}

type plannedDisk struct {
	Disk   transfer.DiskID     `json:"disk"`
	Label  string              `json:"label"`
	Size   int64               `json:"size"`
	Kind   transfer.PlanKind   `json:"kind"`
	Reason string              `json:"reason"`
	Parent transfer.SnapshotID `json:"parent,omitempty"`
	Bytes  int64               `json:"bytes"` // to read
	Puts   int64               `json:"puts"`
	Bound  string              `json:"bound"`          // "at most" or "estimate"
	From   int64               `json:"from,omitempty"` // former snapshots that the estimate is the mean of
}

func (p *planResult) sum() {
	for _, vm := range p.VMs {
		for _, d := range vm.Disks {
			p.Bytes += d.Bytes
			p.Puts += d.Puts
		}
	}
	// Reading runs ahead of putting: the slower of the two decides, and both
	// are at most this many bytes.
	p.Hours = float64(max(p.Bytes, p.Puts*transfer.BlockSize)) / p.Rate / 3600
	p.cost = ebs.PutCost(p.Puts)
	p.Dollars = float64(p.cost) / 1e6
}

func (p *planResult) Text(w io.Writer) {
	for _, vm := range p.VMs {
		fmt.Fprintf(w, "%s\n", vm.VMName)
		t := newTable("DISK", ">SIZE", "KIND", ">READ", ">PUTS", "BASIS", "WHY")
		for _, d := range vm.Disks {
			t.row(d.Label, bytesText(d.Size), d.Kind, bytesText(d.Bytes), d.Puts, d.boundText(), d.Reason)
		}
		t.write(w, "  ")
		for _, e := range vm.Excluded {
			fmt.Fprintf(w, "  %s is left out\n", e)
		}
	}
	fmt.Fprintf(w, "together: %s to read, %d puts, %s at %s (%s), %s for the puts\n",
		bytesText(p.Bytes), p.Puts, hoursText(p.Hours), rateText(p.Rate), p.RateFrom, p.cost)
	fmt.Fprintln(w, "Nothing was changed.")
}

func (d plannedDisk) boundText() string {
	if d.Bound == boundEstimate {
		return fmt.Sprintf("estimate: mean of %s before", plural(d.From, "cycle"))
	}
	return d.Bound
}

func hoursText(h float64) string {
	return tookText(time.Duration(h * float64(time.Hour)))
}
