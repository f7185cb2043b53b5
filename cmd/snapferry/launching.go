package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapferry/cmd/internal/config"
	"snapferry/ebs"
	"snapferry/launch"
	"snapferry/launch/convert"
	"snapferry/schedule"
	"snapferry/transfer"
	"snapferry/vsphere"
)

// launching joins package launch with vSphere, EBS and conversion, for one
// action on one VM: the verbs' where no daemon runs, or the engine's.
type launching struct {
	cfg   config.Config
	id    transfer.VMID
	name  string
	vc    *vsphere.Client // nil where vCenter is not needed: tests
	store *ebs.Store
	env   transfer.Env
	save  func(ctx context.Context, j launch.Job) error
	tell  func(j launch.Job, e launch.Event)
	// sync replicates the VM once, and why in words.
	sync func(ctx context.Context, why string) (transfer.Report, error)
	// clean removes what a crash left of ours on the source.
	clean func(ctx context.Context) error
	// settings are the VM's own.
	settings schedule.Launch
}

// launcher makes package launch's launcher.
func (k *launching) launcher() (*launch.Launcher, error) {
	api := k.store.EC2()
	return launch.New(launch.Config{
		EC2: api, Convert: k.convert, Save: k.save, Tell: k.tell,
		SSM: &launch.SystemsManager{
			Region: k.store.Region(), Endpoint: cmp.Or(k.cfg.AWS.Endpoints.SSM, os.Getenv("AWS_ENDPOINT_URL_SSM")),
			Credentials: api.Options().Credentials, HTTP: api.Options().HTTPClient,
		},
	})
}

// convertFolder is where conversions work.
func convertFolder(cfg config.Config) string {
	return cmp.Or(cfg.Convert.Folder, filepath.Join(cfg.StateDir, "convert"))
}

// sweepConversions removes what a crash left of conversions on this machine.
func (w *wire) sweepConversions(ctx context.Context) {
	if _, err := convert.Sweep(convertFolder(w.cfg), false); err != nil {
		logged(ctx, "clean up after earlier conversions", "error", err)
	}
}

func wishesOf(cfg config.Config) convert.Wishes {
	return convert.Wishes{CloudInit: cfg.Convert.CloudInit, KeepNetwork: cfg.Convert.KeepNetwork, Drivers: cfg.Convert.Drivers}
}

// convert makes the boot disk of a point ready for EC2, as launch asks for it.
func (k *launching) convert(ctx context.Context, p transfer.Point) (transfer.SnapshotID, launch.ConversionReport, error) {
	c := &convert.Converter{Env: k.env, Folder: convertFolder(k.cfg), Tags: k.cfg.Transfer.Tags, Wishes: wishesOf(k.cfg)}
	rep, err := c.Run(ctx, p)
	r := launch.ConversionReport{Ready: rep.Plan.Ready, Doubts: rep.Plan.Doubts}
	for _, m := range rep.Made {
		r.Changes = append(r.Changes, m.What)
	}
	if rep.Found {
		r.Changes = []string{"made ready by an earlier conversion of the same point"}
	}
	if detail, merr := json.Marshal(rep); merr == nil {
		r.Detail = detail
	}
	if err != nil || rep.Snapshot == rep.Boot {
		return "", r, err
	}
	return rep.Snapshot, r, nil
}

// flat are the settings that hold: the file's, the VM's, the wish's.
func (k *launching) flat(w schedule.LaunchWish) map[string]string {
	all := map[string]string{}
	for _, layer := range []schedule.Launch{k.cfg.Launch, k.settings, w.Settings} {
		maps.Copy(all, layer)
	}
	return all
}

// checkLaunch says what is wrong with launch settings, for either purpose.
func checkLaunch(l schedule.Launch) error {
	for _, p := range []launch.Purpose{launch.ForTest, launch.ForCutover} {
		if _, err := launch.ParseSettings(l, p); err != nil {
			return fmt.Errorf("%w: %w", schedule.ErrInvalid, err)
		}
	}
	return nil
}

// request is what is to be launched.
func (k *launching) request(ctx context.Context, purpose launch.Purpose, w schedule.LaunchWish) (launch.Request, error) {
	s, err := launch.ParseSettings(k.flat(w), purpose)
	if err != nil {
		return launch.Request{}, transfer.Fail(transfer.Permanent, "launch "+k.name, err, "\"snapferry launch-settings\" lists the keys and what they take.")
	}
	if w.For > 0 && purpose == launch.ForTest {
		s.For = w.For.Std()
	}
	s.ForceOff = s.ForceOff || w.ForceOff
	p, err := k.point(ctx, w.Point)
	if err != nil {
		return launch.Request{}, err
	}
	if !s.AsIs && s.Licence != launch.LicenceImport {
		if err := convert.Check(p.Disks[0].Label.Guest.ID); err != nil { // before the source goes off
			return launch.Request{}, transfer.Fail(transfer.Permanent, "launch "+k.name, err, "Install it on the appliance, or set convert=no where the guest is ready for EC2 as it is.")
		}
	}
	r := launch.Request{VM: k.id, VMName: cmp.Or(p.VMName, k.name), Purpose: purpose, Point: p, Settings: s, Force: w.Force}
	if k.vc == nil {
		return r, nil
	}
	return r, k.describe(ctx, &r)
}

// describe adds what vCenter knows of the source. For a test it is no harm if
// vCenter does not answer, or has that VM no more.
func (k *launching) describe(ctx context.Context, r *launch.Request) error {
	vm, err := k.vc.Inspect(ctx, k.id)
	if err == nil {
		r.SourceTags = sourceTags(vm, k.tagsOf(ctx))
		r.SourceIPs, err = k.addresses(ctx)
	}
	if err != nil && r.Purpose == launch.ForTest && !keepsAddress(r.Settings) {
		logged(ctx, "launch without what vCenter knows of the source", "vm", k.name, "error", err)
		return nil
	}
	return err
}

func (k *launching) tagsOf(ctx context.Context) []string {
	tags, err := k.vc.Tags(ctx, []transfer.VMID{k.id})
	if err != nil {
		logged(ctx, "vSphere tags are not copied", "vm", k.name, "error", err)
	}
	return tags[k.id]
}

// sourceTags are a VM's vSphere tags, by category, and its custom attributes.
func sourceTags(vm transfer.VM, tags []string) map[string]string {
	all := maps.Clone(vm.Attributes)
	if all == nil {
		all = map[string]string{}
	}
	slices.Sort(tags)
	for _, t := range tags {
		category, name, ok := strings.Cut(t, ":")
		if !ok {
			continue
		}
		if have := all[category]; have != "" { // a category can give a VM several
			name = have + "," + name
		}
		all[category] = name
	}
	return all
}

// addresses are the first IPv4 address of each NIC.
func (k *launching) addresses(ctx context.Context) ([]string, error) {
	nics, err := k.vc.NICs(ctx, k.id)
	var all []string
	for _, n := range nics {
		a := ""
		if len(n.IPv4) > 0 {
			a = n.IPv4[0]
		}
		all = append(all, a)
	}
	return all, err
}

func keepsAddress(s launch.Settings) bool {
	return slices.ContainsFunc(s.NICs, func(n launch.NIC) bool { return n.PrivateIP == launch.KeepIP })
}

// point finds a complete point of the VM: the newest, or the one of that cycle.
func (k *launching) point(ctx context.Context, cycle transfer.CycleID) (transfer.Point, error) {
	all, err := k.store.Snapshots(ctx, k.id)
	if err != nil {
		return transfer.Point{}, err
	}
	points := transfer.Points(all)
	if len(points) == 0 {
		return transfer.Point{}, transfer.Fail(transfer.Permanent, "find a recovery point of "+k.name, errNoPoint, "Replicate it first: snapferry sync "+k.name)
	}
	if cycle == "" {
		return newest(points, k.name)
	}
	return pickCycle(points, string(cycle), string(cycle))
}

// launchRow is a job as the fleet's books and the lists have it.
func launchRow(j launch.Job) (schedule.LaunchJob, error) {
	doc, err := json.Marshal(j)
	if err != nil {
		return schedule.LaunchJob{}, fmt.Errorf("write down launch %s: %w", j.ID, err)
	}
	row := schedule.LaunchJob{
		ID: string(j.ID), VM: j.Request.VM, VMName: j.Request.VMName, Purpose: string(j.Request.Purpose), State: string(j.State),
		Point: j.Request.Point.Cycle, Instance: j.Instance, Address: j.PrivateIP, Error: j.Error, Hint: j.Hint,
		Made: j.Made, Ends: j.Ends, Over: j.State == launch.StateEnded || j.State == launch.StateFinalized, Doc: doc,
	}
	if d := j.Downtime; d != nil {
		row.ToLaunch, row.Downtime = schedule.Duration(d.ToLaunch), schedule.Duration(d.Total)
	}
	return row, nil
}

// launchJobs reads the jobs of rows that hold them.
func launchJobs(rows []schedule.LaunchJob) ([]launch.Job, error) {
	var jobs []launch.Job
	for _, row := range rows {
		var j launch.Job
		if err := json.Unmarshal(row.Doc, &j); err != nil {
			return nil, fmt.Errorf("read launch %s: %w", row.ID, err)
		}
		jobs = append(jobs, j)
	}
	return jobs, nil
}

// errNoLaunch: there is nothing that the action could be done to.
var errNoLaunch = errors.New("there is no such launch")

// openJob is the newest job of a purpose that is not over: of those that are
// known, or else what AWS has of one.
func (k *launching) openJob(ctx context.Context, l *launch.Launcher, p launch.Purpose, known []launch.Job) (*launch.Job, error) {
	for i := range known {
		if known[i].Request.Purpose == p {
			return &known[i], nil
		}
	}
	inventory, err := l.Inventory(ctx, k.id)
	if err != nil {
		return nil, err
	}
	jobs := launch.JobsOf(inventory)
	for i := len(jobs) - 1; i >= 0; i-- { // they sort by time
		if j := jobs[i]; j.Request.Purpose == p {
			j.Request.VMName = k.name
			if p == launch.ForCutover { // whoever began it is gone, and its record of the power-off
				j.Records = append(j.Records, launch.Record{Step: launch.StepPowerOff, Started: time.Now()})
			}
			return &j, nil
		}
	}
	return nil, transfer.Fail(transfer.Permanent, fmt.Sprintf("find the %s of %s", p, k.name), errNoLaunch, "snapferry launches lists what there is.")
}
