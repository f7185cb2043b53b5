package aws

import "time"

func (c *call) attachVolume(p *params) (any, *apiError) {
	device, instanceID, id := p.required("Device"), p.required("InstanceId"), p.required("VolumeId")
	if err := p.complete(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	v, err := e.volume(id)
	if err != nil {
		return nil, err
	}
	i, err := e.liveInstance(instanceID)
	if err != nil {
		return nil, err
	}
	if err := e.checkAttach(v, i, device); err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	e.attach(v, i, device, false, e.opt.VolumeDelay)
	return v.describeAttachment(), nil
}

// attach puts the volume into the instance; the cloud is locked.
func (e *Emulator) attach(v *volume, i *instance, device string, remove bool, delay time.Duration) {
	now := e.now()
	v.enter("in-use", now)
	v.attached = &attachment{instance: i, device: device, remove: remove, made: now}
	v.attached.enter("attaching", now)
	v.attached.then("attached", delay)
}

func (e *Emulator) checkAttach(v *volume, i *instance, device string) *apiError {
	switch {
	case v.attached != nil:
		return ec2Fault("VolumeInUse", "%s is already attached to an instance", v.id)
	case v.state != "available":
		return ec2Fault("IncorrectState", "Volume '%s' is not 'available'.", v.id)
	case v.zone != i.zone:
		return ec2Fault("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", v.id, i.id)
	case i.state != "running" && i.state != "stopped":
		return ec2Fault("IncorrectState", "Instance '%s' is not 'running'.", i.id)
	case !deviceName.MatchString(device):
		return ec2Fault("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device)
	}
	n := 0
	for _, o := range e.volumesOf(i) {
		if sameDevice(o.attached.device, device) {
			return ec2Fault("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
		}
		n++
	}
	if n >= i.kind.room(len(i.nics)) {
		return ec2Fault("AttachmentLimitExceeded", "Attachment count to instance %s exceeds the limit for %s, which is %d with %d network interfaces", i.id, i.kind.name, i.kind.room(len(i.nics)), len(i.nics))
	}
	return nil
}

// sameDevice knows the two spellings of a name: /dev/sdf and sdf are one.
func sameDevice(a, b string) bool {
	trim := func(s string) string {
		if len(s) > 5 && s[:5] == "/dev/" {
			return s[5:]
		}
		return s
	}
	return trim(a) == trim(b)
}

// volumesOf lists the volumes of an instance, by device.
func (e *Emulator) volumesOf(i *instance) []*volume {
	var out []*volume
	for _, v := range e.cloud.volumes {
		if v.attached != nil && v.attached.instance == i {
			out = append(out, v)
		}
	}
	sortBy(out, func(v *volume) string { return v.attached.device })
	return out
}

func (c *call) detachVolume(p *params) (any, *apiError) {
	device, instanceID, id, force := p.str("Device"), p.str("InstanceId"), p.required("VolumeId"), p.boolean("Force")
	if err := p.complete(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	v, err := e.volume(id)
	if err != nil {
		return nil, err
	}
	a := v.attached
	switch {
	case a == nil:
		return nil, ec2Fault("IncorrectState", "Volume '%s' is in the 'available' state.", id)
	case instanceID != "" && instanceID != a.instance.id || device != "" && !sameDevice(device, a.device):
		return nil, ec2Fault("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", id, instanceID, device)
	case a.device == a.instance.image.rootDevice && a.instance.state != "stopped":
		return nil, ec2Fault("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", id, a.instance.id)
	case a.state == "detaching" && !force:
		return nil, ec2Fault("IncorrectState", "Volume '%s' is in the 'detaching' state.", id)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	a.enter("detaching", e.now())
	a.then(gone, e.opt.VolumeDelay)
	if c.lie == LieStuck && !force {
		a.enter("busy", e.now()) // the guest holds on to it
	}
	return v.describeAttachment(), nil
}

// modification is a change of a volume under way.
type modification struct {
	timed // modifying, optimizing, completed, failed
	was   volumeSpec
	size  int64 // before
	at    time.Time
	v     *volume
	to    volumeSpec
}

type xmlModification struct {
	VolumeID       string `xml:"volumeId"`
	State          string `xml:"modificationState"`
	Progress       int64  `xml:"progress"`
	Start          string `xml:"startTime"`
	End            string `xml:"endTime,omitempty"`
	Size           int64  `xml:"originalSize"`
	Kind           string `xml:"originalVolumeType"`
	IOPS           *int64 `xml:"originalIops,omitempty"`
	Throughput     *int64 `xml:"originalThroughput,omitempty"`
	ToSize         int64  `xml:"targetSize"`
	ToKind         string `xml:"targetVolumeType"`
	ToIOPS         *int64 `xml:"targetIops,omitempty"`
	ToThroughput   *int64 `xml:"targetThroughput,omitempty"`
	StatusMessage  string `xml:"statusMessage,omitempty"`
	OriginalAttach bool   `xml:"originalMultiAttachEnabled"`
}

func (m *modification) describe() xmlModification {
	x := xmlModification{
		VolumeID: m.v.id, State: m.state, Start: ec2Stamp(m.at), Size: m.size, Kind: m.was.kind, IOPS: m.was.iops, Throughput: m.was.throughput,
		ToSize: m.to.size, ToKind: m.to.kind, ToIOPS: m.to.iops, ToThroughput: m.to.throughput,
	}
	switch m.state {
	case "completed":
		x.Progress, x.End = 100, ec2Stamp(m.since)
	case "failed":
		x.StatusMessage, x.End = "The modification failed.", ec2Stamp(m.since)
	}
	return x
}

func (x xmlModification) resource() resource {
	return resource{fields: map[string]string{"volume-id": x.VolumeID, "modification-state": x.State}}
}

// modifyPause is how long a volume must rest between modifications.
const modifyPause = 6 * time.Hour

func (c *call) modifyVolume(p *params) (any, *apiError) {
	id := p.required("VolumeId")
	s := volumeSpec{kind: p.str("VolumeType"), size: p.integer("Size"), iops: p.optInt("Iops"), throughput: p.optInt("Throughput")}
	if err := p.complete(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	v, err := e.volume(id)
	if err != nil {
		return nil, err
	}
	was := volumeSpec{kind: v.kind, size: v.size, iops: v.iops, throughput: v.through}
	if was.kind == "gp2" {
		was.iops = nil // it follows the size
	}
	to := was.merge(s)
	switch {
	case v.state != "available" && v.state != "in-use":
		return nil, ec2Fault("IncorrectState", "The volume '%s' is '%s'", id, v.state)
	case v.modified != nil && e.now().Before(v.modified.at.Add(modifyPause)):
		return nil, ec2Fault("VolumeModificationRateExceeded", "You've reached the maximum modification rate per volume limit. Wait at least 6 hours between modifications per EBS volume.")
	case to.size < v.size:
		return nil, ec2Fault("InvalidParameterValue", "New size cannot be smaller than existing size")
	}
	if err := to.check(0); err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	return struct {
		M xmlModification `xml:"volumeModification"`
	}{c.modify(v, was, to).describe()}, nil
}

func (c *call) modify(v *volume, was, to volumeSpec) *modification {
	e := c.e
	m := &modification{was: was, size: v.size, at: e.now(), v: v, to: to}
	m.to.iops, m.to.throughput = to.performance(to.size)
	m.enter("modifying", m.at)
	v.modified = m
	if c.lie == lieFailure {
		m.then("failed", e.opt.VolumeDelay)
		return m
	}
	m.then("optimizing", e.opt.VolumeDelay)
	v.kind, v.size, v.iops, v.through = to.kindOr(), to.size, m.to.iops, m.to.throughput
	v.disk.grow(v.size << 30)
	return m
}

func (c *call) describeModifications(p *params) (any, *apiError) {
	ids, fs, g := p.list("VolumeId"), p.filters(), p.paging(5, 500)
	p.boolean("IncludeManagedResources")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	all := map[string]*volume{}
	for id, v := range e.cloud.volumes {
		if v.modified != nil {
			all[id] = v
		}
	}
	items, err := shown(e, all, func(v *volume) *meta { return &v.meta }, ids, func(id string) *apiError {
		return ec2Fault("InvalidVolumeModification.NotFound", "Modification for volume '%s' does not exist.", id)
	}, func(v *volume) xmlModification { return v.modified.describe() })
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return struct {
		Set  xmlSet[xmlModification] `xml:"volumeModificationSet"`
		Next *string                 `xml:"nextToken,omitempty"`
	}{xmlSet[xmlModification]{items}, next}, err
}
