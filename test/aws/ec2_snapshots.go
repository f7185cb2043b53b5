package aws

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// volumeOfDirect is the volume ID of snapshots that no volume was the source of.
const volumeOfDirect = "vol-ffffffff"

type xmlSnapshot struct {
	SnapshotID     string   `xml:"snapshotId"`
	VolumeID       string   `xml:"volumeId"`
	Status         string   `xml:"status"`
	StatusMessage  string   `xml:"statusMessage,omitempty"`
	StartTime      string   `xml:"startTime"`
	Progress       string   `xml:"progress"`
	OwnerID        string   `xml:"ownerId"`
	VolumeSize     int64    `xml:"volumeSize"`
	Description    string   `xml:"description"`
	Encrypted      bool     `xml:"encrypted"`
	KMSKeyID       string   `xml:"kmsKeyId,omitempty"`
	TagSet         *xmlTags `xml:"tagSet"`
	StorageTier    string   `xml:"storageTier"`
	TransferType   string   `xml:"transferType"`
	CompletionTime string   `xml:"completionTime,omitempty"`
	FullSize       *int64   `xml:"fullSnapshotSizeInBytes,omitempty"`
}

type describeSnapshotsOutput struct {
	Set       xmlSet[xmlSnapshot] `xml:"snapshotSet"`
	NextToken *string             `xml:"nextToken,omitempty"`
}

func (c *call) describeSnapshots(p *params) (any, *apiError) {
	ids, owners, fs := p.list("SnapshotId"), p.list("Owner"), p.filters()
	p.list("RestorableBy")
	g := p.paging(5, 1000)
	if len(ids) > 0 && g.max > 0 {
		p.fail("InvalidParameterCombination", "The parameter snapshotSet cannot be used with the parameter maxResults")
	}
	if err := p.finish(); err != nil {
		return nil, err
	}
	if err := (xmlSnapshot{}).resource(nil).check(fs); err != nil {
		return nil, err
	}
	found, err := c.e.selectSnapshots(ids, owners)
	if err != nil {
		return nil, err
	}
	var items []xmlSnapshot
	for _, s := range found {
		x, tags := c.e.describe(s)
		if c.lie == LieStale && slices.Contains(ids, x.SnapshotID) {
			x.Status, x.StatusMessage, x.Progress, x.CompletionTime, x.FullSize = statePending, "", "0%", "", nil
		}
		if x.resource(tags).matches(fs) {
			items = append(items, x)
		}
	}
	from, to, next, err := c.slice(g, len(items))
	if err != nil {
		return nil, err
	}
	return describeSnapshotsOutput{xmlSet[xmlSnapshot]{items[from:to]}, next}, nil
}

// selectSnapshots finds the snapshots by ID, or all, and narrows by owner.
func (e *Emulator) selectSnapshots(ids, owners []string) ([]*snapshot, *apiError) {
	var found []*snapshot
	for _, id := range ids {
		if !validID(id) {
			return nil, ec2Fault("InvalidParameterValue", "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
		}
		s := e.lookup(id)
		if s == nil {
			return nil, snapshotMissing(id)
		}
		if !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	if len(ids) == 0 {
		found = e.sortedSnapshots()
	}
	if len(owners) == 0 {
		return found, nil
	}
	return slices.DeleteFunc(found, func(s *snapshot) bool {
		self := s.owner == e.opt.AccountID && slices.Contains(owners, "self")
		return !self && !slices.Contains(owners, s.owner)
	}), nil
}

func snapshotMissing(id string) *apiError {
	return ec2Fault("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
}

// describe renders a snapshot as it is now.
func (e *Emulator) describe(s *snapshot) (xmlSnapshot, []tag) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(e.store, e.now())
	tags := s.tags.list()
	x := xmlSnapshot{
		SnapshotID: s.id, VolumeID: volumeOfDirect, Status: s.state, StatusMessage: s.message,
		StartTime: ec2Stamp(s.started), Progress: "0%", OwnerID: s.owner, VolumeSize: s.size,
		Description: s.description, Encrypted: s.encrypted, KMSKeyID: s.kmsKey, TagSet: xmlTagSet(tags),
		StorageTier: "standard", TransferType: "standard",
	}
	if s.state == stateCompleted {
		full := int64(len(s.layer.indexes())) * blockSize
		x.Progress, x.CompletionTime, x.FullSize = "100%", ec2Stamp(s.completedAt), &full
	}
	return x, tags
}

func (x xmlSnapshot) resource(tags []tag) resource {
	return resource{tags: tags, fields: map[string]string{
		"snapshot-id": x.SnapshotID, "volume-id": x.VolumeID, "status": x.Status, "start-time": x.StartTime,
		"progress": x.Progress, "owner-id": x.OwnerID, "volume-size": strconv.FormatInt(x.VolumeSize, 10),
		"description": x.Description, "encrypted": strconv.FormatBool(x.Encrypted), "storage-tier": x.StorageTier,
		"transfer-type": x.TransferType, "owner-alias": "",
	}}
}

func (c *call) deleteSnapshot(p *params) (any, *apiError) {
	id := p.required("SnapshotId")
	if err := p.finish(); err != nil {
		return nil, err
	}
	if !validID(id) {
		return nil, ec2Fault("InvalidParameterValue", "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
	}
	e := c.e
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.snapshots[id]
	if s == nil || s.owner != e.opt.AccountID {
		return nil, snapshotMissing(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.amis) > 0 {
		return nil, ec2Fault("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", id, slices.Sorted(maps.Keys(s.amis))[0])
	}
	// A put that is under way must not find the draft open when it commits.
	s.state, s.message = stateError, fmt.Sprintf("deleted by %s", c.op)
	delete(e.snapshots, id)
	return returned{true}, nil
}
