package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/transfer"
)

type syncOptions struct {
	plan     bool
	seed     bool
	alone    bool // beside a daemon, not through it
	parallel int
	rate     config.Rate
	progress string
}

const syncLong = `Takes a VM snapshot, reads what changed since the last recovery point (or the
whole disk, and says why), writes it into EBS snapshots, and removes the VM
snapshot. Where nothing changed the last recovery point is confirmed instead.

VM is an inventory path, a name, a moref or an instance UUID.

Where snapferry run serves this machine, sync has it replicate the VMs now, by
their policies, and shows how far it is.

Ctrl-C ends in order: disks are detached and the VM snapshot is removed before
the process ends; drafts in AWS that hold blocks are kept, and the next sync goes
on with them. A second one leaves at once and says what it leaves.

--zeros says which blocks of zeros are left out of a seed. auto leaves them out
while the snapshot is and stays unencrypted. all writes every block. allocated
reads only what vSphere calls allocated: quick on thin disks, but what vSphere
forgets to report is LOST, and in an encrypted snapshot what was never allocated
reads back as GARBAGE; verify cannot prove such a point as a whole.`

func syncCommand(stop *interrupts) *cli.Command {
	return &cli.Command{
		Name: "sync", Args: "VM...", Short: "replicate VMs now, one cycle each",
		Long: syncLong,
		Examples: []string{
			"snapferry sync app01",
			"snapferry sync app01 --plan",
			"snapferry sync app01 --limit 200MB/s --tag team=infra --quiesce=try",
			"snapferry sync /DC0/vm/app01 --json --progress json",
		},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			o, s := &syncOptions{}, newSettings(fs)
			syncFlags(own, o, s)
			s.state(fs)
			s.vcenter(fs)
			s.appliance(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if err := checkSync(own, o, args); err != nil {
					return nil, err
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				defer w.close(ctx)
				if o.plan {
					return w.plan(ctx, *o, args)
				}
				if through, err := throughDaemon(own, o, w); err != nil {
					return nil, err
				} else if through {
					return w.syncAtDesk(ctx, *o, args)
				}
				return w.sync(ctx, stop, *o, args)
			}
		},
	}
}

func syncFlags(fs *pflag.FlagSet, o *syncOptions, s *settings) {
	fs.BoolVar(&o.plan, "plan", false, "say what would be done and what it would cost; change nothing")
	fs.Func("rate", "`rate` to assume in --plan, such as 100MB/s", func(v string) error { return o.rate.UnmarshalText([]byte(v)) })
	fs.BoolVar(&o.alone, "alone", false, "run the cycle here, also where a daemon runs on this machine")
	fs.IntVar(&o.parallel, "parallel", 1, "`number` of VMs at once")
	fs.BoolVar(&o.seed, "seed", false, "copy every disk whole into snapshots without a parent")
	progressFlag(fs, &o.progress)
	s.limit(fs)
	s.override(fs, "max-freeze", "give a VM snapshot up after this `time`, such as 4h, and go on from a new one (default: no limit)", func(c *config.Config, v string) (err error) {
		c.Transfer.MaxFreeze, err = time.ParseDuration(v)
		return err
	})
	s.override(fs, "exclude-disk", "leave a `disk` out: its label, key, UUID or datastore path; may be repeated", func(c *config.Config, v string) error {
		c.Transfer.ExcludeDisk = append(slices.Clone(c.Transfer.ExcludeDisk), v)
		return nil
	})
	s.tag(fs)
	s.yes(fs, "encrypted", "encrypt the EBS snapshots", func(c *config.Config) *bool { return &c.Transfer.Encrypted })
	s.text(fs, "kms-key", "KMS `key` to encrypt with; implies --encrypted", func(c *config.Config) *string { return &c.Transfer.KMSKey })
	s.override(fs, "quiesce", "ask the guest for a file-system-consistent freeze: `off`, try or require (default off; --quiesce alone is try)", func(c *config.Config, v string) error {
		return c.Transfer.Quiesce.UnmarshalText([]byte(v))
	})
	fs.Lookup("quiesce").NoOptDefVal = string(config.QuiesceTry)
	s.override(fs, "zeros", "`policy` for blocks of zeros: auto, all or allocated (see above for its risk)", func(c *config.Config, v string) error {
		return c.Transfer.Zeros.UnmarshalText([]byte(v))
	})
}

func checkSync(fs *pflag.FlagSet, o *syncOptions, args []string) error {
	switch {
	case len(args) == 0:
		return cli.Usagef("sync takes the VMs to replicate; snapferry vms lists them")
	case o.parallel < 1:
		return cli.Usagef("--parallel %d: it must be at least 1", o.parallel)
	case o.rate != 0 && !o.plan:
		return cli.Usagef("--rate is for --plan; --limit bounds a real one")
	}
	if fs.Changed("quiesce") {
		for _, q := range []config.Quiesce{config.QuiesceOff, config.QuiesceTry, config.QuiesceRequire} {
			if slices.Contains(args, string(q)) { // its value is optional, and so needs the sign
				return cli.Usagef("write --quiesce=%s (a VM that is called %s goes by its inventory path)", q, q)
			}
		}
	}
	return nil
}

// sync runs one cycle for each VM. One that fails does not stop the others.
func (w *wire) sync(ctx context.Context, stop *interrupts, o syncOptions, names []string) (cli.Value, error) {
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	reader, err := w.hotadd(ctx)
	if err != nil {
		return nil, err
	}
	sources, err := w.sources(ctx, names, reader)
	if err != nil {
		return nil, err
	}
	env, err := w.env(ctx)
	if err != nil {
		return nil, err
	}
	w.reapBefore(ctx, env, reader, sources)
	w.endKnownOverdue(ctx)
	defer stop.through(show.writer(w.std.Err))()
	result := &syncResult{Cycles: make([]transfer.Report, len(sources))}
	before := w.calls()
	errs := make([]error, len(sources))
	var g errgroup.Group
	g.SetLimit(o.parallel)
	for i, src := range sources {
		g.Go(func() error {
			result.Cycles[i], errs[i] = w.cycle(ctx, stop, show, o, env, src)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	show.close()
	w.noteRate(result.Cycles)
	result.Calls = w.calls().Sub(before)
	return result, errors.Join(errs...)
}

// cycle replicates one VM.
func (w *wire) cycle(ctx context.Context, stop *interrupts, show *display, o syncOptions, env transfer.Env, src namedSource) (transfer.Report, error) {
	calls := w.calls
	if o.parallel > 1 {
		calls = nil // the counters are the process's: side by side they would count for each other
	}
	p := transfer.NewProgress(env.Now, calls)
	run := &running{name: src.name, report: p.Report}
	if err := ctx.Err(); err != nil { // interrupted before its turn
		r := p.Report()
		r.VMName, r.Outcome = src.name, transfer.OutcomeFailed
		err = transfer.Fail(transfer.Canceled, "replicate "+src.name, err, "")
		r.Error, r.Ended = err.Error(), env.Now()
		return r, err
	}
	p.OnStep(func(step transfer.Step) {
		logged(ctx, "step", "vm", src.name, "step", step)
		show.stepped(run)
	})
	undo := stop.leaves(run.leaves)
	defer undo()
	c := &transfer.Cycle{Env: env, Options: w.options(o.seed), Source: src.source, Progress: p}
	unfollow := show.follow(run)
	defer unfollow()
	report, err := c.Run(ctx)
	if report.VMName == "" {
		report.VMName = src.name
	}
	return report, err
}

// running is a cycle as a subject for the display.
type running struct {
	name   string
	report func() transfer.Report
}

func (r *running) title() string { return r.name }
func (r *running) step() string  { return stepText(r.report()) }
func (r *running) event() any    { return r.report() }

func (r *running) tracks() []track {
	var ts []track
	for _, d := range r.report().Disks {
		if d.CopyStarted.IsZero() {
			continue
		}
		ts = append(ts, track{name: d.Label, done: d.Done * transfer.BlockSize, total: d.Blocks * transfer.BlockSize, rate: d.Rate, left: d.ETA})
	}
	return ts
}

const waitForEC2 = "wait for EC2 to complete the snapshots"

// stepText says in words where a cycle is.
func stepText(r transfer.Report) string {
	switch r.Step {
	case transfer.StepInspect:
		return "look at the VM"
	case transfer.StepFreeze:
		return "take a VM snapshot"
	case transfer.StepPlan:
		return "find what changed"
	case transfer.StepCopy:
		return "copy"
	case transfer.StepDetach:
		return "detach the frozen disks"
	case transfer.StepRelease:
		if r.Snapshot != "" {
			return "remove the VM snapshot"
		}
		return waitForEC2 // the removal runs beside the seal, and is done
	case transfer.StepSeal:
		return waitForEC2
	case transfer.StepCommit:
		return "record the recovery point"
	}
	return outcomeText(r) + " in " + tookText(r.Took(time.Now()))
}

// leaves says what exists now and would stay behind.
func (r *running) leaves() []string { return leftovers(r.name, r.report()) }
