package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

const usage = `snapferry-lab is a simulated vSphere and AWS in one process.

Usage:
  snapferry-lab run  [--dir DIR]          serve them until interrupted
  snapferry-lab demo [--snapferry FILE]   replicate, restore and prove a VM
  snapferry-lab console [--snapferry FILE] [--vms N]   the service with its console, on VMs that write

Flags:
`

type options struct {
	dir       string // folder for everything on disk
	keep      bool   // leave the folder
	snapferry string // the binary that the demo runs
	vms       int    // how many more VMs the console has
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:]); {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintf(os.Stderr, "snapferry-lab: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	var o options
	fs := pflag.NewFlagSet("snapferry-lab", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.StringVar(&o.dir, "dir", "", "`folder` for everything on disk (default: a temporary one, removed at the end)")
	fs.BoolVar(&o.keep, "keep", false, "leave the temporary folder")
	fs.StringVar(&o.snapferry, "snapferry", "snapferry", "the snapferry `program` that demo and console run")
	fs.IntVar(&o.vms, "vms", 20, "so many small VMs more, for console")
	fs.Usage = func() { fmt.Printf("%s%s", usage, fs.FlagUsages()) }
	if err := fs.Parse(args); err != nil {
		return err
	}
	var verb func(context.Context, options) error
	switch fs.Arg(0) {
	case "run":
		verb = serve
	case "demo":
		verb = demo
	case "console":
		verb = serveConsole
	default:
		fs.Usage()
		return fmt.Errorf("%q is none of run, demo and console", fs.Arg(0))
	}
	if o.dir == "" {
		dir, err := os.MkdirTemp("", "snapferry-lab-")
		if err != nil {
			return fmt.Errorf("make lab folder: %w", err)
		}
		o.dir = dir
		if !o.keep {
			defer os.RemoveAll(dir)
		}
	} else if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return fmt.Errorf("make lab folder: %w", err)
	}
	return verb(ctx, o)
}
