package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/schedule"
)

func runsCommand() *cli.Command {
	return &cli.Command{
		Name: "runs", Args: "[VM]", Short: "the cycles that the service ran, newest first",
		Examples: []string{"snapferry runs", "snapferry runs app01 --state failed"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			var q schedule.RunQuery
			own.StringVar((*string)(&q.State), "state", "", "only runs in this `state`: queued, running, done, failed, cancelled")
			own.BoolVar(&q.Active, "active", false, "only runs that have not ended")
			own.IntVar(&q.Limit, "limit", 50, "at most `n` of them")
			s, r := deskFlags(fs)
			return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
				if len(args) > 1 {
					return nil, cli.Usagef("runs takes one VM, or none for all")
				}
				if len(args) == 1 {
					vms, err := d.Resolve(ctx, args)
					if err != nil {
						return nil, err
					}
					q.VM = &vms[0]
				}
				runs, err := d.Runs(ctx, q)
				return runList{runs}, err
			})
		},
	}
}

type runList struct {
	Runs []schedule.Run `json:"runs"`
}

func (l runList) Text(w io.Writer) {
	if len(l.Runs) == 0 {
		fmt.Fprintln(w, "There is no such run.")
	}
	runTable(w, l.Runs)
}

func runTable(w io.Writer, runs []schedule.Run) {
	if len(runs) == 0 {
		return
	}
	t := newTable(">RUN", "VM", "STATE", "WHY", "BEGAN", ">TOOK", ">READ", ">PUT", "RESULT")
	for _, r := range runs {
		var read, put int64
		for _, d := range r.Report.Disks {
			read, put = read+d.BytesRead, put+d.Put
		}
		end := r.Ended
		if end.IsZero() {
			end = time.Now()
		}
		took := "-"
		if !r.Started.IsZero() {
			took = tookText(end.Sub(r.Started))
		}
		t.row(r.ID, r.VMName, r.State, r.Trigger, timeText(r.Started), took, bytesText(read), put, runResult(r))
	}
	t.write(w, "  ")
}

func runResult(r schedule.Run) string {
	switch {
	case r.Error != "":
		return string(r.Reason) + ": " + r.Error
	case r.Report.Point != "":
		return string(r.Report.Outcome) + " " + string(r.Report.Point)
	case !r.State.Ended():
		return orDash(string(r.Report.Step))
	}
	return "-"
}

func logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Args: "RUN", Short: "the log of a run", Long: "RUN is a number that runs and status show.",
		Examples: []string{"snapferry log 42", "snapferry log 42 --follow"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			follow := own.BoolP("follow", "f", false, "go on until the run ends")
			s, r := deskFlags(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				return atDesk(s, r, func(ctx context.Context, d *desk, args []string) (cli.Value, error) {
					if len(args) != 1 {
						return nil, cli.Usagef("log takes the number of one run; snapferry runs lists them")
					}
					id, err := strconv.ParseInt(args[0], 10, 64)
					if err != nil {
						return nil, cli.Usagef("%q is not the number of a run", args[0])
					}
					if *follow {
						return nil, followLog(ctx, d, id, std.Out)
					}
					lines, err := readLog(ctx, d, id)
					return logLines{lines}, err
				})(ctx, std, args)
			}
		},
	}
}

// logPause is how often a log that is followed is asked for.
const logPause = time.Second

// readLog reads the whole log of a run.
func readLog(ctx context.Context, d *desk, run int64) ([]schedule.LogLine, error) {
	lines := []schedule.LogLine{}
	if _, err := d.Run(ctx, run); err != nil {
		return nil, err
	}
	for {
		more, err := d.RunLog(ctx, run, lastSeq(lines), pageSize)
		if err != nil {
			return lines, err
		}
		lines = append(lines, more...)
		if len(more) < pageSize {
			return lines, nil
		}
	}
}

func lastSeq(lines []schedule.LogLine) int64 {
	if len(lines) == 0 {
		return 0
	}
	return lines[len(lines)-1].Seq
}

func followLog(ctx context.Context, d *desk, id int64, w io.Writer) error {
	var last int64
	for {
		run, err := d.Run(ctx, id) // before the lines: none of an ended run is missed
		if err != nil {
			return err
		}
		lines, err := d.RunLog(ctx, id, last, pageSize)
		if err != nil {
			return err
		}
		logLines{lines}.Text(w)
		last = max(last, lastSeq(lines))
		if run.State.Ended() && len(lines) < pageSize {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(logPause):
		}
	}
}

type logLines struct {
	Lines []schedule.LogLine `json:"lines"`
}

func (l logLines) Text(w io.Writer) {
	for _, line := range l.Lines {
		fmt.Fprintf(w, "%s %-5s %s\n", timeText(line.At), line.Level, line.Text)
	}
}
