package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/cmd/internal/console"
	"snapferry/cmd/internal/console/web"
	"snapferry/cmd/internal/logging"
	"snapferry/cmd/internal/metrics"
	"snapferry/cmd/internal/webhook"
	"snapferry/launch/convert"
	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/schedule/service"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

// daemon is snapferry run: the engine, and those that ask it, are told by it
// and look at it.
type daemon struct {
	cfg     config.Config
	id      transfer.ApplianceID
	log     *slog.Logger
	db      *store.DB
	work    *work
	engine  *engine.Engine
	desk    *service.Service
	server  *console.Server
	hooks   *webhook.Sender
	metrics *metrics.Metrics
	local   string      // the token of the state folder's socket
	leads   atomic.Bool // this appliance sends the webhooks
}

// newDaemon opens the database and builds the rest; it asks neither vCenter nor
// AWS.
func newDaemon(ctx context.Context, w *wire, std cli.Streams) (*daemon, error) {
	cfg := w.cfg
	if cfg.VCenter.URL == "" {
		return nil, cli.Usage(errNoVCenter)
	}
	if err := checkLaunch(cfg.Launch); err != nil {
		return nil, cli.Usage(fmt.Errorf("settings, launch: %w", err))
	}
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return nil, fmt.Errorf("make state folder: %w", err)
	}
	id, err := applianceID(cfg.Appliance.ID, cfg.StateDir)
	if err != nil {
		return nil, err
	}
	d := &daemon{cfg: cfg, id: id, log: logging.New(std.Err, logging.Options{Format: cfg.Log.Format, Level: cfg.Log.Level})}
	slog.SetDefault(d.log)
	if d.db, err = store.Open(ctx, cfg.Database.URL, store.Options{Password: cfg.Database.Password.Reveal()}); err != nil {
		return nil, err
	}
	if err := d.assemble(ctx, w); err != nil {
		d.db.Close()
		return nil, err
	}
	return d, nil
}

func (d *daemon) assemble(ctx context.Context, w *wire) error {
	if err := d.db.SetFilePolicies(ctx, d.cfg.Policies); err != nil {
		return err
	}
	if err := d.db.SetLimits(ctx, d.cfg.Limits); err != nil {
		return err
	}
	// The metrics come first: the engine may carry runs on as soon as it is made.
	seen := service.New(service.Config{Store: d.db, Launches: d.db})
	d.metrics = metrics.New(metrics.Config{
		Source: seen, Launches: seen, Provings: d.db.Provings, SQL: d.db.SQL(), PerVM: true,
		Version: version, Appliance: string(d.id), Ready: func() error { return d.engine.Ready() },
	})
	w.traceVCenter, w.traceAWS = d.observeVCenter, d.observeAWS
	d.work = newWork(w, d.id, d.log, d.db.Appliances)
	d.desk = service.New(service.Config{
		Store: d.db, Kick: func() { d.engine.Kick() }, Settings: describe(d.cfg), Reuse: listReuse,
		Launches: d.db, Preview: d.preview, CheckLaunch: checkLaunch, ProveCost: proveCost,
	})
	d.sweepConversions()
	var err error
	d.engine, err = engine.New(ctx, engine.Config{
		Store: watched{d.db, d.metrics}, SQL: d.db.SQL(), Pool: d.db.Pool(), Launches: watchedLaunches{d.db, d.metrics}, Launcher: launchWork{d.work},
		Appliance: d.id, Version: version, Work: d.work, Log: d.log, Keep: d.cfg.History.Keep, Fenced: d.fenced,
	})
	if err != nil {
		return err
	}
	if err := d.assembleHooks(); err != nil {
		return err
	}
	return d.assembleConsole()
}

// sweepConversions removes what a crash left of conversions: their overlays,
// and the programs that worked on them.
func (d *daemon) sweepConversions() {
	if _, err := convert.Sweep(convertFolder(d.cfg), false); err != nil {
		d.log.Warn("clean up after conversions that a crash ended", "error", err)
	}
}

// forecastJobs is how many earlier launches a forecast is made from.
const forecastJobs = 50

// preview says what a launch would do.
func (d *daemon) preview(ctx context.Context, vm schedule.VM, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error) {
	open, err := d.db.LaunchJobs(ctx, schedule.LaunchJobQuery{VM: &vm.ID, Open: true}, true)
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	earlier, err := d.db.LaunchJobs(ctx, schedule.LaunchJobQuery{Limit: forecastJobs}, true)
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	detail, err := d.desk.VM(ctx, vm.ID)
	if err != nil {
		return schedule.LaunchPreview{}, err
	}
	return launchWork{d.work}.Preview(ctx, vm, open, earlier, action, wish, detail.Backlog)
}

// listReuse lets the pages that many browsers look at share one reading.
const listReuse = 500 * time.Millisecond

func (d *daemon) assembleConsole() error {
	tokens, err := consoleTokens(d.cfg.Server.Tokens)
	if err != nil {
		return err
	}
	token, digest := newToken()
	d.local = token
	d.server = console.New(console.Config{
		Backend: d.desk, Launches: d.desk, Tokens: tokens, Local: console.Token{Name: "local", Role: schedule.RoleOperator, SHA256: digest},
		Ready: d.engine.Ready, Metrics: d.metrics.Handler(), OpenMetrics: d.cfg.Server.OpenMetrics,
		Web: web.New(web.Config{
			Backend: d.desk, Launches: d.desk, Version: version, Log: d.log,
			Actor: func(r *http.Request) (schedule.Actor, bool) { return console.ActorOf(r.Context()) },
		}),
		Version: version, Log: d.log,
	})
	return nil
}

// consoleTokens are the settings' in the console's form.
func consoleTokens(in []config.Token) ([]console.Token, error) {
	var out []console.Token
	for _, t := range in {
		sum, err := hex.DecodeString(t.SHA256)
		if err != nil {
			return nil, fmt.Errorf("token %s: %w", t.Name, err)
		}
		out = append(out, console.Token{Name: t.Name, Role: t.Role, SHA256: [32]byte(sum)})
	}
	return out, nil
}

// run serves until ctx ends, and then until everything is wound up.
func (d *daemon) run(ctx context.Context) error {
	listeners, err := d.listen()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		d.serve(ctx, g, l)
	}
	g.Go(func() error { return d.engine.Run(ctx) })
	g.Go(func() error { return d.hooks.Run(ctx) })
	g.Go(func() error { return d.followLeader(ctx) })
	g.Go(func() error { return d.shareRates(ctx) })
	g.Go(func() error { return d.watchdog(ctx) })
	if _, err := systemd.SdNotify(false, systemd.SdNotifyReady); err != nil {
		d.log.Debug("tell the service manager", "error", err)
	}
	err = g.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // asked to stop, and did
	}
	return err
}

// listener is one that the console is served on.
type listener struct {
	net.Listener
	handler http.Handler
	name    string
}

// listen opens the socket of the state folder, and the port.
func (d *daemon) listen() ([]listener, error) {
	path := socketFile(d.cfg)
	local, err := console.Listen("unix:"+path, console.ListenOptions{})
	if err != nil {
		return nil, transfer.Fail(transfer.Permanent, "serve this machine", err, "Stop the daemon that runs on this state folder, or give this one its own stateDir.")
	}
	all := []listener{{local, d.trusting(), path}}
	if d.cfg.Server.Listen == config.NoListen {
		return all, nil
	}
	s := d.cfg.Server
	open, err := console.Listen(s.Listen, console.ListenOptions{Cert: s.Cert, Key: s.Key, Log: d.log})
	if err != nil {
		return nil, errors.Join(err, local.Close())
	}
	scheme := "http"
	if s.Cert != "" {
		scheme = "https"
	}
	return append(all, listener{open, d.metrics.Requests(d.server), scheme + "://" + open.Addr().String()}), nil
}

// trusting lets in whoever could open the socket: its mode is the check, and
// who passes it may read the database beside it, too.
func (d *daemon) trusting() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", "Bearer "+d.local)
		d.server.ServeHTTP(w, r)
	})
}

// farewellTime is how long requests that are under way may take at the end.
const farewellTime = 5 * time.Second

func (d *daemon) serve(ctx context.Context, g *errgroup.Group, l listener) {
	h := d.server.HTTP()
	h.Handler = l.handler
	d.log.Info("listening", "at", l.name)
	g.Go(func() error {
		if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.name, err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
		defer cancel()
		return h.Shutdown(last)
	})
}

// sharePeriod is how often the appliances of an account are counted.
const sharePeriod = 30 * time.Second

// shareRates divides the account's request rates among the appliances that use
// it.
func (d *daemon) shareRates(ctx context.Context) error {
	every := time.NewTicker(sharePeriod)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		}
		all, err := d.db.Appliances(ctx)
		if err != nil {
			d.log.Warn("count the appliances", "error", err)
			continue
		}
		puts, err := d.work.share(ctx, peers(all, d.id), d.cfg.Limits.PutsPerSecond)
		if err != nil {
			d.log.Debug("share the account's rates", "error", err) // the cycles find that out, and say so
			continue
		}
		d.metrics.SetPutLimit(puts)
	}
}

// peers is how many living appliances use the same account and region as this
// one, itself included.
func peers(all []schedule.Appliance, id transfer.ApplianceID) int {
	account, n := "", 0
	for _, a := range all {
		if a.ID == id {
			account = a.Account
		}
	}
	for _, a := range all {
		if a.Alive && a.Account == account {
			n++
		}
	}
	return max(1, n)
}

// watchdog tells the service manager that the planner still ticks; when it does
// not, the manager starts the daemon again.
func (d *daemon) watchdog(ctx context.Context) error {
	period, err := systemd.SdWatchdogEnabled(false)
	if err != nil || period == 0 {
		return nil
	}
	every := time.NewTicker(period / 2)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
			if d.engine.Ready() == nil {
				_, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog)
			}
		}
	}
}

func (d *daemon) close() {
	ctx, cancel := context.WithTimeout(context.Background(), logoutTime)
	defer cancel()
	d.work.close(ctx)
	d.db.Close()
}
