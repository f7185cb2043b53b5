package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
)

const runLong = `Runs on the appliance until it is stopped: keeps every VM that a policy matches
current, removes what crashes left, and serves the API, the console and the
metrics.

Policies, limits, the database and who may log in are in the settings file;
docs/service.md describes them. Without a token in the settings the console can
only be reached by the command line on this machine.

SIGTERM ends it in order: running cycles are wound up, what they uploaded is
kept, and the next start (or another appliance) goes on with it.`

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Short: "run as the service: schedule, API, console, metrics", Long: runLong,
		Examples: []string{"snapferry run", "snapferry run --config /etc/snapferry/config.yaml --listen 127.0.0.1:8980"},
		New: func(own, fs *pflag.FlagSet) cli.Run {
			s := newSettings(fs)
			s.text(own, "listen", "`address` of API and console, or none (default 127.0.0.1:8980)", func(c *config.Config) *string { return &c.Server.Listen })
			s.text(own, "database", "`URL` of the database: sqlite:PATH or postgres://USER@HOST/NAME (default: SQLite in the state folder)", func(c *config.Config) *string { return &c.Database.URL })
			s.limit(own)
			s.state(fs)
			s.vcenter(fs)
			s.appliance(fs)
			s.aws(fs)
			return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
				if len(args) > 0 {
					return nil, cli.Usagef("run takes no VM: policies in the settings say which")
				}
				w, err := newWire(s, std)
				if err != nil {
					return nil, err
				}
				d, err := newDaemon(ctx, w, std)
				if err != nil {
					return nil, err
				}
				defer d.close()
				return nil, d.run(ctx)
			}
		},
	}
}

// exitFenced is the status of a daemon whose runs another appliance has taken
// over: it must not write another block. The service manager starts it again.
const exitFenced = 3

// fenced ends the process where it stands.
func (d *daemon) fenced(err error) {
	d.log.Error("another appliance has taken over: ending at once", "error", err)
	fmt.Fprintln(os.Stderr, "snapferry: another appliance has taken over what this one was doing:", err)
	os.Exit(exitFenced)
}

// errNoVCenter refuses a service without its main part.
var errNoVCenter = errors.New("the settings name no vCenter: set vcenter.url, or GOVC_URL")
