package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/ebs"
	"snapferry/transfer"
)

type verifyOptions struct {
	disk, progress string
	yes, source    bool
	sample         *transfer.Sample // nil is all blocks
}

func verifyCommand(stop *interrupts) *cli.Command {
	return &cli.Command{
		Name: "verify", Args: "POINT", Short: "read a recovery point back and prove every block",
		Long: pointHelp + `

Every block, or a --sample, is read through GetSnapshotBlock and held against what this machine
noted when it was put (proof "manifest"), or, where it does not remember,
against the root digest in the tags (proof "root"). The cost is said before.
Exit status 4 means that bytes are wrong. The result is stored with the point.

--source holds the point against the VM instead: it takes a VM snapshot, reads
the frozen disks where CBT says that nothing has changed since the point, and
removes it. A block that differs there is a change that CBT has lost.`,
		Examples: []string{"snapferry verify app01@latest", "snapferry verify app01 --disk 2 --yes", "snapferry verify app01 --sample 1%", "snapferry verify app01 --source"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			var o verifyOptions
			own.StringVar(&o.disk, "disk", "", "only this disk: its `number`, label, key or UUID")
			own.BoolVarP(&o.yes, "yes", "y", false, "do not ask before reading")
			sampleFlags(own, &o.sample)
			own.BoolVar(&o.source, "source", false, "compare with the VM, frozen anew (needs vCenter and the appliance)")
			progressFlag(own, &o.progress)
			s := newSettings(fs)
			s.aws(fs)
			s.state(fs)
			s.limit(fs)
			s.vcenter(fs)
			s.appliance(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) != 1 {
					return nil, cli.Usagef("verify takes one recovery point")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				return w.verify(ctx, stop, o, args[0])
			}
		},
	}
}

const pointHelp = `POINT is a point's ID or the beginning of it, VM@latest or VM (its newest
complete point), or the ID of one EBS snapshot (that disk alone).`

func progressFlag(fs *pflag.FlagSet, mode *string) {
	fs.StringVar(mode, "progress", progressAuto, "`how` to show progress on stderr: auto, bars, lines, json (one event a line) or none")
}

func (w *wire) verify(ctx context.Context, stop *interrupts, o verifyOptions, name string) (cli.Value, error) {
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	point, err := w.point(ctx, name)
	if err != nil {
		return nil, err
	}
	if o.disk != "" {
		disk, err := pickDisk(point, o.disk)
		if err != nil {
			return nil, err
		}
		point.Disks = []transfer.Snapshot{disk}
	}
	if o.source {
		return w.verifySource(ctx, stop, show, o, point)
	}
	var readings []*reading
	for _, s := range point.Disks {
		r, err := w.openReading(ctx, "verify", s)
		if err == nil && o.sample != nil {
			err = r.choose(ctx, *o.sample)
		}
		if err != nil {
			return nil, err
		}
		readings = append(readings, r)
	}
	if err := confirm(ctx, w.std, costOf("verify", readings), o.yes); err != nil {
		return nil, err
	}
	result := verifyResult{Point: point.Cycle, VMName: point.VMName, Frozen: point.Frozen, OK: true}
	defer show.close()
	defer stop.through(show.writer(w.std.Err))()
	for _, r := range readings {
		if err := w.verifyDisk(ctx, show, r, &result); err != nil {
			return result, err
		}
	}
	return result, nil
}

func (w *wire) verifyDisk(ctx context.Context, show *display, r *reading, result *verifyResult) error {
	m := w.manifest(r.snap)
	if m != nil {
		defer m.Close()
	}
	back := w.readBack(r, m)
	stop := show.follow(r)
	proved, err := back.Run(ctx)
	stop()
	if err != nil {
		result.OK = false
		return err
	}
	result.add(r, proved)
	result.NotStored = append(result.NotStored, w.note(ctx, proved.Snapshot, transfer.VerificationOf(proved, time.Now()))...)
	return nil
}

// verifyResult is the result of verify.
type verifyResult struct {
	Point  transfer.CycleID `json:"point"`
	VMName string           `json:"vmName"`
	Frozen time.Time        `json:"frozen"`
	OK     bool             `json:"ok"` // no disk is wrong
	Disks  []verifiedDisk   `json:"disks"`
	Gets   int64            `json:"gets"`
	// NotStored says why results could not be stored with the point.
	NotStored []string `json:"notStored,omitempty"`
}

type verifiedDisk struct {
	Label   string `json:"label"`
	Ordinal int    `json:"ordinal"`
	Size    int64  `json:"size"`
	transfer.Proved
	Odds *transfer.SampleOdds `json:"odds,omitempty"` // of a sample that could be compared
	Took time.Duration        `json:"tookNs"`
}

func (v *verifyResult) add(r *reading, p transfer.Proved) {
	l := r.snap.Label
	d := verifiedDisk{Label: l.DiskLabel, Ordinal: l.Ordinal, Size: l.DiskSize, Proved: p, Took: time.Since(r.began)}
	if p.Proof != transfer.ProofNone {
		d.Odds = r.odds
	}
	v.Disks = append(v.Disks, d)
	v.OK = v.OK && p.OK
	v.Gets += p.Blocks
}

// Exit is 4 where bytes are wrong.
func (v verifyResult) Exit() int {
	if !v.OK {
		return exitProof
	}
	return exitDone
}

func (v verifyResult) Text(w io.Writer) {
	fmt.Fprintf(w, "%s  point %s  frozen %s\n", v.VMName, v.Point, timeText(v.Frozen))
	t := newTable(">DISK", "LABEL", "SNAPSHOT", ">SIZE", ">BLOCKS", ">ABSENT", ">TIME", "PROOF", "RESULT")
	for _, d := range v.Disks {
		t.row(d.Ordinal, d.Label, d.Snapshot, bytesText(d.Size), d.Blocks, d.Absent, tookText(d.Took), d.Proof, verdict(d.Proved))
	}
	t.write(w, "")
	for _, d := range v.Disks {
		if d.Wrong > 0 {
			fmt.Fprintf(w, "%s: wrong blocks (of 512 KiB), the first met: %v\n", d.Label, d.First)
		}
		oddsText(w, d.Label, d.Odds, d.OK)
	}
	fmt.Fprintf(w, "%s, %s\n", plural(v.Gets, "block")+" read", ebs.GetCost(v.Gets))
	notStoredText(w, v.NotStored)
}

func verdict(p transfer.Proved) string {
	switch {
	case !p.OK:
		return "WRONG: " + p.Why
	case p.Proof == transfer.ProofNone:
		return "readable, but nothing is known to compare with"
	case p.Sampled:
		return "nothing wrong among these"
	}
	return "proven"
}
