package aws

import (
	"regexp"
	"slices"
	"strconv"
	"time"
)

// volume is an EBS volume. The cloud's lock guards it, but not its disk.
type volume struct {
	meta
	timed            // creating, available, in-use, deleting, error
	snapshotID, zone string
	kind, kmsKey     string
	size             int64 // GiB
	iops, through    *int64
	rate             *int64
	encrypted        bool
	disk             *Disk
	attached         *attachment
	modified         *modification
	keyUnknown       bool // KMS will say so once it is asked
}

// attachment is a volume's place in an instance.
type attachment struct {
	timed    // attaching, attached, busy, detaching
	instance *instance
	device   string
	remove   bool // deleted with the instance
	made     time.Time
}

const gone = "gone"

func (e *Emulator) settleVolume(v *volume, now time.Time) {
	if v.step(now) && v.state == gone {
		delete(e.cloud.volumes, v.id)
	}
	if a := v.attached; a != nil && a.step(now) && a.state == gone {
		v.attached = nil
		v.enter("available", a.since)
	}
	if m := v.modified; m != nil && m.step(now) && m.state == "optimizing" {
		m.then("completed", e.opt.VolumeDelay)
		m.step(now)
	}
}

// newVolume makes a volume by spec; base is its snapshot or nil. It fails
// later, not now, if the key is not known.
func (c *call) newVolume(m meta, s volumeSpec, zone string, snap *snapshot) (*volume, *apiError) {
	e := c.e
	v := &volume{meta: m, zone: zone, kind: s.kindOr(), kmsKey: e.fullKey(s.kmsKey), size: s.size, rate: s.rate, snapshotID: s.snapshotID}
	e.mu.RLock()
	v.encrypted = e.encDefault || s.encrypted != nil && *s.encrypted
	key := e.kmsDefault
	e.mu.RUnlock()
	base, seed, garbage := newLayer(e.store, nil), v.id, false
	if snap != nil {
		if base = snap.readable(e.store, e.now(), 0); base == nil {
			return nil, ec2Fault("IncorrectState", "Snapshot is in invalid state - %s", e.state(snap))
		}
		if v.size == 0 {
			v.size = snap.size
		}
		v.encrypted = v.encrypted || snap.encrypted
		if v.kmsKey == "" {
			v.kmsKey = snap.kmsKey
		}
		seed, garbage = snap.id, v.encrypted
	}
	switch {
	case !v.encrypted:
		v.kmsKey = ""
	case v.kmsKey == "":
		v.kmsKey = key
	}
	v.iops, v.through = s.performance(v.size)
	v.keyUnknown = v.encrypted && (!e.keyExists(v.kmsKey) || e.denied("kms:CreateGrant"))
	v.disk = newDisk(newImage(e.store, base, v.size, garbage, seed), v.size<<30)
	return v, nil
}

func (c *call) createVolume(p *params) (any, *apiError) {
	zone, zoneID, token := p.str("AvailabilityZone"), p.str("AvailabilityZoneId"), p.str("ClientToken")
	s := p.volumeSpec("", "Size")
	if p.boolean("MultiAttachEnabled") {
		p.fail("InvalidParameterCombination", "Multi-Attach is not emulated.")
	}
	tags := p.tagSpecifications("volume")
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
	zone, err := e.zoneFor(zone, zoneID)
	if err != nil {
		return nil, err
	}
	snap, err := e.checkVolume(s)
	if err != nil {
		return nil, err
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	v, err := c.newVolume(c.newMeta("vol", tags), s, zone, snap)
	if err != nil {
		return nil, err
	}
	v.enter("creating", e.now())
	switch {
	case v.keyUnknown:
		v.then(gone, e.opt.VolumeDelay) // a volume whose key fails vanishes
	case c.lie == lieFailure:
		v.then("error", e.opt.VolumeDelay)
	default:
		v.then("available", e.opt.VolumeDelay)
	}
	e.cloud.volumes[v.id] = v
	answer := func() any { return e.describeVolume(v) }
	c.remember(token, answer)
	return answer(), nil
}

// checkVolume finds the snapshot of a spec for CreateVolume, and checks both.
func (e *Emulator) checkVolume(s volumeSpec) (*snapshot, *apiError) {
	var snap *snapshot
	if s.snapshotID != "" {
		snap = e.lookup(s.snapshotID)
		if snap == nil || snap.owner != e.opt.AccountID {
			return nil, snapshotMissing(s.snapshotID)
		}
		if state := e.state(snap); state != stateCompleted {
			return nil, ec2Fault("IncorrectState", "Snapshot is in invalid state - %s", state)
		}
	} else if s.size == 0 {
		return nil, ec2Fault("MissingParameter", "The request must contain the parameter size/snapshot")
	}
	if err := s.checkSource(snap); err != nil {
		return nil, err
	}
	return snap, s.check(snapSize(snap))
}

// zoneFor finds a zone by name or ID.
func (e *Emulator) zoneFor(name, id string) (string, *apiError) {
	if name == "" && id == "" {
		return "", ec2Fault("MissingParameter", "The request must contain the parameter AvailabilityZone")
	}
	if name != "" && id != "" {
		return "", ec2Fault("InvalidParameterCombination", "The parameters AvailabilityZone and AvailabilityZoneId cannot both be specified.")
	}
	for _, z := range e.zones() {
		if z.Name == name || z.ID == id {
			return z.Name, nil
		}
	}
	return "", ec2Fault("InvalidZone.NotFound", "The zone '%s' does not exist.", name+id)
}

var volumeID = regexp.MustCompile(`^vol-[0-9a-f]{8}([0-9a-f]{9})?$`)

// volume finds a volume that requests can see.
func (e *Emulator) volume(id string) (*volume, *apiError) {
	if !volumeID.MatchString(id) {
		return nil, ec2Fault("InvalidParameterValue", "Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", id)
	}
	v := e.cloud.volumes[id]
	if v == nil || !e.visible(&v.meta) {
		return nil, ec2Fault("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
	}
	return v, nil
}

type xmlVolume struct {
	VolumeID    string                `xml:"volumeId"`
	Size        int64                 `xml:"size"`
	SnapshotID  string                `xml:"snapshotId"`
	Zone        string                `xml:"availabilityZone"`
	ZoneID      string                `xml:"availabilityZoneId"`
	Status      string                `xml:"status"`
	CreateTime  string                `xml:"createTime"`
	Attachments xmlSet[xmlAttachment] `xml:"attachmentSet"`
	Kind        string                `xml:"volumeType"`
	IOPS        *int64                `xml:"iops,omitempty"`
	Throughput  *int64                `xml:"throughput,omitempty"`
	Rate        *int64                `xml:"volumeInitializationRate,omitempty"`
	Encrypted   bool                  `xml:"encrypted"`
	KMSKeyID    string                `xml:"kmsKeyId,omitempty"`
	Multi       bool                  `xml:"multiAttachEnabled"`
	TagSet      *xmlTags              `xml:"tagSet"`
}

type xmlAttachment struct {
	VolumeID   string `xml:"volumeId"`
	InstanceID string `xml:"instanceId"`
	Device     string `xml:"device"`
	Status     string `xml:"status"`
	Time       string `xml:"attachTime"`
	Delete     bool   `xml:"deleteOnTermination"`
}

func (v *volume) describeAttachment() xmlAttachment {
	a := v.attached
	return xmlAttachment{v.id, a.instance.id, a.device, a.state, ec2Stamp(a.made), a.remove}
}

func (e *Emulator) describeVolume(v *volume) xmlVolume {
	x := xmlVolume{
		VolumeID: v.id, Size: v.size, SnapshotID: v.snapshotID, Zone: v.zone, ZoneID: e.zoneID(v.zone), Status: v.state, CreateTime: ec2Stamp(v.made),
		Kind: v.kind, IOPS: v.iops, Throughput: v.through, Rate: v.rate, Encrypted: v.encrypted, KMSKeyID: v.kmsKey,
		TagSet: xmlTagSet(e.shownTags(&v.meta)),
	}
	if v.attached != nil {
		x.Attachments.Items = []xmlAttachment{v.describeAttachment()}
	}
	return x
}

func (x xmlVolume) resource() resource {
	var a xmlAttachment
	if len(x.Attachments.Items) > 0 {
		a = x.Attachments.Items[0]
	}
	return resource{tags: tagsOf(x.TagSet), fields: map[string]string{
		"volume-id": x.VolumeID, "snapshot-id": x.SnapshotID, "availability-zone": x.Zone, "availability-zone-id": x.ZoneID, "status": x.Status,
		"size": strconv.FormatInt(x.Size, 10), "encrypted": strconv.FormatBool(x.Encrypted), "volume-type": x.Kind, "create-time": x.CreateTime,
		"attachment.instance-id": a.InstanceID, "attachment.device": a.Device, "attachment.status": a.Status,
		"attachment.delete-on-termination": strconv.FormatBool(a.Delete),
	}}
}

type describeVolumesOutput struct {
	Set       xmlSet[xmlVolume] `xml:"volumeSet"`
	NextToken *string           `xml:"nextToken,omitempty"`
}

func (c *call) describeVolumes(p *params) (any, *apiError) {
	ids, fs, g := p.list("VolumeId"), p.filters(), p.paging(5, 1000)
	p.boolean("IncludeManagedResources")
	if err := p.finish(); err != nil {
		return nil, err
	}
	e := c.e
	defer e.lockCloud()()
	for _, id := range ids {
		if _, err := e.volume(id); err != nil {
			return nil, err
		}
	}
	items, err := shown(e, e.cloud.volumes, func(v *volume) *meta { return &v.meta }, ids, absent("InvalidVolume.NotFound", "volume"), e.describeVolume)
	if err != nil {
		return nil, err
	}
	items, next, err := pageOf(c, items, fs, g)
	return describeVolumesOutput{xmlSet[xmlVolume]{items}, next}, err
}

func (c *call) deleteVolume(p *params) (any, *apiError) {
	id := p.required("VolumeId")
	if err := p.complete(); err != nil {
		return nil, err
	}
	defer c.e.lockCloud()()
	v, err := c.e.volume(id)
	if err != nil {
		return nil, err
	}
	if v.attached != nil {
		return nil, ec2Fault("VolumeInUse", "Volume %s is currently attached to %s", id, v.attached.instance.id)
	}
	if !slices.Contains([]string{"available", "error"}, v.state) {
		return nil, ec2Fault("IncorrectState", "The volume '%s' is '%s'", id, v.state)
	}
	if err := p.dryRun(); err != nil {
		return nil, err
	}
	c.e.removeVolume(v)
	return returned{true}, nil
}

// removeVolume begins the end of a volume that nothing is attached to.
func (e *Emulator) removeVolume(v *volume) {
	v.enter("deleting", e.now())
	v.then(gone, e.opt.VolumeDelay)
	v.step(e.now())
	if v.state == gone {
		delete(e.cloud.volumes, v.id)
	}
}

func (e *Emulator) state(s *snapshot) string {
	state, _ := s.stateAt(e.store, e.now())
	return state
}
