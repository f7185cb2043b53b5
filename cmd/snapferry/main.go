package main

import (
	"os"
	"runtime/debug"
	_ "time/tzdata" // policies name time zones, and an appliance may have no zoneinfo

	"golang.org/x/term"

	"snapferry/cmd/internal/cli"
)

func main() { os.Exit(run()) }

// gcPercent: most of the live heap is block buffers, which the collector need
// not look into, so that collecting often is cheap; at the default of 100 the
// garbage of requests would be let grow to as much as all buffers take.
const gcPercent = 25

func run() int {
	harden()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	stop := newInterrupts(os.Stderr, os.Exit)
	ctx := stop.watch()
	return newProgram(stop).Main(ctx, streams(), os.Args[1:])
}

// newProgram is the table of verbs.
func newProgram(stop *interrupts) *cli.Program {
	p := &cli.Program{
		Name:    "snapferry",
		Short:   "snapferry replicates vSphere virtual machines into EBS snapshots without an agent.",
		Notes:   exitNotes,
		Explain: stop.explain,
	}
	p.Commands = []*cli.Command{
		vmsCommand(), syncCommand(stop), pointsCommand(), verifyCommand(stop), restoreCommand(stop),
		pruneCommand(), cleanCommand(),
		testCommand(stop), cutoverCommand(stop), revertCommand(stop), finalizeCommand(stop), disconnectCommand(stop),
		convertCommand(), launchesCommand(), launchSettingsCommand(),
		runCommand(), statusCommand(), pauseCommand(), resumeCommand(), cancelCommand(), runsCommand(), logCommand(),
		wavesCommand(), policiesCommand(), assignCommand(), markCommand(), exportCommand(), importCommand(),
		tokenCommand(), migrateCommand(), versionCommand(), cli.HelpCommand(p),
	}
	return p
}

func streams() cli.Streams {
	terminal := term.IsTerminal(int(os.Stderr.Fd()))
	// A serial console has no size; bars need one.
	width, _, err := term.GetSize(int(os.Stderr.Fd()))
	return cli.Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		AskTerminal:  terminal && term.IsTerminal(int(os.Stdin.Fd())),
		ShowTerminal: terminal && err == nil && width >= leastWidth,
	}
}

// leastWidth holds a bar and the percentage behind it.
const leastWidth = 60
