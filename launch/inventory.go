package launch

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/transfer"
)

// ResourceKind is what a resource is.
type ResourceKind string

// The kinds.
const (
	KindInstance   ResourceKind = "instance"
	KindVolume     ResourceKind = "volume"
	KindImage      ResourceKind = "image"
	KindImport     ResourceKind = "import"     // a running one
	KindSnapshot   ResourceKind = "snapshot"   // of a recovery point, or a draft
	KindConversion ResourceKind = "conversion" // a converted snapshot
	KindImported   ResourceKind = "imported"   // a snapshot that AWS's import made
)

// Resource is something of ours in AWS.
type Resource struct {
	Kind     ResourceKind     `json:"kind"`
	ID       string           `json:"id"`
	State    string           `json:"state,omitempty"`
	Launch   Purpose          `json:"launch,omitempty"`
	Job      JobID            `json:"job,omitempty"`
	Point    transfer.CycleID `json:"point,omitempty"` // of a conversion, the point that it converts
	GiB      int64            `json:"gib,omitempty"`
	Type     string           `json:"type,omitempty"`      // of instances and volumes
	Attached string           `json:"attached,omitempty"`  // of a volume: the instance
	Disk     int              `json:"disk,omitempty"`      // of a volume: the ordinal of the disk that it holds
	InUse    []string         `json:"inUse,omitempty"`     // of a snapshot: the jobs
	Ends     time.Time        `json:"ends,omitzero"`       // of a test
	Reverted bool             `json:"reverted,omitempty"`  // of a cutover instance
	Final    bool             `json:"finalized,omitempty"` // of a finalized cutover: it is the user's now, and nothing ends it
	VM       transfer.VMID    `json:"vm"`
	Proof    *Proof           `json:"proof,omitempty"` // of a snapshot
	Made     time.Time        `json:"made,omitzero"`
}

func (r Resource) String() string {
	s := string(r.Kind) + " " + r.ID
	if r.State != "" {
		s += " (" + r.State + ")"
	}
	return s
}

// Inventory lists everything of ours in AWS of one VM; of all VMs for the zero
// VMID. Terminated instances are not of it: EC2 shows them for an hour more.
func (l *Launcher) Inventory(ctx context.Context, vm transfer.VMID) ([]Resource, error) {
	filters := []types.Filter{filter("tag-key", tagVCenter)}
	if vm != (transfer.VMID{}) {
		filters = []types.Filter{filter("tag:"+tagVCenter, vm.VCenter), filter("tag:"+tagVM, vm.Moref)}
	}
	return l.inventory(ctx, filters)
}

func (l *Launcher) inventory(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	var all []Resource
	for _, list := range []func(context.Context, []types.Filter) ([]Resource, error){l.listInstances, l.listVolumes, l.listImages, l.listImports, l.listSnapshots} {
		some, err := list(ctx, filters)
		if err != nil {
			return nil, fmt.Errorf("list what is in AWS: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// tagged begins a resource by its tags.
func tagged(kind ResourceKind, id *string, state string, raw []types.Tag) Resource {
	tags := tagMap(raw)
	r := Resource{
		Kind: kind, ID: aws.ToString(id), State: state, Launch: Purpose(tags[tagLaunch]), Job: JobID(tags[tagJob]),
		Point: transfer.CycleID(tags[tagPoint]), VM: transfer.VMID{VCenter: tags[tagVCenter], Moref: tags[tagVM]},
		Reverted: tags[tagReverted] != "", Final: tags[tagFinal] != "", InUse: strings.Fields(tags[tagInUse]), Proof: ProofOf(tags),
	}
	r.Disk, _ = strconv.Atoi(tags[tagDisk])
	if t, err := time.Parse(time.RFC3339, tags[tagEnds]); err == nil {
		r.Ends = t
	}
	if r.Point == "" {
		r.Point = transfer.CycleID(cmp.Or(tags[tagConverts], tags[tagCycle]))
	}
	return r
}

func (l *Launcher) listInstances(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	in := &ec2.DescribeInstancesInput{Filters: filters}
	var all []Resource
	for {
		out, err := call(ctx, l, "look for instances", l.ec2.DescribeInstances, in)
		if err != nil {
			return nil, err
		}
		for _, res := range out.Reservations {
			for _, i := range res.Instances {
				seen := instanceOf(i)
				if seen.State == "terminated" {
					continue
				}
				r := tagged(KindInstance, i.InstanceId, seen.State, i.Tags)
				r.Type, r.Made = seen.Type, aws.ToTime(i.LaunchTime)
				all = append(all, r)
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func (l *Launcher) listVolumes(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	in := &ec2.DescribeVolumesInput{Filters: filters}
	var all []Resource
	for {
		out, err := call(ctx, l, "look for volumes", l.ec2.DescribeVolumes, in)
		if err != nil {
			return nil, err
		}
		for _, v := range out.Volumes {
			if v.State == types.VolumeStateDeleting || v.State == types.VolumeStateDeleted {
				continue
			}
			r := tagged(KindVolume, v.VolumeId, string(v.State), v.Tags)
			r.GiB, r.Type, r.Made, r.Attached = int64(aws.ToInt32(v.Size)), string(v.VolumeType), aws.ToTime(v.CreateTime), volumeOf(v).Instance
			all = append(all, r)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func (l *Launcher) listImages(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	in := &ec2.DescribeImagesInput{Filters: filters, Owners: []string{"self"}}
	var all []Resource
	for {
		out, err := call(ctx, l, "look for images", l.ec2.DescribeImages, in)
		if err != nil {
			return nil, err
		}
		for _, i := range out.Images {
			if i.State != types.ImageStateDeregistered {
				all = append(all, tagged(KindImage, i.ImageId, string(i.State), i.Tags))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

// listImports lists the imports that have not ended: the others cost nothing,
// and AWS forgets them by itself.
func (l *Launcher) listImports(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	in := &ec2.DescribeImportImageTasksInput{Filters: filters}
	var all []Resource
	for {
		out, err := call(ctx, l, "look for imports", l.ec2.DescribeImportImageTasks, in)
		if err != nil {
			return nil, err
		}
		for _, t := range out.ImportImageTasks {
			if s := aws.ToString(t.Status); !importEnded(s) {
				all = append(all, tagged(KindImport, t.ImportTaskId, s, t.Tags))
			}
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func importEnded(status string) bool {
	return slices.Contains([]string{"completed", "deleted", "deleting", "cancelled", "canceled"}, status)
}

func (l *Launcher) listSnapshots(ctx context.Context, filters []types.Filter) ([]Resource, error) {
	in := &ec2.DescribeSnapshotsInput{Filters: filters, OwnerIds: []string{"self"}}
	var all []Resource
	for {
		out, err := call(ctx, l, "look for snapshots", l.ec2.DescribeSnapshots, in)
		if err != nil {
			return nil, err
		}
		for _, s := range out.Snapshots {
			r := tagged(snapshotKind(tagMap(s.Tags)), s.SnapshotId, string(s.State), s.Tags)
			r.GiB, r.Made = int64(aws.ToInt32(s.VolumeSize)), aws.ToTime(s.StartTime)
			all = append(all, r)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			return all, nil
		}
	}
}

func snapshotKind(tags map[string]string) ResourceKind {
	switch {
	case tags[tagVersion] == "" && tags[tagJob] != "":
		return KindImported
	case tags[tagKind] == string(transfer.Conversion):
		return KindConversion
	}
	return KindSnapshot
}

// JobsOf makes jobs of what is left of them in AWS, for a caller that has lost
// its own. They can be ended, not gone on with: the settings are not in AWS.
func JobsOf(inventory []Resource) []Job {
	jobs := map[JobID]*Job{}
	for _, r := range inventory {
		if r.Job == "" {
			continue
		}
		j := jobs[r.Job]
		if j == nil {
			j = &Job{ID: r.Job, State: StateLaunching, Request: Request{VM: r.VM, Purpose: r.Launch, Settings: Defaults(r.Launch), Point: transfer.Point{Cycle: r.Point, VM: r.VM}}}
			jobs[r.Job] = j
		}
		if j.Ends.IsZero() {
			j.Ends = r.Ends
		}
		switch r.Kind {
		case KindInstance:
			j.Instance, j.State = r.ID, StateLaunched
			if r.Reverted {
				j.State = StateReverted
			}
			if r.Final {
				j.State = StateFinalized
			}
		case KindImage:
			j.Image = r.ID
		case KindImport:
			j.Import = r.ID
		}
		if !r.Made.IsZero() && (j.Made.IsZero() || r.Made.Before(j.Made)) {
			j.Made = r.Made
		}
	}
	var all []Job
	for _, j := range jobs {
		all = append(all, *j)
	}
	slices.SortFunc(all, func(a, b Job) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
