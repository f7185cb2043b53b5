package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/cmd/internal/console"
	"snapferry/schedule"
	"snapferry/schedule/service"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

// desk is where verbs about the service ask: the daemon that --server names,
// the one that runs on this machine's state folder, or, where none runs, its
// database.
type desk struct {
	console.Backend
	console.LaunchBackend
	alone bool // no daemon: what is written waits for one
	by    schedule.Actor
	close func()
}

// remote is how a daemon elsewhere is reached.
type remote struct {
	server    string
	tokenFile string
	caCerts   string
}

func (r *remote) flags(fs *pflag.FlagSet) {
	fs.StringVar(&r.server, "server", "", "`URL` of the daemon's API (SNAPFERRY_SERVER; default: this machine's own)")
	fs.StringVar(&r.tokenFile, "token-file", "", "`file` with the token for --server (or SNAPFERRY_TOKEN)")
	fs.StringVar(&r.caCerts, "server-ca-certs", "", "PEM `file` with the authorities that vouch for --server")
}

// named reports whether a daemon elsewhere is meant.
func (r remote) named() bool { return r.server != "" || os.Getenv("SNAPFERRY_SERVER") != "" }

// socketFile is where the daemon listens for its own machine: who may open it
// may also read the database beside it.
func socketFile(cfg config.Config) string { return filepath.Join(cfg.StateDir, "snapferry.sock") }

// dialTime is how long the daemon's socket may take to answer: it is local.
const dialTime = 2 * time.Second

// openDesk finds who answers.
func openDesk(ctx context.Context, cfg config.Config, r remote) (*desk, error) {
	if r.server == "" {
		r.server = os.Getenv("SNAPFERRY_SERVER")
	}
	if r.server != "" {
		return r.open()
	}
	by := schedule.Actor{Name: userName(), Role: schedule.RoleOperator}
	if daemonRuns(cfg) {
		c, err := console.NewClient(console.ClientConfig{Address: "unix:" + socketFile(cfg)})
		return newDesk(c, by), err
	}
	if strings.HasPrefix(cfg.Database.URL, "sqlite:") {
		if _, err := os.Stat(strings.TrimPrefix(cfg.Database.URL, "sqlite:")); err != nil {
			return nil, transfer.Fail(transfer.Permanent, "ask the service", errors.New("no daemon runs on this machine and there is no database yet"),
				"Start it with \"snapferry run\", or name another with --server URL.")
		}
	}
	db, err := store.Open(ctx, cfg.Database.URL, store.Options{Password: cfg.Database.Password.Reveal()})
	if err != nil {
		return nil, err
	}
	svc := service.New(service.Config{Store: db, Now: time.Now, Settings: describe(cfg), Launches: db, CheckLaunch: checkLaunch, ProveCost: proveCost})
	d := newDesk(svc, by)
	d.alone, d.close = true, db.Close
	return d, nil
}

// daemonRuns reports whether one answers on the state folder's socket.
func daemonRuns(cfg config.Config) bool {
	conn, err := net.DialTimeout("unix", socketFile(cfg), dialTime)
	if err != nil {
		return false // none, or one that died and left its socket
	}
	return conn.Close() == nil
}

func (r remote) open() (*desk, error) {
	token := os.Getenv("SNAPFERRY_TOKEN")
	if r.tokenFile != "" {
		text, err := os.ReadFile(r.tokenFile)
		if err != nil {
			return nil, cli.Usage(fmt.Errorf("read token: %w", err))
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		return nil, cli.Usagef("--server wants a token: give --token-file or SNAPFERRY_TOKEN; \"snapferry token\" makes one")
	}
	c, err := console.NewClient(console.ClientConfig{Address: r.server, Token: token, CACerts: r.caCerts})
	if err != nil {
		return nil, cli.Usage(err)
	}
	return newDesk(c, schedule.Actor{}), nil
}

// answerer is a service, near or far.
type answerer interface {
	console.Backend
	console.LaunchBackend
}

func newDesk(a answerer, by schedule.Actor) *desk {
	return &desk{Backend: a, LaunchBackend: a, by: by, close: func() {}}
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint(os.Getuid())
}

// atDesk makes the run function of a verb that asks the service.
func atDesk(s *settings, r *remote, do func(ctx context.Context, d *desk, args []string) (cli.Value, error)) cli.Run {
	return func(ctx context.Context, std cli.Streams, args []string) (cli.Value, error) {
		cfg, err := s.load(std)
		if err != nil {
			return nil, err
		}
		d, err := openDesk(ctx, cfg, *r)
		if err != nil {
			return nil, err
		}
		defer d.close()
		v, err := do(ctx, d, args)
		return v, serviceError(err)
	}
}

// serviceError gives what the service refuses its place among exit statuses.
func serviceError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, schedule.ErrInvalid):
		return cli.Usage(err)
	}
	return err
}

// deskFlags declares what every verb of the service has.
func deskFlags(fs *pflag.FlagSet) (*settings, *remote) {
	s, r := newSettings(fs), &remote{}
	s.state(fs)
	r.flags(fs)
	return s, r
}
