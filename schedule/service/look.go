package service

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

const (
	// lagSpan is what sparklines show.
	lagSpan = 24 * time.Hour
	// rateSpan is what the overview shows of the throughput.
	rateSpan = time.Hour
	// rateFresh: samples come every ten seconds; older than three of them, the
	// last one says nothing about now.
	rateFresh = 30 * time.Second
	// The lengths of short lists.
	nextRuns   = 10
	worstLags  = 5
	detailRuns = 20
	// Of logs and of other lists where nobody says how much.
	defaultLines = 1000
	defaultRows  = 100
	// allAlarms is more than a person can look at.
	allAlarms = 1000
)

// fleet is every VM as it stands at an instant.
type fleet struct {
	at       time.Time
	policies map[string]*schedule.Policy
	active   []schedule.Run
	vms      []schedule.VMStatus // in the store's order
}

// shared is the fleet as it was last read.
type shared struct {
	mu      sync.Mutex
	last    *fleet
	read    time.Time // on the process's own clock
	changes int       // how often something was written here
}

func (c *shared) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.changes = nil, c.changes+1
}

// fleet is one that nobody changes: it may be shared.
func (s *Service) fleet(ctx context.Context) (*fleet, error) {
	c := &s.shared
	c.mu.Lock()
	last, changes := c.last, c.changes
	fresh := last != nil && time.Since(c.read) < s.reuse
	c.mu.Unlock()
	if fresh {
		return last, nil
	}
	began := time.Now()
	f, err := s.readFleet(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.reuse > 0 && c.changes == changes { // or it may lack what was written meanwhile
		c.last, c.read = f, began
	}
	return f, nil
}

func (s *Service) readFleet(ctx context.Context) (*fleet, error) {
	f := &fleet{at: s.now()}
	var err error
	if f.policies, err = s.policies(ctx); err != nil {
		return nil, err
	}
	if f.active, err = s.store.Unended(ctx); err != nil {
		return nil, err
	}
	launches, err := s.activeLaunches(ctx)
	if err != nil {
		return nil, err
	}
	vms, err := s.store.VMs(ctx, "")
	if err != nil {
		return nil, err
	}
	runs := make(map[transfer.VMID]*schedule.Run, len(f.active))
	for i := range f.active {
		f.active[i] = wholeRun(f.active[i])
		runs[f.active[i].VM] = &f.active[i]
	}
	f.vms = make([]schedule.VMStatus, len(vms))
	for i := range vms {
		f.vms[i] = schedule.Status(whole(vms[i]), f.policies[vms[i].Policy], runs[vms[i].ID], f.at)
		f.vms[i].LaunchRun = launches[vms[i].ID]
	}
	return f, nil
}

// policies are all of them by name.
func (s *Service) policies(ctx context.Context) (map[string]*schedule.Policy, error) {
	rows, err := s.store.PolicyRows(ctx)
	if err != nil {
		return nil, err
	}
	by := make(map[string]*schedule.Policy, len(rows))
	for i := range rows {
		by[rows[i].Name] = &rows[i].Policy
	}
	return by, nil
}

// Overview says how everything stands.
func (s *Service) Overview(ctx context.Context) (schedule.Overview, error) {
	f, err := s.fleet(ctx)
	if err != nil {
		return schedule.Overview{}, err
	}
	o := schedule.Overview{
		At: f.at, VMs: len(f.vms),
		ByState: map[schedule.Replication]int{}, ByLife: map[schedule.Lifecycle]int{},
		NextRuns: f.next(), WorstLag: f.worst(),
	}
	for i := range f.vms {
		o.ByState[f.vms[i].Replication]++
		o.ByLife[f.vms[i].Lifecycle]++
	}
	for _, r := range f.active {
		if r.State == schedule.RunQueued {
			o.Queued++
		} else {
			o.Running++
		}
	}
	alarms, err := s.store.Alarms(ctx, false, allAlarms)
	if err != nil {
		return o, err
	}
	o.Alarms = len(alarms)
	if o.Samples, err = s.store.Rates(ctx, f.at.Add(-rateSpan)); err != nil {
		return o, err
	}
	o.Samples = some(o.Samples)
	if n := len(o.Samples); n > 0 && f.at.Sub(o.Samples[n-1].At) <= rateFresh {
		o.Throughput, o.PutRate = o.Samples[n-1].Read, o.Samples[n-1].Put
	}
	if o.Appliances, err = s.store.Appliances(ctx); err != nil {
		return o, err
	}
	o.Appliances = some(o.Appliances)
	for i := range o.Appliances {
		o.Appliances[i].Datastores = some(o.Appliances[i].Datastores)
	}
	return o, nil
}

// next are the runs to come, the soonest first.
func (f *fleet) next() []schedule.NextRun {
	next := []schedule.NextRun{}
	for i := range f.vms {
		vm := &f.vms[i]
		if vm.Next.IsZero() || vm.Paused || vm.Run != nil || vm.Policy == "" || !vm.Lifecycle.Replicates() {
			continue
		}
		next = append(next, schedule.NextRun{VM: vm.ID, Name: vm.Name, At: vm.Next, Why: vm.NextWhy})
	}
	slices.SortFunc(next, func(a, b schedule.NextRun) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Name, b.Name), compareIDs(a.VM, b.VM))
	})
	return next[:min(len(next), nextRuns)]
}

// worst are the VMs whose newest data is oldest, of those that should be kept
// current.
func (f *fleet) worst() []schedule.VMStatus {
	late := []schedule.VMStatus{}
	for i := range f.vms {
		vm := &f.vms[i]
		if vm.Lag > 0 && vm.Policy != "" && vm.Lifecycle.Replicates() {
			late = append(late, *vm)
		}
	}
	slices.SortFunc(late, func(a, b schedule.VMStatus) int {
		return cmp.Or(cmp.Compare(b.Lag, a.Lag), compareIDs(a.ID, b.ID))
	})
	return late[:min(len(late), worstLags)]
}

func compareIDs(a, b transfer.VMID) int {
	return cmp.Or(cmp.Compare(a.VCenter, b.VCenter), cmp.Compare(a.Moref, b.Moref))
}

// VM is everything of one VM.
func (s *Service) VM(ctx context.Context, id transfer.VMID) (schedule.VMDetail, error) {
	vm, err := s.load(ctx, id)
	if err != nil {
		return schedule.VMDetail{}, err
	}
	policies, err := s.policies(ctx)
	if err != nil {
		return schedule.VMDetail{}, err
	}
	var d schedule.VMDetail
	if d.Runs, err = s.Runs(ctx, schedule.RunQuery{VM: &id, Limit: detailRuns}); err != nil {
		return d, err
	}
	var active *schedule.Run
	for i := range d.Runs { // the one that has not ended is the newest
		if !d.Runs[i].State.Ended() {
			active = &d.Runs[i]
			break
		}
	}
	d.VMStatus = schedule.Status(vm, policies[vm.Policy], active, s.now())
	if d.Points, err = s.store.Points(ctx, id); err != nil {
		return d, err
	}
	d.Points = some(d.Points)
	for i := range d.Points {
		d.Points[i].Snapshots = some(d.Points[i].Snapshots)
	}
	alarms, err := s.store.Alarms(ctx, false, allAlarms)
	if err != nil {
		return d, err
	}
	d.Alarms = some(slices.DeleteFunc(alarms, func(a schedule.Alarm) bool { return a.VM != id }))
	lags, err := s.store.Lags(ctx, []transfer.VMID{id}, s.now().Add(-lagSpan))
	if err != nil {
		return d, err
	}
	d.Lags = some(lags[id])
	return d, s.addLaunches(ctx, &d)
}

// Runs are those that a query chooses, newest first.
func (s *Service) Runs(ctx context.Context, q schedule.RunQuery) ([]schedule.Run, error) {
	if q.Limit < 0 || q.Limit > 500 || q.Before < 0 {
		return nil, invalid("", "a list of runs has 1 to 500 of them")
	}
	q.Limit = cmp.Or(q.Limit, 50)
	runs, err := s.store.Runs(ctx, q)
	for i := range runs {
		runs[i] = wholeRun(runs[i])
	}
	return some(runs), err
}

// Run is one run.
func (s *Service) Run(ctx context.Context, id int64) (schedule.Run, error) {
	r, err := s.store.Run(ctx, id)
	return wholeRun(r), err
}

// RunLog is a part of a run's log.
func (s *Service) RunLog(ctx context.Context, run, after int64, limit int) ([]schedule.LogLine, error) {
	lines, err := s.store.Log(ctx, run, after, cmp.Or(limit, defaultLines))
	return some(lines), err
}

// Events are those behind one, oldest first.
func (s *Service) Events(ctx context.Context, after int64, limit int) ([]schedule.Event, error) {
	events, err := s.store.Events(ctx, after, cmp.Or(limit, defaultRows))
	return some(events), err
}

// LastEvent is the highest ID of an event, 0 without any.
func (s *Service) LastEvent(ctx context.Context) (int64, error) { return s.store.LastEvent(ctx) }

// Alarms are the open ones, or all.
func (s *Service) Alarms(ctx context.Context, cleared bool, limit int) ([]schedule.Alarm, error) {
	alarms, err := s.store.Alarms(ctx, cleared, cmp.Or(limit, defaultRows))
	return some(alarms), err
}

// Deeds are the audit log, newest first.
func (s *Service) Deeds(ctx context.Context, before int64, limit int) ([]schedule.Deed, error) {
	deeds, err := s.store.Deeds(ctx, before, cmp.Or(limit, defaultRows))
	return some(deeds), err
}

// RecordDeed writes the audit log.
func (s *Service) RecordDeed(ctx context.Context, d schedule.Deed) error {
	return s.store.RecordDeed(ctx, d)
}

// Policies are all of them, and where each comes from.
func (s *Service) Policies(ctx context.Context) ([]schedule.PolicyRow, error) {
	rows, err := s.store.PolicyRows(ctx)
	if err != nil {
		return nil, err
	}
	return some(rows), s.addProveCosts(ctx, rows)
}

// Waves are all of them.
func (s *Service) Waves(ctx context.Context) ([]schedule.Wave, error) {
	waves, err := s.store.Waves(ctx)
	for i := range waves {
		waves[i].VMs = some(waves[i].VMs)
	}
	return some(waves), err
}

// Settings are the configuration as it is shown.
func (s *Service) Settings(ctx context.Context) (schedule.Settings, error) {
	out := s.settings
	out.Groups = slices.Clone(some(out.Groups))
	for i := range out.Groups {
		out.Groups[i].Items = some(out.Groups[i].Items)
	}
	var err error
	out.Limits, err = s.store.Limits(ctx)
	return out, err
}

// some is a list that is never null in JSON.
func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// whole fills in what would be null in JSON.
func whole(vm schedule.VM) schedule.VM {
	vm.Disks = some(vm.Disks)
	if vm.Launch == nil {
		vm.Launch = schedule.Launch{}
	}
	return vm
}

func wholeRun(r schedule.Run) schedule.Run {
	r.Report.Disks = some(r.Report.Disks)
	return r
}
