package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"snapferry/cmd/internal/config"
	"snapferry/ebs"
	"snapferry/schedule"
	"snapferry/schedule/engine"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

// work is what this appliance can do for the engine: the wire, asked by many
// cycles at once and for weeks. It opens vCenter and AWS when they are first
// needed and tries again each time until they answer, so that a daemon that
// starts while they are away comes to life with them.
type work struct {
	cfg   config.Config
	id    transfer.ApplianceID
	log   *slog.Logger
	paces *paces
	fleet func(context.Context) ([]schedule.Appliance, error) // every appliance that ever was

	mu   sync.Mutex // guards what follows; wire is for one goroutine
	wire *wire
	here *hotadd.Appliance
	env  *transfer.Env
	// lastTags are the inventory's; noTags is why there are none.
	lastTags map[transfer.VMID][]string
	noTags   string
}

var _ engine.Work = (*work)(nil)

func newWork(w *wire, id transfer.ApplianceID, log *slog.Logger, fleet func(context.Context) ([]schedule.Appliance, error)) *work {
	return &work{cfg: w.cfg, id: id, log: log, wire: w, paces: newPaces(time.Now), fleet: fleet}
}

// link is both sides, open.
type link struct {
	vc    *vsphere.Client
	store *ebs.Store
	here  *hotadd.Appliance
	env   transfer.Env
}

// open opens what is not open yet.
func (k *work) open(ctx context.Context) (link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	vc, err := k.wire.vcenter(ctx)
	if err != nil {
		return link{}, reasoned{err, vcenterReason(err)}
	}
	if k.here == nil {
		r, err := k.wire.hotadd(ctx)
		if err != nil {
			return link{}, reasoned{err, schedule.ReasonVCenter}
		}
		k.here, _ = r.(*hotadd.Appliance)
	}
	if k.env == nil {
		env, err := k.wire.env(ctx)
		if err != nil {
			return link{}, reasoned{err, awsReason(err)}
		}
		k.env = &env
	}
	return link{vc: vc, store: k.wire.aws, here: k.here, env: *k.env}, nil
}

// store opens the AWS side alone.
func (k *work) store(ctx context.Context) (*ebs.Store, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s, err := k.wire.store(ctx)
	if err != nil {
		return nil, reasoned{err, awsReason(err)}
	}
	return s, nil
}

// Self describes this appliance.
func (k *work) Self(ctx context.Context) (schedule.Appliance, error) {
	l, err := k.open(ctx)
	if err != nil {
		return schedule.Appliance{}, err
	}
	who, err := l.store.Identity(ctx)
	if err != nil {
		return schedule.Appliance{}, err
	}
	stores, err := l.here.Datastores(ctx)
	if err != nil {
		return schedule.Appliance{}, err
	}
	if len(stores) == 0 { // an empty list would mean that it reaches all
		return schedule.Appliance{}, reasoned{transfer.Fail(transfer.Permanent, "look at the appliance's datastores", errors.New("its ESXi host mounts none from which disks can be attached"),
			"Move the appliance to a host that sees the datastores of the VMs."), schedule.ReasonNoReach}
	}
	host, err := l.here.Host(ctx)
	return schedule.Appliance{
		ID: k.id, Version: version, VM: l.here.Moref(), Host: host, VCenter: l.vc.ID(),
		Account: who.Account + "/" + who.Region, Datastores: stores,
	}, err
}

// Inventory lists the VMs with their tags.
func (k *work) Inventory(ctx context.Context) ([]transfer.VM, error) {
	l, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	vms, err := inventory(ctx, l.vc)
	if err != nil {
		return nil, err
	}
	// The appliances themselves are in the inventory, too. One that froze itself
	// would wait for itself, and freezing another enables CBT on it, which would
	// spoil that of the disks that it attaches.
	fleet, err := k.fleet(ctx)
	if err != nil {
		return nil, err
	}
	vms = slices.DeleteFunc(vms, func(vm transfer.VM) bool {
		return vm.ID.Moref == l.here.Moref() || slices.ContainsFunc(fleet, func(a schedule.Appliance) bool { return a.VM == vm.ID.Moref && a.VCenter == vm.ID.VCenter })
	})
	ids := make([]transfer.VMID, len(vms))
	for i := range vms {
		ids[i] = vms[i].ID
	}
	tags := k.tags(ctx, l.vc, ids)
	for i := range vms {
		vms[i].Tags = tags[vms[i].ID]
	}
	return vms, nil
}

// tags are the VMs' vSphere tags; those of the last time while the tagging
// service is away, or its VMs would lose their policies.
func (k *work) tags(ctx context.Context, vc *vsphere.Client, ids []transfer.VMID) map[transfer.VMID][]string {
	tags, err := vc.Tags(ctx, ids)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.log.Warn("vSphere tags cannot be read: those of the last time hold", "error", err)
		return k.lastTags
	}
	if why := vc.TagsMissing(); why != "" && why != k.noTags {
		k.log.Warn("there are no vSphere tags: policies that match by tag fit no VM", "why", why)
	}
	k.lastTags, k.noTags = tags, vc.TagsMissing()
	return tags
}

// lockWait is how long a cycle of the service waits while the reaper works on
// its VM: consolidating a VM snapshot takes minutes.
const lockWait = transfer.DefaultCleanup

// Cycle replicates a VM once.
func (k *work) Cycle(ctx context.Context, job engine.Job, progress *transfer.Progress, logf func(level, text string)) (transfer.Report, error) {
	failed := func(err error) (transfer.Report, error) {
		r := progress.Report()
		r.VM, r.VMName, r.Outcome, r.Error, r.Hint = job.VM.ID, job.VM.Name, transfer.OutcomeFailed, err.Error(), transfer.HintOf(err)
		return r, err
	}
	l, err := k.open(ctx)
	if err != nil {
		return failed(err)
	}
	if err := k.relieve(ctx, l, job, logf); err != nil {
		return failed(err)
	}
	env := l.env
	env.Store = k.paces.limit(job.Policy, env.Store)
	env.LockWait = lockWait
	c := &transfer.Cycle{
		Env: env, Options: k.options(job), Progress: progress,
		Source: l.vc.Source(job.VM.ID, vsphere.Options{Reader: l.here, MinFree: k.wire.minFree()}),
	}
	report, err := c.Run(ctx)
	if report.VMName == "" {
		report.VMName = job.VM.Name
	}
	logReport(report, logf)
	return report, err
}

// logReport writes what a cycle did into the run's log.
func logReport(r transfer.Report, logf func(level, text string)) {
	for _, d := range r.Disks {
		if d.Kind == "" {
			continue
		}
		logf("info", fmt.Sprintf("%s: %s, %s: %s in %s, %s read, %d blocks put, %d identical, %d zero", d.Label, d.Kind, d.Reason,
			plural(d.Areas, "area"), bytesText(d.AreaBytes), bytesText(d.BytesRead), d.Put, d.Identical, d.Zero))
	}
	for _, note := range r.Notes {
		logf("info", note)
	}
	for _, alarm := range r.Alarms {
		logf("warn", alarm)
	}
	level := "info"
	if r.Outcome == transfer.OutcomeFailed {
		level = "error"
	}
	logf(level, outcomeText(r)+" "+string(r.Point)+r.Error)
}

// relieve cleans up what a crash of this appliance, or a dead one that had the
// run before, left on the VM. Without it the freeze would refuse.
func (k *work) relieve(ctx context.Context, l link, job engine.Job, logf func(level, text string)) error {
	r := k.reaper(l)
	r.VMs = []transfer.VMID{job.VM.ID}
	if job.Dead != "" {
		r.Dead = []transfer.ApplianceID{job.Dead}
	}
	report, err := r.Run(ctx, false)
	for _, t := range report.Things {
		if text := reapedText(t); text != "" {
			logf("warn", text)
		}
	}
	if err != nil && job.Dead != "" {
		return fmt.Errorf("clean up after appliance %s: %w", job.Dead, err)
	}
	if err != nil {
		logf("warn", "clean up before the cycle: "+err.Error())
	}
	return nil
}

func (k *work) reaper(l link) *transfer.Reaper {
	return k.wire.reaper(l.vc, l.store, k.id, l.here)
}

// options are the settings' wishes, and the policy's over them.
func (k *work) options(job engine.Job) transfer.Options {
	o := k.wire.options(job.Run.Seed)
	if p := job.Policy; p != nil {
		if p.Quiesce != "" {
			o.Quiesce = p.Quiesce
		}
		if p.Zeros != "" {
			o.Zeros = p.Zeros
		}
		if len(p.Exclude) > 0 {
			o.Exclude = p.Exclude
		}
	}
	return o
}

// Points are what the tags say.
func (k *work) Points(ctx context.Context, vm *transfer.VMID) ([]schedule.PointRow, error) {
	l, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	list := l.store.AllWithNotes
	if vm != nil {
		list = func(ctx context.Context) ([]transfer.Snapshot, map[transfer.SnapshotID]transfer.Notes, error) {
			return l.store.WithNotes(ctx, *vm)
		}
	}
	// Beside labels that cannot be read the others are listed: they still show
	// how the VMs stand.
	snapshots, notes, err := list(ctx)
	if err != nil && len(snapshots) == 0 {
		return nil, err
	}
	var rows []schedule.PointRow
	for _, p := range transfer.Points(snapshots) {
		if p.VM.VCenter == l.vc.ID() {
			rows = append(rows, pointRow(p, notes))
		}
	}
	return rows, nil
}

// pointRow is a point as the history keeps it.
func pointRow(p transfer.Point, notes map[transfer.SnapshotID]transfer.Notes) schedule.PointRow {
	row := schedule.PointRow{
		VM: p.VM, Cycle: p.Cycle, Frozen: p.Frozen, Confirmed: p.Confirmed, Complete: p.Complete,
		Disks: len(p.Disks), Suspect: p.Suspect, Kind: transfer.Delta,
	}
	for _, s := range p.Disks {
		row.Snapshots = append(row.Snapshots, s.ID)
		if s.Label.Blocks < 0 || row.Blocks < 0 {
			row.Blocks = -1
		} else {
			row.Blocks += s.Label.Blocks
		}
		if s.Label.Kind == transfer.Seed || (s.Label.Kind == transfer.Compare && row.Kind == transfer.Delta) {
			row.Kind = s.Label.Kind
		}
	}
	if v := transfer.VerifiedPoint(p, notes); v != nil && v.OK && v.Proven {
		row.Verified = v.At
	}
	if b := transfer.BootOf(p, notes); b != nil && b.OK {
		row.Proved = b.At
	}
	return row
}

// Prune deletes what the policy no longer keeps.
func (k *work) Prune(ctx context.Context, vm schedule.VM, p *schedule.Policy) ([]transfer.CycleID, error) {
	store, err := k.store(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := k.retention(p)
	if err != nil {
		return nil, err
	}
	snapshots, notes, err := store.WithNotes(ctx, vm.ID)
	if err != nil {
		return nil, fmt.Errorf("nothing is deleted while some labels cannot be read: %w", err)
	}
	pruned, err := transfer.Prune(ctx, store, transfer.Retain(transfer.Points(snapshots), rules, time.Now(), inUse(notes)))
	var gone []transfer.CycleID
	for _, v := range pruned {
		if !v.Keep && v.Gone() {
			gone = append(gone, v.Point.Cycle)
		}
	}
	return gone, err
}

// retention is the policy's, or the settings'.
func (k *work) retention(p *schedule.Policy) (transfer.Policy, error) {
	if p == nil || p.Retention == (transfer.Policy{}) {
		return policy(k.cfg.Retention)
	}
	rules := p.Retention
	rules.Location = p.Location()
	return rules, nil
}

// Clean finds what crashes left.
func (k *work) Clean(ctx context.Context, ended []transfer.VMID) (transfer.ReapReport, error) {
	l, err := k.open(ctx)
	if err != nil {
		return transfer.ReapReport{}, err
	}
	r := k.reaper(l)
	r.Ended = ended
	return r.Run(ctx, false)
}

// soon is how long before its end a certificate or a key is an alarm: time
// enough for a ticket to go its way.
const soon = 14 * 24 * time.Hour

// Expiring lists what will stop working soon.
func (k *work) Expiring(ctx context.Context) ([]schedule.Alarm, error) {
	l, err := k.open(ctx)
	if err != nil {
		return nil, err
	}
	var alarms []schedule.Alarm
	add := func(kind schedule.AlarmKind, key, what, hint string, end time.Time) {
		if left := time.Until(end); left < soon {
			alarms = append(alarms, schedule.Alarm{Key: key, Kind: kind, Hint: hint,
				Text: fmt.Sprintf("%s ends at %s", what, timeText(end))})
		}
	}
	if end, ok := l.vc.Certificate(); ok {
		add(schedule.AlarmCertificate, "certificate/vcenter/"+l.vc.ID(), "the certificate of "+k.cfg.VCenter.URL, "Renew it in vCenter; where it is pinned, change vcenter.thumbprint with it.", end)
	}
	if end, ok := l.store.CredentialsExpire(ctx); ok && !end.IsZero() {
		add(schedule.AlarmCredentials, "credentials/aws/"+string(k.id), "the AWS session of this appliance", "It does not renew itself: use a role, credential_process or IAM Roles Anywhere.", end)
	}
	return alarms, nil
}

// close logs out.
func (k *work) close(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.wire.close(ctx)
}

// reasoned is an error with the word that scripts hold on to.
type reasoned struct {
	error
	reason schedule.Reason
}

func (r reasoned) Unwrap() error           { return r.error }
func (r reasoned) Reason() schedule.Reason { return r.reason }

// vcenterReason tells a refused login from a vCenter that is away.
func vcenterReason(err error) schedule.Reason {
	if transfer.KindOf(err) == transfer.Permanent {
		return schedule.ReasonVCenterAuth
	}
	return schedule.ReasonVCenter
}

func awsReason(err error) schedule.Reason {
	var classified *transfer.Error
	if errors.As(err, &classified) && classified.Kind == transfer.Permanent {
		return schedule.ReasonAWSAuth
	}
	return schedule.ReasonAWS
}

// share gives this appliance its part of the account's request rates: n of them
// use it. perAccount is the puts a second that all together may make, 0 what
// the region grants. It returns this appliance's puts a second.
func (k *work) share(ctx context.Context, n int, perAccount float64) (puts float64, err error) {
	s, err := k.store(ctx)
	if err != nil {
		return 0, err
	}
	puts, gets := s.AccountRates()
	if perAccount > 0 {
		puts = perAccount
	}
	puts, gets = puts/float64(n), gets/float64(n)
	if own := k.cfg.AWS.PutsPerSecond; own > 0 { // this appliance's own setting goes before
		puts = own
	}
	if own := k.cfg.AWS.GetsPerSecond; own > 0 {
		gets = own
	}
	s.SetRates(int64(k.cfg.Transfer.Limit), puts, gets)
	return puts, nil
}
