package convert

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"snapferry/transfer"
)

// Converter converts boot disks of recovery points. Its methods may be called
// from many goroutines; one point is converted once at a time.
type Converter struct {
	transfer.Env
	// Folder holds what conversions keep while they run, a few hundred MiB each:
	// what was read of the boot disk, and what was changed. Sweep takes the same.
	Folder string
	Tags   map[string]string // on what is made in AWS
	Wishes Wishes
	// DryRun ends with the plan: nothing is made.
	DryRun bool
}

// Report is a conversion as a plain value.
type Report struct {
	VM     transfer.VMID       `json:"vm"`
	VMName string              `json:"vmName"`
	Point  transfer.CycleID    `json:"point"`
	Boot   transfer.SnapshotID `json:"boot"` // the point's own snapshot of the boot disk
	// Snapshot is what is to be launched: the conversion, or Boot itself where
	// the guest is ready already. "" after a dry run that would make one.
	Snapshot transfer.SnapshotID `json:"snapshot,omitempty"`
	// Found: an earlier conversion of the point serves; nothing was done.
	Found   bool                 `json:"found"`
	DryRun  bool                 `json:"dryRun,omitempty"`
	Plan    Plan                 `json:"plan"`
	Made    []Made               `json:"made,omitempty"`
	Base    BaseStats            `json:"base"` // what was read of the boot disk
	Put     *transfer.DiskReport `json:"put,omitempty"`
	Started time.Time            `json:"started"`
	Ended   time.Time            `json:"ended"`
	// What took how long: starting the appliance and looking, changing, putting.
	LookTook   time.Duration `json:"lookTookNs"`
	ChangeTook time.Duration `json:"changeTookNs"`
	PutTook    time.Duration `json:"putTookNs"`
}

// BootDisk is the disk of a point that the machine starts from: vSphere's first,
// by device key, unless told otherwise.
func BootDisk(p transfer.Point) (transfer.Snapshot, error) {
	if !p.Complete {
		return transfer.Snapshot{}, transfer.Fail(transfer.Permanent, fmt.Sprintf("convert point %s of %s", p.Cycle, p.VMName),
			fmt.Errorf("it is not complete: %s", p.Missing), "Choose a complete point.")
	}
	return p.Disks[0], nil
}

// Run makes the guest of a point ready for EC2, or finds that it is, or that an
// earlier run did it: in the tags of AWS, which the point was read from. Wishes
// do not make another conversion of a point: delete the one that is there.
func (c *Converter) Run(ctx context.Context, p transfer.Point) (Report, error) {
	rep := Report{VM: p.VM, VMName: p.VMName, Point: p.Cycle, Started: c.Now(), DryRun: c.DryRun}
	err := c.run(ctx, p, &rep)
	rep.Ended = c.Now()
	return rep, err
}

func (c *Converter) run(ctx context.Context, p transfer.Point, rep *Report) error {
	boot, err := BootDisk(p)
	if err != nil {
		return err
	}
	rep.Boot = boot.ID
	if done := p.ConversionOf(boot.ID); done != nil && !c.DryRun {
		rep.Snapshot, rep.Found = done.ID, true
		return nil
	}
	if err := Check(boot.Label.Guest.ID); err != nil {
		return transfer.Fail(transfer.Permanent, "convert "+p.VMName, err, "")
	}
	w, err := newWorkdir(c.Folder, key(p))
	if errors.Is(err, ErrBusy) {
		return transfer.Fail(transfer.Retry, "convert "+p.VMName, err, "Wait for it to end.")
	} else if err != nil {
		return err
	}
	job := conversion{Converter: c, w: w, boot: boot, rep: rep}
	err = job.do(ctx)
	err = errors.Join(err, w.remove())
	switch {
	case err != nil && ctx.Err() != nil:
		return transfer.Fail(transfer.Canceled, "convert "+p.VMName, err, "")
	case err != nil && errors.As(err, new(*Refused)):
		return transfer.Fail(transfer.Permanent, "convert "+p.VMName, err, "Launch the point without conversion if the guest is ready as it is.")
	case err != nil:
		return fmt.Errorf("convert %s: %w", p.VMName, err)
	}
	return nil
}

// key names the folder of a point's conversion. Short, for the sake of the
// sockets in it.
func key(p transfer.Point) string {
	sum := sha256.Sum256([]byte(p.VM.String() + " " + string(p.Cycle)))
	return hex.EncodeToString(sum[:8])
}

// conversion is one run.
type conversion struct {
	*Converter
	w    *workdir
	boot transfer.Snapshot
	rep  *Report
	base *Base
}

func (c *conversion) do(ctx context.Context) error {
	// Another process, or this one before a crash of its list, may have been
	// faster since the point was read.
	if found, err := c.again(ctx); err != nil || found {
		return err
	}
	reader, err := c.Store.Read(ctx, c.boot.ID)
	if err != nil {
		return err
	}
	if c.base, err = NewBase(ctx, reader, c.boot.Label.DiskSize, c.w.file("base")); err != nil {
		return err
	}
	defer func() { c.rep.Base = c.base.Stats(); _ = c.base.Close() }() // a cache: nothing to lose
	socket, stop, err := c.w.serve(ctx, c.base)
	if err != nil {
		return err
	}
	image, err := c.w.makeOverlay(ctx, socket)
	if err == nil {
		err = c.convert(ctx, image)
	}
	return errors.Join(err, stop())
}

// again looks for a conversion that has been completed by now.
func (c *conversion) again(ctx context.Context) (bool, error) {
	if c.DryRun {
		return false, nil
	}
	all, err := c.Store.Snapshots(ctx, c.boot.Label.VM)
	if err != nil {
		return false, err
	}
	for _, p := range transfer.Points(all) {
		if p.Cycle != c.boot.Label.Cycle {
			continue
		}
		if done := p.ConversionOf(c.boot.ID); done != nil {
			c.rep.Snapshot, c.rep.Found = done.ID, true
			return true, nil
		}
	}
	return false, nil
}

// convert changes the guest on the overlay, and puts what that changed.
func (c *conversion) convert(ctx context.Context, image string) error {
	ready, err := c.change(ctx, image)
	if err != nil || c.DryRun {
		return err
	}
	if ready {
		c.rep.Snapshot = c.boot.ID
		return nil
	}
	began := c.Now()
	o, err := c.w.openOverlay(ctx, image)
	if err != nil {
		return err
	}
	put := transfer.Convert{
		Env: c.Env, Base: c.boot, Reader: o, Changed: o.changed, Known: c.base.Digest,
		Reason: "made ready for EC2: " + cmp.Or(c.rep.Plan.Guest, "guest"), Tags: c.Tags, Scratch: c.w.path,
	}
	done, err := put.Run(ctx)
	c.rep.Put, c.rep.PutTook = &done.Report, c.Now().Sub(began)
	_ = o.Close(ctx) // reading only
	if err == nil {
		c.rep.Snapshot = cmp.Or(done.Snapshot, c.boot.ID)
	}
	return err
}

// change looks at the guest, decides, and unless it is ready or this is a dry
// run makes the changes.
func (c *conversion) change(ctx context.Context, image string) (ready bool, err error) {
	began := c.Now()
	s, err := c.w.appliance(ctx, image, "qcow2", c.DryRun)
	if err != nil {
		return false, err
	}
	defer s.end()
	facts, err := s.look(ctx, c.boot.Label.Guest.Firmware)
	if err != nil {
		return false, err
	}
	c.rep.LookTook = c.Now().Sub(began)
	c.rep.Plan = Decide(facts, c.Wishes)
	switch {
	case c.rep.Plan.Refused != "":
		return false, &Refused{c.rep.Plan.Refused}
	case c.rep.Plan.Ready || c.DryRun:
		return c.rep.Plan.Ready, s.close(ctx)
	}
	began = c.Now()
	defer func() { c.rep.ChangeTook = c.Now().Sub(began) }()
	if err := s.unmount(ctx, facts); err != nil {
		return false, err
	}
	if c.rep.Made, err = s.apply(ctx, facts, c.rep.Plan); err != nil {
		return false, err
	}
	return false, s.close(ctx)
}
