package aws

import "time"

// rootTask replaces the root volume of a running instance.
type rootTask struct {
	meta
	timed    // pending, in-progress, succeeded, failing, failed
	instance *instance
	image    string
	snapshot string
	volume   *volume // the new one
	remove   bool    // delete the old one
	delay    time.Duration
	fails    bool
}

func (e *Emulator) settleRootTask(t *rootTask, now time.Time) {
	for t.step(now) {
		switch {
		case t.state == "in-progress" && (t.fails || t.instance.state != "running" || t.volume.state != "available"):
			t.enter("failing", t.since)
			t.then("failed", t.delay)
		case t.state == "in-progress":
			t.then("succeeded", t.delay)
		case t.state == "succeeded":
			e.swapRoot(t)
		}
	}
}

// swapRoot puts the new volume into the place of the old one; the instance
// starts anew.
func (e *Emulator) swapRoot(t *rootTask) {
	i := t.instance
	for _, old := range e.volumesOf(i) {
		if old.attached.device != i.image.rootDevice {
			continue
		}
		e.attach(t.volume, i, old.attached.device, old.attached.remove, 0)
		old.attached = nil
		old.enter("available", e.now())
		if t.remove {
			e.removeVolume(old)
		}
	}
	if i.state == "running" {
		i.enter("running", t.since) // the checks begin again
	}
}

type xmlRootTask struct {
	ID       string   `xml:"replaceRootVolumeTaskId"`
	Instance string   `xml:"instanceId"`
	State    string   `xml:"taskState"`
	Start    string   `xml:"startTime"`
	Complete string   `xml:"completeTime,omitempty"`
	Image    string   `xml:"imageId,omitempty"`
	Snapshot string   `xml:"snapshotId,omitempty"`
	Delete   bool     `xml:"deleteReplacedRootVolume"`
	TagSet   *xmlTags `xml:"tagSet"`
}

func (x xmlRootTask) resource() resource {
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{"instance-id": x.Instance, "task-state": x.State}}
}

func (e *Emulator) describeRootTask(t *rootTask) xmlRootTask {
	x := xmlRootTask{ID: t.id, Instance: t.instance.id, State: t.state, Start: ec2Stamp(t.made), Image: t.image, Snapshot: t.snapshot, Delete: t.remove, TagSet: xmlTagSet(e.shownTags(&t.meta))}
	if t.state == "succeeded" || t.state == "failed" {
		x.Complete = ec2Stamp(t.since)
	}
	return x
}

type rootTaskOutput struct {
	Task xmlRootTask `xml:"replaceRootVolumeTask"`
}

func (c *call) createRootTask(p *params) (any, *apiError) {
	id, image, token := p.required("InstanceId"), p.str("ImageId"), p.str("ClientToken")
	snapshotID, volumeID, remove := p.str("SnapshotId"), p.str("VolumeId"), p.boolean("DeleteReplacedRootVolume")
	rate, tags := p.optInt("VolumeInitializationRate"), p.tagSpecifications("replace-root-volume-task")
	if (image != "" && snapshotID != "") || (volumeID != "" && image+snapshotID != "") {
		p.fail("InvalidParameterCombination", "Only one of ImageId, SnapshotId and VolumeId can be specified.")
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	if err := c.mayTag(len(tags) > 0); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	if answer, err := c.repeated(token); err != nil || answer != nil {
		if err != nil {
			return nil, err
		}
		return answer(), nil
	}
	i, err := e.instance(id)
	if err != nil {
		return nil, err
	}
	v, err := c.replacement(i, image, snapshotID, volumeID, rate)
	if err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	if volumeID == "" {
		v.enter("available", e.now())
		e.cloud.volumes[v.id] = v
	}
	t := &rootTask{
		meta: c.newMeta("replacevol", tags), instance: i, image: image, snapshot: snapshotID, volume: v, remove: remove,
		delay: e.opt.TaskDelay / 2, fails: c.lie == lieFailure || v.keyUnknown,
	}
	t.enter("pending", e.now())
	t.then("in-progress", t.delay)
	e.cloud.rootTasks[t.id] = t
	answer := func() any { return rootTaskOutput{e.describeRootTask(t)} }
	c.remember(token, answer)
	return answer(), nil
}

// replacement finds or makes the new root volume.
func (c *call) replacement(i *instance, image, snapshotID, volumeID string, rate *int64) (*volume, *apiError) {
	e := c.e
	if i.state != "running" {
		return nil, ec2Fault("IncorrectInstanceState", "The instance '%s' is not in the 'running' state.", i.id)
	}
	old := e.rootOf(i)
	if old == nil {
		return nil, ec2Fault("IncorrectState", "The instance '%s' has no root volume.", i.id)
	}
	for _, t := range e.cloud.rootTasks {
		if t.instance == i && t.next != "" {
			return nil, ec2Fault("IncorrectState", "A root volume replacement of instance '%s' is in progress.", i.id)
		}
	}
	if volumeID != "" {
		return e.givenRoot(i, old, volumeID)
	}
	spec := volumeSpec{kind: old.kind, size: old.size, rate: rate}
	if old.kind != "gp2" {
		spec.iops, spec.throughput = old.iops, old.through
	}
	if old.encrypted {
		yes := true
		spec.encrypted, spec.kmsKey = &yes, old.kmsKey
	}
	if err := e.rootSource(&spec, i, old, image, snapshotID); err != nil {
		return nil, err
	}
	snap := e.lookup(spec.snapshotID)
	if snap == nil {
		return nil, snapshotMissing(spec.snapshotID)
	}
	if err := spec.checkSource(snap); err != nil {
		return nil, err
	}
	return c.newVolume(c.newMeta("vol", nil), spec, i.zone, snap)
}

// rootOf is the root volume of an instance, or nil.
func (e *Emulator) rootOf(i *instance) *volume {
	for _, v := range e.volumesOf(i) {
		if v.attached.device == i.image.rootDevice {
			return v
		}
	}
	return nil
}

// rootSource finds the snapshot for a new root volume: of the launch, the one
// that was named, or that of an image.
func (e *Emulator) rootSource(spec *volumeSpec, i *instance, old *volume, image, snapshotID string) *apiError {
	launched := i.image.rootSnapshot()
	switch {
	case snapshotID != "" && snapshotID != launched && snapshotID != old.snapshotID:
		if e.lookup(snapshotID) == nil {
			return snapshotMissing(snapshotID)
		}
		return ec2Fault("InvalidParameterValue", "The snapshot %s was not created from the root volume of the instance %s.", snapshotID, i.id)
	case snapshotID != "":
		spec.snapshotID = snapshotID
	case image != "":
		img, err := e.liveImage(image)
		if err != nil {
			return err
		}
		if err := i.likeImage(img); err != nil {
			return err
		}
		spec.snapshotID = img.rootSnapshot()
		if snap := e.lookup(spec.snapshotID); snap != nil {
			spec.size = max(old.size, snap.size)
		}
	default:
		spec.snapshotID = launched
	}
	return nil
}

func (img *machineImage) rootSnapshot() string {
	for _, m := range img.mappings {
		if m.device == img.rootDevice && m.ebs != nil {
			return m.ebs.snapshotID
		}
	}
	return ""
}

// likeImage refuses an image that would change what the instance is billed as
// or how it starts.
func (i *instance) likeImage(img *machineImage) *apiError {
	old := i.image
	switch {
	case img.arch != old.arch, img.virtualization != old.virtualization, img.usage != old.usage, img.platform != old.platform, img.bootMode != old.bootMode:
		return ec2Fault("InvalidParameterValue", "The image %s does not have the architecture, virtualization type, billing information and boot mode of the instance %s.", img.id, i.id)
	}
	return nil
}

// givenRoot checks a volume that is to become the root volume.
func (e *Emulator) givenRoot(i *instance, old *volume, id string) (*volume, *apiError) {
	v, err := e.volume(id)
	switch {
	case err != nil:
		return nil, err
	case v.attached != nil:
		return nil, ec2Fault("VolumeInUse", "%s is already attached to an instance", id)
	case v.state != "available":
		return nil, ec2Fault("IncorrectState", "Volume '%s' is not 'available'.", id)
	case v.zone != i.zone:
		return nil, ec2Fault("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", id, i.id)
	case old.encrypted && !v.encrypted:
		return nil, ec2Fault("InvalidParameterValue", "The volume %s must be encrypted since the root volume of %s is.", id, i.id)
	}
	return v, nil
}

func (c *call) describeRootTasks(p *params) (any, *apiError) {
	ids, fs, g := p.list("ReplaceRootVolumeTaskId"), p.filters(), p.paging(1, 50)
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	items, err := shown(e, e.cloud.rootTasks, func(t *rootTask) *meta { return &t.meta }, ids,
		absent("InvalidReplaceRootVolumeTaskId.NotFound", "replace root volume task ID"), e.describeRootTask)
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlRootTask] `xml:"replaceRootVolumeTaskSet"`
		Next *string             `xml:"nextToken,omitempty"`
	}{xmlSet[xmlRootTask]{items}, next}, err
}
