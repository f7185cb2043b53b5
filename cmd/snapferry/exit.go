package main

import (
	"slices"
	"strings"

	"snapferry/cmd/internal/cli"
	"snapferry/transfer"
)

// The exit statuses, all of them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitAlarm       = 3
	exitProof       = 4
	exitRetry       = 75  // EX_TEMPFAIL of sysexits.h
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

const exitNotes = `Exit status:
  0    done
  1    failed, and will fail again until something is changed
  2    wrong usage: a flag, an argument or a setting
  3    done, but something is left that needs a hand (see the alarms)
  4    wrong bytes: what was read back is not what was written
  75   failed for now; try again later
  130  interrupted, and cleaned up

With --json the result is one JSON document on stdout; an error is in it as
"error", "hint" and "kind". "snapferry help COMMAND" shows flags and examples.`

// kindUsage and kindProof are the kinds that only the command line knows.
const (
	kindUsage = "usage"
	kindProof = "proof"
)

// explain says what err means for a person and for the exit status.
func (i *interrupts) explain(err error) cli.Problem {
	p := cli.Problem{Error: err.Error(), Hint: strings.Join(hints(err), "\n")}
	if cli.IsUsage(err) {
		p.Kind, p.Exit = kindUsage, exitUsage
		return p
	}
	kinds := kindsOf(err)
	switch {
	case slices.Contains(kinds, transfer.Canceled) && i.stopped.Load():
		p.Kind, p.Exit = transfer.Canceled.String(), exitInterrupted
	case slices.Contains(kinds, transfer.Permanent), slices.Contains(kinds, transfer.BaselineLost):
		p.Kind, p.Exit = transfer.Permanent.String(), exitFailed
	default: // Retry, or a deadline of our own that nobody asked for
		p.Kind, p.Exit = transfer.Retry.String(), exitRetry
	}
	return p
}

// kindsOf is transfer.KindOf for each of the errors that were joined: disks and
// VMs fail side by side, and the worst decides.
func kindsOf(err error) []transfer.Kind {
	return collect(err, func(err error) []transfer.Kind { return []transfer.Kind{transfer.KindOf(err)} })
}

// hints are the distinct hints of the errors that were joined.
func hints(err error) []string {
	all := collect(err, func(err error) []string {
		if h := transfer.HintOf(err); h != "" {
			return []string{h}
		}
		return nil
	})
	var distinct []string
	for _, h := range all {
		if !slices.Contains(distinct, h) {
			distinct = append(distinct, h)
		}
	}
	return distinct
}

// collect calls f for err, or, where err joins several without having been
// classified itself, for each of those.
func collect[T any](err error, f func(error) []T) []T {
	for e := err; e != nil; {
		switch u := e.(type) {
		case *transfer.Error:
			return f(e)
		case interface{ Unwrap() []error }:
			var all []T
			for _, part := range u.Unwrap() {
				all = append(all, collect(part, f)...)
			}
			return all
		case interface{ Unwrap() error }:
			e = u.Unwrap()
		default:
			return f(err)
		}
	}
	return f(err)
}
