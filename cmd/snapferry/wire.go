package main

import (
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"snapferry/cmd/internal/cli"
	"snapferry/cmd/internal/config"
	"snapferry/ebs"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// wire joins the rooms: settings become clients when a verb first needs them,
// and clients become a transfer.Env. Nothing else in the program knows both
// sides. It is used by one goroutine until the cycles start.
type wire struct {
	cfg config.Config
	std cli.Streams

	// Told of every request, for metrics; nil where nobody counts.
	traceVCenter func(op string, took time.Duration, err error)
	traceAWS     func(ebs.Exchange)

	vc  *vsphere.Client
	aws *ebs.Store
}

// newWire loads the settings; it connects to nothing.
func newWire(s *settings, std cli.Streams) (*wire, error) {
	cfg, err := s.load(std)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(cfg.Transfer.Tags)) {
		if err := ebs.CheckUserTag(key, cfg.Transfer.Tags[key]); err != nil {
			return nil, cli.Usagef("tag %q: %w", key, err)
		}
	}
	std.Logs = s.verbose
	return &wire{cfg: cfg, std: std}, nil
}

// vcenter is the session with vCenter.
func (w *wire) vcenter(ctx context.Context) (*vsphere.Client, error) {
	if w.vc != nil {
		return w.vc, nil
	}
	c := w.cfg.VCenter
	var err error
	w.vc, err = vsphere.Dial(ctx, vsphere.Config{
		URL: c.URL, Username: c.User, Password: c.Password.Reveal(),
		Insecure: c.Insecure, CACertFiles: c.CACerts, Thumbprint: c.Thumbprint, KnownHosts: c.KnownHosts, Trace: w.traceVCenter,
	})
	if err != nil {
		w.vc = nil
		return nil, err
	}
	logged(ctx, "logged in to vCenter", "url", c.URL, "user", c.User, "id", w.vc.ID())
	return w.vc, nil
}

// store is the EBS side.
func (w *wire) store(ctx context.Context) (*ebs.Store, error) {
	if w.aws != nil {
		return w.aws, nil
	}
	a, t := w.cfg.AWS, w.cfg.Transfer
	s, err := ebs.Open(ctx, ebs.Config{
		Region: a.Region, Profile: a.Profile, CABundle: a.CABundle,
		EBSEndpoint: a.Endpoints.EBS, EC2Endpoint: a.Endpoints.EC2, STSEndpoint: a.Endpoints.STS,
		Puts: t.Puts, Gets: t.Gets, BytesPerSecond: int64(t.Limit),
		PutsPerSecondPerAccount: a.PutsPerSecond, GetsPerSecondPerAccount: a.GetsPerSecond, Trace: w.traceAWS,
	})
	if err != nil {
		return nil, err
	}
	logged(ctx, "opened AWS", "region", s.Region(), "profile", a.Profile)
	w.aws = s
	return s, nil
}

// inventory lists every VM, with what the reader cannot read among the
// obstacles.
func (w *wire) inventory(ctx context.Context) ([]transfer.VM, error) {
	vc, err := w.vcenter(ctx)
	if err != nil {
		return nil, err
	}
	return inventory(ctx, vc)
}

func inventory(ctx context.Context, vc *vsphere.Client) ([]transfer.VM, error) {
	all, err := vc.VMs(ctx)
	for i := range all {
		for j := range all[i].Disks {
			d := &all[i].Disks[j]
			if o, is := hotadd.Obstacle(*d); is && len(d.Obstacles) == 0 {
				d.Obstacles = []transfer.Obstacle{o}
			}
		}
	}
	return all, err
}

// namedSource is a VM that was found, and what to call it.
type namedSource struct {
	name   string
	id     transfer.VMID
	source transfer.Source
}

// sources finds all VMs before anything begins; a VM named twice counts once.
func (w *wire) sources(ctx context.Context, names []string, reader vsphere.Reader) ([]namedSource, error) {
	vc, err := w.vcenter(ctx)
	if err != nil {
		return nil, err
	}
	var found []namedSource
	for _, name := range names {
		vm, err := vc.Find(ctx, name)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(found, func(f namedSource) bool { return f.id == vm.ID }) {
			continue
		}
		found = append(found, namedSource{name: vm.Name, id: vm.ID, source: vc.Source(vm.ID, vsphere.Options{Reader: reader, MinFree: w.minFree()})})
	}
	return found, nil
}

// hotadd finds the VM that this runs in, before anything is frozen.
func (w *wire) hotadd(ctx context.Context) (vsphere.Reader, error) {
	vc, err := w.vcenter(ctx)
	if err != nil {
		return nil, err
	}
	a := w.cfg.Appliance
	return hotadd.New(ctx, vc, hotadd.Config{Appliance: a.VM, SysfsDir: a.SysfsDir, DevDir: a.DevDir, AllowNFSStun: a.AllowNFSStun})
}

// lookOnly knows what hotadd cannot read and reads nothing: a plan needs no
// appliance and can be made anywhere.
type lookOnly struct{}

func (lookOnly) Obstacle(d transfer.Disk) (transfer.Obstacle, bool) { return hotadd.Obstacle(d) }

func (lookOnly) Open(context.Context, vsphere.FrozenDisk) (transfer.DiskReader, error) {
	return nil, errors.New("a plan reads no disk")
}

// env is what all cycles of the process share.
func (w *wire) env(ctx context.Context) (transfer.Env, error) {
	store, err := w.store(ctx)
	if err != nil {
		return transfer.Env{}, err
	}
	id, err := applianceID(w.cfg.Appliance.ID, w.cfg.StateDir)
	if err != nil {
		return transfer.Env{}, err
	}
	t := w.cfg.Transfer
	return transfer.Env{
		Store: store, State: w.state(), Appliance: id, Buffers: w.buffers(t.Buffers),
		Reads: t.Reads, Puts: t.Puts, Audit: max(0, t.Audit), Now: time.Now, MaxFreeze: t.MaxFreeze, Cleanup: t.Cleanup,
	}, nil
}

// minFree is the setting in bytes; nil leaves it to the vSphere side.
func (w *wire) minFree() *int64 {
	gib := w.cfg.Transfer.MinFreeGiB
	if gib == nil {
		return nil
	}
	n := *gib << 30
	return &n
}

// options are the wishes for one cycle.
func (w *wire) options(seed bool) transfer.Options {
	t := w.cfg.Transfer
	return transfer.Options{
		Quiesce: transfer.Quiesce(t.Quiesce), Zeros: transfer.ZeroPolicy(t.Zeros),
		Encrypted: t.Encrypted, KMSKey: t.KMSKey, Exclude: t.ExcludeDisk, Tags: t.Tags, Reseed: seed,
	}
}

func (w *wire) buffers(n int) *transfer.Buffers { return transfer.NewBuffers(n) }

// state is where the manifests are.
func (w *wire) state() manifest.Dir { return manifest.Dir(filepath.Join(w.cfg.StateDir, "vms")) }

// calls counts the requests so far.
func (w *wire) calls() transfer.Calls {
	var c transfer.Calls
	if w.vc != nil {
		c.VCenter = w.vc.Calls()
	}
	if w.aws != nil {
		for _, n := range w.aws.Calls() {
			c.AWS += n
		}
	}
	return c
}

// logoutTime is how long a log-out may take; a session that stays ends by
// itself after half an hour.
const logoutTime = 10 * time.Second

// close logs out, also when ctx has ended.
func (w *wire) close(ctx context.Context) {
	if w.vc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), logoutTime)
	defer cancel()
	if err := w.vc.Close(ctx); err != nil {
		logged(ctx, "log out of vCenter", "error", err)
	}
}
