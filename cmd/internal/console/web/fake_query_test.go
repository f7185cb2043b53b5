package web_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

func (f *fake) VMs(_ context.Context, q schedule.VMQuery) (schedule.VMPage, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.fail != nil {
		return schedule.VMPage{}, f.fail
	}
	p := schedule.VMPage{Counts: map[schedule.Replication]int{}, Lags: map[string][]schedule.LagSample{}}
	var hits []schedule.VMStatus
	text := strings.ToLower(q.Text)
	for _, v := range f.vms {
		if !strings.Contains(strings.ToLower(v.Name+"\n"+v.Path+"\n"+v.ID.String()), text) {
			continue
		}
		p.Counts[v.Replication]++
		if q.Replication != "" && v.Replication != q.Replication || q.Lifecycle != "" && v.Lifecycle != q.Lifecycle || q.Policy != "" && v.Policy != q.Policy || q.Wave != "" && v.Wave != q.Wave {
			continue
		}
		hits = append(hits, v)
	}
	slices.SortStableFunc(hits, func(a, b schedule.VMStatus) int {
		n := 0
		switch q.Sort {
		case "lag":
			n = cmp.Compare(a.Lag, b.Lag)
		case "size":
			n = cmp.Compare(a.Bytes(), b.Bytes())
		case "backlog":
			n = cmp.Compare(a.Backlog, b.Backlog)
		case "state":
			n = cmp.Compare(a.Replication, b.Replication)
		case "next":
			n = a.Next.Compare(b.Next)
		}
		if q.Desc {
			n = -n
		}
		byName := cmp.Compare(a.Name, b.Name)
		if q.Desc && (q.Sort == "" || q.Sort == "name") {
			byName = -byName
		}
		return cmp.Or(n, byName)
	})
	p.Total = len(hits)
	from := min(q.Offset, len(hits))
	p.VMs = hits[from:min(from+cmp.Or(q.Limit, 100), len(hits))]
	for _, v := range p.VMs {
		p.Lags[v.ID.String()] = f.lags[v.ID.String()]
	}
	return p, nil
}

func (f *fake) find(id transfer.VMID) (*schedule.VMStatus, error) {
	for i := range f.vms {
		if f.vms[i].ID == id {
			return &f.vms[i], nil
		}
	}
	return nil, fmt.Errorf("VM %s: %w", id, schedule.ErrNotFound)
}

func (f *fake) VM(_ context.Context, id transfer.VMID) (schedule.VMDetail, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.find(id)
	if err != nil {
		return schedule.VMDetail{}, err
	}
	d := schedule.VMDetail{VMStatus: *v, Lags: f.lags[id.String()]}
	if v.Run != nil {
		run, _ := f.findRun(v.Run.ID)
		d.Run = &run
		if run.State.Ended() {
			d.Run = nil
		}
	}
	for _, r := range f.runs {
		if r.VM == id && len(d.Runs) < 10 {
			d.Runs = append(d.Runs, r)
		}
	}
	for _, a := range f.open {
		if a.VM == id {
			d.Alarms = append(d.Alarms, a)
		}
	}
	if v.Point.Cycle != "" {
		d.Points = points(v)
	}
	return d, nil
}

// points are what the default retention leaves after five weeks: three newest,
// seven daily, four weekly.
func points(v *schedule.VMStatus) []schedule.PointRow {
	ages := []time.Duration{0, 15 * time.Minute, 30 * time.Minute}
	for d := 1; d <= 7; d++ {
		ages = append(ages, time.Duration(d)*24*time.Hour+40*time.Minute)
	}
	for w := 2; w <= 4; w++ {
		ages = append(ages, time.Duration(w)*7*24*time.Hour)
	}
	var out []schedule.PointRow
	for i, age := range ages {
		p := schedule.PointRow{VM: v.ID, Cycle: transfer.CycleID(fmt.Sprintf("c%02d", i)), Frozen: v.Point.Instant.Add(-age), Complete: true, Kind: transfer.Delta, Disks: len(v.Disks), Blocks: int64(420 + (i*i*977)%2600)}
		switch i {
		case len(ages) - 1:
			p.Kind, p.Blocks = transfer.Seed, v.Bytes()/transfer.BlockSize*6/10
		case 8:
			p.Kind, p.Blocks = transfer.Compare, 14200
		case 4:
			p.Suspect = "an audit found 2 blocks that CBT had not reported"
		case 3, 7:
			p.Verified = p.Frozen.Add(5 * time.Hour)
		case 5:
			p.Proved = p.Frozen.Add(2 * time.Hour)
		}
		for range v.Disks {
			p.Snapshots = append(p.Snapshots, transfer.SnapshotID(fmt.Sprintf("snap-0%08x%08x", i*65537+11, len(p.Snapshots)*2654435)))
		}
		out = append(out, p)
	}
	return out
}

func (f *fake) findRun(id int64) (schedule.Run, error) {
	for _, r := range f.runs {
		if r.ID == id {
			return r, nil
		}
	}
	return schedule.Run{}, fmt.Errorf("run %d: %w", id, schedule.ErrNotFound)
}

func (f *fake) Runs(_ context.Context, q schedule.RunQuery) ([]schedule.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.Run
	for _, r := range f.runs {
		if q.Active && r.State.Ended() || q.State != "" && r.State != q.State || q.Before != 0 && r.ID >= q.Before || q.VM != nil && *q.VM != r.VM {
			continue
		}
		if out = append(out, r); len(out) == cmp.Or(q.Limit, 50) {
			break
		}
	}
	return out, nil
}

func (f *fake) Run(_ context.Context, id int64) (schedule.Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.findRun(id)
}

func (f *fake) RunLog(_ context.Context, run, after int64, limit int) ([]schedule.LogLine, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.LogLine
	for _, l := range f.log[run] {
		if l.Seq > after && len(out) < limit {
			out = append(out, l)
		}
	}
	return out, nil
}

func (f *fake) Events(_ context.Context, after int64, limit int) ([]schedule.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schedule.Event
	for _, e := range f.events {
		if e.ID > after && len(out) < limit {
			out = append(out, e)
		}
	}
	return out, nil
}

func (f *fake) LastEvent(context.Context) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.events)), nil
}

func (f *fake) Alarms(_ context.Context, cleared bool, limit int) ([]schedule.Alarm, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.open)
	if cleared && len(out) > 0 {
		a := out[0]
		a.ID, a.Kind, a.Text, a.Hint, a.Cleared = 3, schedule.AlarmAppliance, "sf-fra-1 was silent for 74 s; sf-fra-2 took its runs over", "", theNow.Add(-19*time.Hour)
		a.VM, a.VMName, a.Since = transfer.VMID{}, "", theNow.Add(-20*time.Hour)
		out = append(out, a)
	}
	return out[:min(limit, len(out))], nil
}

func (f *fake) Deeds(_ context.Context, before int64, limit int) ([]schedule.Deed, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(f.deeds), func(d schedule.Deed) bool { return before != 0 && d.ID >= before })
	return out[:min(limit, len(out))], nil
}

func (f *fake) Policies(context.Context) ([]schedule.PolicyRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.vms) == 0 {
		return nil, nil
	}
	n := map[string]int{}
	for _, v := range f.vms {
		n[v.Policy]++
	}
	return []schedule.PolicyRow{
		{Origin: "file", VMs: n["gold-15m"], ProveCost: "1,739 tests a month of 400 VMs: 174 instance hours; prices of instances and volumes are not known here", Policy: schedule.Policy{Name: "gold-15m", Every: schedule.Duration(15 * time.Minute), TimeZone: "Europe/Berlin", Quiesce: transfer.QuiesceTry, Priority: 10, Prove: &schedule.Prove{Every: schedule.Duration(7 * 24 * time.Hour)},
			Bandwidth: []schedule.Bandwidth{{Window: schedule.Window{Days: "mon-fri", From: "08:00", To: "18:00"}, Limit: 200e6}}, Match: []schedule.Match{{Tag: "tier:gold"}, {Folder: "/DC0/vm/prod/databases"}}}},
		{Origin: "file", VMs: n["silver-1h"], Policy: schedule.Policy{Name: "silver-1h", Adaptive: &schedule.Adaptive{Floor: schedule.Duration(30 * time.Minute), Ceiling: schedule.Duration(4 * time.Hour)}, TimeZone: "Europe/Berlin",
			Blackout: []schedule.Window{{Days: "sun", From: "02:00", To: "05:00"}}, Retention: transfer.Policy{Last: 6, Daily: 7, Weekly: 4, Monthly: 3}, Match: []schedule.Match{{Tag: "tier:silver"}}}},
		{Origin: "api", VMs: n["night"], Policy: schedule.Policy{Name: "night", Cron: "30 22 * * *", TimeZone: "Europe/Berlin", Exclude: []string{"Hard disk 3"}, Match: []schedule.Match{{Folder: "/DC0/vm/prod/ci"}, {Name: "test-*", Attribute: "owner=test-team"}}}},
	}, nil
}

func (f *fake) Waves(context.Context) ([]schedule.Wave, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.waveList), nil
}

func (f *fake) Settings(context.Context) (schedule.Settings, error) {
	return schedule.Settings{Limits: schedule.DefaultLimits(), Groups: []schedule.SettingGroup{
		{Name: "vCenter", Items: []schedule.Setting{{Key: "vcenter.address", Value: "vcenter.dc0.example.com", From: "file"}, {Key: "vcenter.user", Value: "snapferry@vsphere.local", From: "file"}, {Key: "vcenter.password", Value: "set", From: "environment"}}},
		{Name: "AWS", Items: []schedule.Setting{{Key: "aws.region", Value: "eu-central-1", From: "file"}, {Key: "aws.kmsKey", From: "default"}, {Key: "aws.proxy", Value: "http://proxy.example.com:3128", From: "file"}}},
		{Name: "Server", Items: []schedule.Setting{{Key: "server.listen", Value: "10.20.4.5:8443", From: "file"}, {Key: "server.tokens", Value: "2 viewers, 3 operators", From: "file"}}},
	}}, nil
}

func (f *fake) ExportCSV(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "vm,wave\n")
	return err
}
