package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/launch/convert"
)

func convertCommand() *cli.Command {
	return &cli.Command{
		Name: "convert", Args: "POINT", Short: "make the guest of a recovery point ready for EC2, or say what that takes",
		Long: `test and cutover do this by themselves. By itself, --dry-run shows before what will
be changed in a guest, and what is doubtful; without it the next launch of the
point finds the converted copy. The point itself is never changed.

The guest's disk is looked at in a virtual machine of libguestfs's, which needs
guestfish, qemu-img and qemu-nbd (Debian: libguestfs-tools, qemu-utils). No
program of the guest runs on this machine.`,
		Examples: []string{"snapferry convert app01@latest --dry-run", "snapferry convert app01@latest"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			s := newSettings(fs)
			dry := own.Bool("dry-run", false, "say what would be changed; change nothing")
			s.tag(own)
			s.state(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) != 1 {
					return nil, cli.Usagef("convert takes one recovery point: its ID, or VM@latest; snapferry points lists them")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				return w.convert(ctx, args[0], *dry)
			}
		},
	}
}

func (w *wire) convert(ctx context.Context, name string, dry bool) (cli.Value, error) {
	points, _, err := w.notedPoints(ctx)
	if points == nil && err != nil {
		return nil, err
	}
	p, err := pickPoint(points, name)
	if err != nil {
		return nil, err
	}
	env, err := w.env(ctx)
	if err != nil {
		return nil, err
	}
	w.sweepConversions(ctx)
	fmt.Fprintf(w.std.Err, "looking at the guest of %s; this takes a minute or two\n", p.VMName)
	c := &convert.Converter{Env: env, Folder: convertFolder(w.cfg), Tags: w.cfg.Transfer.Tags, Wishes: wishesOf(w.cfg), DryRun: dry}
	rep, err := c.Run(ctx, p)
	return &convertResult{rep}, err
}

// convertResult is the result of convert.
type convertResult struct{ convert.Report }

func (r *convertResult) Text(w io.Writer) {
	fmt.Fprintf(w, "%s, point %s", r.VMName, r.Point)
	if r.Plan.Guest != "" {
		fmt.Fprintf(w, ": %s", r.Plan.Guest)
	}
	fmt.Fprintln(w)
	switch {
	case r.Plan.Refused != "":
		fmt.Fprintf(w, "  REFUSED: %s\n", r.Plan.Refused)
	case r.Found:
		fmt.Fprintf(w, "  an earlier conversion serves: %s\n", r.Snapshot)
	case r.Plan.Ready:
		fmt.Fprintln(w, "  the guest is ready for EC2 as it is")
	}
	for _, c := range r.Plan.Changes {
		fmt.Fprintf(w, "  change: %s\n", c.What)
	}
	for _, d := range r.Plan.Doubts {
		fmt.Fprintf(w, "  doubt: %s\n", d)
	}
	if r.Base.Bytes > 0 {
		fmt.Fprintf(w, "  read: %s in %s\n", bytesText(r.Base.Bytes), plural(r.Base.Blocks, "block"))
	}
	if r.Put != nil && r.Snapshot != "" {
		fmt.Fprintf(w, "  put: %s into %s, a child of %s\n", plural(r.Put.Put, "block"), r.Snapshot, r.Boot)
	}
	if r.DryRun {
		fmt.Fprintln(w, "Nothing was changed.")
		return
	}
	fmt.Fprintf(w, "  took: %s to look, %s to change, %s to put\n", tookText(r.LookTook), tookText(r.ChangeTook), tookText(r.PutTook))
}
