package launch

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"snapferry/transfer"
)

// settle waits while something may be there that EC2 does not show yet: a
// request to make it was sent, and its answer never came. Without this an
// instance could appear once everything was believed to be gone.
func (r *run) settle(ctx context.Context) error {
	known := r.job.Asked.Add(r.timing.Fresh)
	if r.job.Asked.IsZero() || !r.now().Before(known) {
		return nil
	}
	return r.until(ctx, "wait for what was asked for last", 2*r.timing.Fresh, func(ctx context.Context) (bool, string, error) {
		if !r.now().Before(known) {
			return true, "", r.seeInstance(ctx)
		}
		for _, see := range []func(context.Context) error{r.seeImage, r.seeImport, r.seeInstance} {
			if err := see(ctx); err != nil {
				return false, "", err
			}
		}
		gone, err := r.imageGone(ctx)
		return !r.unseen(gone), "not known", err
	})
}

// imageGone reports whether the job's image was there and is no more: an earlier
// teardown came that far.
func (r *run) imageGone(ctx context.Context) (bool, error) {
	was := r.job.did(StepImage) || r.job.did(StepRun) || r.job.did(StepRunning) // a repeat leaves out what it finds
	if r.world.Image != nil || r.job.Image == "" || !was {
		return false, nil
	}
	i, err := r.image(ctx, r.job.Image)
	return i == nil || i.State == "deregistered", err
}

// unseen reports whether a step that makes something was begun, and what it
// made is not shown: by its own end EC2 may have answered and show nothing yet.
func (r *run) unseen(imageGone bool) bool {
	for step, seen := range map[StepName]bool{StepImage: r.world.Image != nil || imageGone, StepImport: r.world.Import != nil, StepRun: r.world.Instance != nil} {
		if r.job.began(step) && !seen {
			return true
		}
	}
	for _, step := range []StepName{StepRoot, StepData} { // those wait for their volumes
		if r.job.began(step) && !r.job.did(step) {
			return true
		}
	}
	return false
}

// spared says what a teardown leaves.
type spared struct {
	instance string // of a cutover that is finalized
	conv     bool   // the conversion
}

// of reports whether the resource is a finalized instance or one of its volumes:
// attached, or of a disk and detached by somebody since, who has the data there.
func (r Resource) of(instance string) bool {
	return r.ID == instance || r.Kind == KindVolume && (r.Attached == instance || r.Disk > 0)
}

// doomed are the resources of a job that go, in no order; marked are snapshots
// that only lose its mark. It is pure.
func doomed(inventory []Resource, j Job, keep spared) (going, marked []Resource) {
	for _, res := range inventory {
		switch {
		case res.VM != j.Request.VM:
		case res.Kind == KindSnapshot || res.Kind == KindConversion:
			mine := slices.Contains(res.InUse, string(j.ID))
			ofPoint := res.Kind == KindConversion && res.Point == j.Request.Point.Cycle && res.State == string(transfer.Completed)
			switch {
			case ofPoint && !keep.conv && (len(res.InUse) == 0 || mine && len(res.InUse) == 1):
				going = append(going, res)
			case mine:
				marked = append(marked, res)
			}
		case res.Job != j.ID && (res.ID != j.Instance || res.Kind != KindInstance):
		case keep.instance != "" && res.of(keep.instance):
		default:
			going = append(going, res)
		}
	}
	return going, marked
}

// teardown ends everything of the job, looking again until nothing is left.
// What is gone already is no error.
func (r *run) teardown(ctx context.Context, keep spared) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	what := "end " + string(r.job.ID)
	limit := r.timing.Terminate + r.timing.Volume
	return r.until(ctx, what, limit, func(ctx context.Context) (bool, string, error) {
		inventory, err := r.Inventory(ctx, r.job.Request.VM)
		if err != nil {
			return false, "", err
		}
		going, marked := doomed(inventory, *r.job, keep)
		for _, res := range going {
			if err := r.remove(ctx, res, going); err != nil {
				return false, "", err
			}
		}
		if len(going) > 0 {
			return false, fmt.Sprintf("not gone: %v", going), nil
		}
		for _, res := range marked {
			rest := slices.DeleteFunc(slices.Clone(res.InUse), func(u string) bool { return u == string(r.job.ID) })
			if err := r.setUsers(ctx, transfer.SnapshotID(res.ID), rest); err != nil {
				return false, "", err
			}
		}
		return true, "", nil
	})
}

// remove begins the end of one resource, or leaves it for the next look while
// something else must go first.
func (r *run) remove(ctx context.Context, res Resource, all []Resource) error {
	there := func(kinds ...ResourceKind) bool {
		return slices.ContainsFunc(all, func(o Resource) bool { return slices.Contains(kinds, o.Kind) })
	}
	what := "remove " + res.String()
	var err error
	switch res.Kind {
	case KindInstance:
		if res.State != "shutting-down" {
			_, err = call(ctx, r.Launcher, what, r.ec2.TerminateInstances, &ec2.TerminateInstancesInput{InstanceIds: []string{res.ID}})
		}
	case KindVolume:
		if res.State == "in-use" || there(KindInstance) {
			return nil
		}
		_, err = call(ctx, r.Launcher, what, r.ec2.DeleteVolume, &ec2.DeleteVolumeInput{VolumeId: aws.String(res.ID)})
	case KindImport:
		_, err = call(ctx, r.Launcher, what, r.ec2.CancelImportTask, &ec2.CancelImportTaskInput{ImportTaskId: aws.String(res.ID)})
	case KindImage:
		_, err = call(ctx, r.Launcher, what, r.ec2.DeregisterImage, &ec2.DeregisterImageInput{ImageId: aws.String(res.ID)})
	case KindConversion, KindImported:
		if there(KindImage, KindImport) {
			return nil
		}
		_, err = call(ctx, r.Launcher, what, r.ec2.DeleteSnapshot, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(res.ID)})
	default:
		return fmt.Errorf("%s: a launch does not remove those", what)
	}
	switch code(err) {
	case "VolumeInUse", "InvalidSnapshot.InUse", "IncorrectState", "IncorrectInstanceState": // not yet
		return nil
	}
	if isMissing(err) {
		return nil
	}
	return err
}
