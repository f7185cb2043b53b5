package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"snapferry/cmd/internal/cli"
	"snapferry/launch"
	"snapferry/schedule"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// alone does launches in this process, where no service runs.
type alone struct {
	*wire
	stop *interrupts
	o    launchOptions
	show *display
	env  transfer.Env
	here vsphere.Reader // nil away from the appliance
	book launchBook
}

// launchAlone does the action on each VM, all at once.
func (w *wire) launchAlone(ctx context.Context, stop *interrupts, o launchOptions, names []string) (cli.Value, error) {
	a, err := w.newAlone(ctx, stop, o)
	if err != nil {
		return nil, err
	}
	ks := make([]*launching, len(names))
	for i, name := range names {
		if ks[i], err = a.target(ctx, name); err != nil {
			return nil, err
		}
	}
	if err := a.lookFirst(ctx, ks); err != nil {
		return nil, err
	}
	if o.plan {
		return a.plans(ctx, ks)
	}
	if len(ks) > 1 { // as one: nothing begins where one of them would be refused
		list, err := a.plans(ctx, ks)
		if err == nil {
			err = list.problem()
		}
		if err != nil {
			return list, err
		}
	}
	if err := ask(ctx, w.std, o.question(namesOf(ks)), o.yes, string(o.action), "Nothing was done. --yes goes on without asking."); err != nil {
		return nil, err
	}
	defer stop.through(a.show.writer(w.std.Err))()
	result := &launchResult{Action: o.action, Launches: make([]launch.Job, len(ks))}
	errs := make([]error, len(ks))
	var g errgroup.Group
	g.SetLimit(launchesAtOnce)
	for i, k := range ks {
		g.Go(func() error {
			result.Launches[i], errs[i] = a.one(ctx, k)
			return nil
		})
	}
	_ = g.Wait() // the functions return nil
	a.show.close()
	return result, errors.Join(errs...)
}

// launchesAtOnce: each may run a conversion's virtual machine of a GiB.
const launchesAtOnce = 4

func namesOf(ks []*launching) []string {
	var names []string
	for _, k := range ks {
		names = append(names, k.name)
	}
	return names
}

func (w *wire) newAlone(ctx context.Context, stop *interrupts, o launchOptions) (*alone, error) {
	if err := w.refuseBeside(o); err != nil {
		return nil, err
	}
	if err := checkLaunch(w.cfg.Launch); err != nil {
		return nil, cli.Usage(err)
	}
	if err := checkLaunch(o.wish.Settings); err != nil {
		return nil, cli.Usage(err)
	}
	show, err := newDisplay(o.progress, w.std)
	if err != nil {
		return nil, err
	}
	a := &alone{wire: w, stop: stop, o: o, show: show, book: bookOf(w.cfg)}
	if a.env, err = w.env(ctx); err != nil {
		return nil, err
	}
	w.sweepConversions(ctx)
	w.endKnownOverdue(ctx)
	if w.cfg.VCenter.URL == "" {
		if o.action == schedule.LaunchCutover || o.action == schedule.LaunchRevert || o.wish.StopTracking {
			return nil, cli.Usage(errNoVCenter)
		}
		return a, nil
	}
	if _, err := w.vcenter(ctx); err != nil {
		if o.action == schedule.LaunchTest || o.action == schedule.LaunchTestDone {
			fmt.Fprintf(w.std.Err, "vCenter does not answer: the launch goes on with what AWS knows (%v)\n", err)
			return a, nil
		}
		return nil, err
	}
	if a.here, err = w.hotadd(ctx); err != nil && o.action == schedule.LaunchCutover {
		return nil, err
	}
	return a, nil
}

// refuseBeside keeps launches in one book: where a service was set up it is the
// service's.
func (w *wire) refuseBeside(o launchOptions) error {
	path, sqlite := strings.CutPrefix(w.cfg.Database.URL, "sqlite:")
	if _, err := os.Stat(path); o.alone || o.plan || sqlite && err != nil {
		return nil
	}
	return transfer.Fail(transfer.Permanent, string(o.action), errors.New("a service was set up on this machine, and it does not run: its launches are in its database"),
		"Start it with \"snapferry run\", or add --alone to go by what AWS shows.")
}

// target finds the VM that a person means: in vCenter, or among the points.
func (a *alone) target(ctx context.Context, name string) (*launching, error) {
	k := &launching{cfg: a.cfg, store: a.aws, env: a.env, save: a.book.save, vc: a.vc}
	k.tell = func(j launch.Job, e launch.Event) { a.show.tell(a.std, j, e) }
	if a.vc != nil {
		vm, err := a.vc.Find(ctx, name)
		if err == nil {
			k.id, k.name = vm.ID, vm.Name
			k.sync = func(ctx context.Context, why string) (transfer.Report, error) { return a.replicate(ctx, k) }
			k.clean = func(ctx context.Context) error { return a.reap(ctx, k.id) }
			return k, nil
		}
		if a.o.action == schedule.LaunchCutover || a.o.action == schedule.LaunchRevert {
			return nil, err
		}
	}
	points, _, err := a.notedPoints(ctx)
	if points == nil && err != nil {
		return nil, err
	}
	of, err := pointsOf(points, name)
	if err != nil {
		return nil, err
	}
	k.id, k.name, k.vc = of[0].VM, of[0].VMName, nil
	k.clean = func(context.Context) error { return nil } // the VM is gone
	return k, nil
}

// replicate makes a cycle in this process.
func (a *alone) replicate(ctx context.Context, k *launching) (transfer.Report, error) {
	src := namedSource{name: k.name, id: k.id, source: a.vc.Source(k.id, vsphere.Options{Reader: a.here, MinFree: a.minFree()})}
	a.reapBefore(ctx, a.env, a.here, []namedSource{src})
	return a.cycle(ctx, a.stop, a.show, syncOptions{parallel: launchesAtOnce}, a.env, src)
}

func (a *alone) reap(ctx context.Context, vm transfer.VMID) error {
	here, _ := a.here.(*hotadd.Appliance)
	r := a.reaper(a.vc, a.aws, a.env.Appliance, here)
	r.VMs = []transfer.VMID{vm}
	_, err := r.Run(ctx, false)
	return err
}

// lookFirst ends an action early where there is nothing to do it to.
func (a *alone) lookFirst(ctx context.Context, ks []*launching) error {
	if a.o.action == schedule.LaunchTest || a.o.action == schedule.LaunchCutover {
		return nil
	}
	p := launch.ForCutover
	if a.o.action == schedule.LaunchTestDone {
		p = launch.ForTest
	}
	for _, k := range ks {
		known, err := a.book.open(k.id)
		if err != nil {
			return err
		}
		l, err := k.launcher()
		if err != nil {
			return err
		}
		if _, err := k.openJob(ctx, l, p, known); err != nil {
			return err
		}
	}
	return nil
}

// one does the action on one VM, which no other process launches meanwhile.
func (a *alone) one(ctx context.Context, k *launching) (launch.Job, error) {
	unlock, err := a.book.lock(k.id)
	if err != nil {
		return launch.Job{}, fmt.Errorf("%s %s: %w", a.o.action, k.name, err)
	}
	defer unlock()
	known, err := a.book.open(k.id)
	if err != nil {
		return launch.Job{}, err
	}
	return k.act(ctx, a.o.action, a.o.wish, known, "")
}

// errLaunching is the cause where another process has the VM's launches.
var errLaunching = errors.New("another process launches this VM")

// lock is held as long as a process works on a VM's launches; it ends with it.
func (b launchBook) lock(vm transfer.VMID) (unlock func(), err error) {
	if err := os.MkdirAll(string(b), 0o700); err != nil {
		return nil, fmt.Errorf("make folder of launches: %w", err)
	}
	name := strings.Map(func(r rune) rune {
		if r == '/' || r == os.PathSeparator {
			return '-'
		}
		return r
	}, vm.String())
	f, err := os.OpenFile(filepath.Join(string(b), name+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the launches of the VM: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, transfer.Fail(transfer.Retry, "lock the launches of the VM", errLaunching, "Wait until it has ended.")
	}
	return func() { _ = f.Close() }, nil // nothing is written to it
}

// plans previews the action for every VM.
func (a *alone) plans(ctx context.Context, ks []*launching) (*launchPlans, error) {
	list := &launchPlans{Plans: make([]schedule.LaunchPreview, len(ks))}
	earlier, err := a.earlier()
	if err != nil {
		return nil, err
	}
	in := launch.ForecastInput{Pending: -1, Jobs: earlier} // only the service knows how fast a VM changes
	if m, ok := a.lastRate(); ok {
		in.Rate = m.BytesPerSecond
	}
	for i, k := range ks {
		known, err := a.book.open(k.id)
		if err != nil {
			return nil, err
		}
		if list.Plans[i], err = k.preview(ctx, a.o.action, a.o.wish, known, in); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// earlier are all launches that this machine knows, for forecasts.
func (a *alone) earlier() ([]launch.Job, error) {
	rows, err := a.book.jobs(nil)
	if err != nil {
		return nil, err
	}
	return launchJobs(rows)
}
