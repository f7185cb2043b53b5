package aws

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"
)

// volume is an EBS volume: what it would read when first attached.
type volume struct {
	id, snapshotID, zone, kind, kmsKey string
	size                               int64 // GiB
	encrypted                          bool
	created                            time.Time
	image                              *image

	mu   sync.Mutex
	tags tagSet
}

type xmlVolume struct {
	VolumeID   string   `xml:"volumeId"`
	Size       int64    `xml:"size"`
	SnapshotID string   `xml:"snapshotId"`
	Zone       string   `xml:"availabilityZone"`
	Status     string   `xml:"status"`
	CreateTime string   `xml:"createTime"`
	Kind       string   `xml:"volumeType"`
	Encrypted  bool     `xml:"encrypted"`
	KMSKeyID   string   `xml:"kmsKeyId,omitempty"`
	TagSet     *xmlTags `xml:"tagSet"`
}

// createVolume makes a volume from a snapshot or an empty one.
func (c *call) createVolume(p *params) (any, *apiError) {
	v := &volume{
		id: newID("vol"), zone: p.required("AvailabilityZone"), kind: p.str("VolumeType"), snapshotID: p.str("SnapshotId"),
		size: p.integer("Size"), encrypted: p.boolean("Encrypted"), kmsKey: p.str("KmsKeyId"), created: c.e.now(),
	}
	p.str("ClientToken")
	for _, t := range p.tagSpecifications("volume") {
		v.tags.set(t.Key, t.Value)
	}
	if v.kind == "" {
		v.kind = "gp2"
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(c.e.zones(), func(z xmlZone) bool { return z.Name == v.zone }) {
		return nil, ec2Fault("InvalidZone.NotFound", "The zone '%s' does not exist.", v.zone)
	}
	if err := c.fillVolume(v); err != nil {
		return nil, err
	}
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	c.e.volumes[v.id] = v
	return v.describe(), nil
}

// fillVolume gives the volume its contents: those of the snapshot, where absent
// blocks are garbage if either is encrypted.
func (c *call) fillVolume(v *volume) *apiError {
	e := c.e
	e.mu.RLock()
	byDefault, key := e.encDefault, e.kmsDefault
	e.mu.RUnlock()
	if v.kmsKey != "" && !v.encrypted {
		return ec2Fault("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	base := newLayer(e.store, nil)
	if v.snapshotID == "" {
		if v.size < 1 || v.size > maxVolumeSize {
			return ec2Fault("InvalidParameterValue", "Volume of %dGiB is not between 1 and %d GiB", v.size, maxVolumeSize)
		}
		v.encrypted = v.encrypted || byDefault
		v.image = newImage(e.store, base, v.size, false, v.id)
	} else {
		s := e.lookup(v.snapshotID)
		if s == nil || s.owner != e.opt.AccountID {
			return snapshotMissing(v.snapshotID)
		}
		if base = s.readable(e.store, e.now(), 0); base == nil {
			return ec2Fault("IncorrectState", "Snapshot is in invalid state - %s", e.state(s))
		}
		if v.size == 0 {
			v.size = s.size
		}
		if v.size < s.size {
			return ec2Fault("InvalidParameterValue", "Volume of %dGiB is smaller than snapshot '%s', expect size >= %dGiB", v.size, s.id, s.size)
		}
		v.encrypted = v.encrypted || byDefault || s.encrypted
		if s.encrypted && v.kmsKey == "" {
			v.kmsKey = s.kmsKey
		}
		v.image = newImage(e.store, base, v.size, v.encrypted, s.id)
	}
	if v.encrypted && v.kmsKey == "" {
		v.kmsKey = key
	}
	return nil
}

func (e *Emulator) state(s *snapshot) string {
	state, _ := s.stateAt(e.store, e.now())
	return state
}

// VolumeImage returns what a volume reads, and its size in bytes.
func (e *Emulator) VolumeImage(volumeID string) (io.ReaderAt, int64, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	v := e.volumes[volumeID]
	if v == nil {
		return nil, 0, fmt.Errorf("open image of %s: no such volume", volumeID)
	}
	return v.image, v.image.size, nil
}

func (v *volume) describe() xmlVolume {
	v.mu.Lock()
	defer v.mu.Unlock()
	return xmlVolume{
		VolumeID: v.id, Size: v.size, SnapshotID: v.snapshotID, Zone: v.zone, Status: "available", CreateTime: ec2Stamp(v.created),
		Kind: v.kind, Encrypted: v.encrypted, KMSKeyID: v.kmsKey, TagSet: xmlTagSet(v.tags.list()),
	}
}

func (x xmlVolume) resource() resource {
	r := resource{fields: map[string]string{
		"volume-id": x.VolumeID, "snapshot-id": x.SnapshotID, "availability-zone": x.Zone, "status": x.Status,
		"size": strconv.FormatInt(x.Size, 10), "encrypted": strconv.FormatBool(x.Encrypted), "volume-type": x.Kind,
	}}
	if x.TagSet != nil {
		for _, t := range x.TagSet.Items {
			r.tags = append(r.tags, tag(t))
		}
	}
	return r
}

type describeVolumesOutput struct {
	Set       xmlSet[xmlVolume] `xml:"volumeSet"`
	NextToken *string           `xml:"nextToken,omitempty"`
}

func (c *call) describeVolumes(p *params) (any, *apiError) {
	ids, fs, g := p.list("VolumeId"), p.filters(), p.paging(5, 1000)
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := (xmlVolume{}).resource().check(fs); err != nil {
		return nil, err
	}
	c.e.mu.RLock()
	defer c.e.mu.RUnlock()
	for _, id := range ids {
		if c.e.volumes[id] == nil {
			return nil, ec2Fault("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
		}
	}
	var items []xmlVolume
	for _, v := range c.e.volumes {
		x := v.describe()
		if (len(ids) == 0 || slices.Contains(ids, v.id)) && x.resource().matches(fs) {
			items = append(items, x)
		}
	}
	slices.SortFunc(items, func(a, b xmlVolume) int {
		if a.VolumeID < b.VolumeID {
			return -1
		}
		return 1
	})
	from, to, next, err := c.slice(g, len(items))
	if err != nil {
		return nil, err
	}
	return describeVolumesOutput{xmlSet[xmlVolume]{items[from:to]}, next}, nil
}

func (c *call) deleteVolume(p *params) (any, *apiError) {
	id := p.required("VolumeId")
	if err := p.finish(); err != nil {
		return nil, err
	}
	c.e.mu.Lock()
	defer c.e.mu.Unlock()
	if c.e.volumes[id] == nil {
		return nil, ec2Fault("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
	}
	delete(c.e.volumes, id)
	return returned{true}, nil
}
