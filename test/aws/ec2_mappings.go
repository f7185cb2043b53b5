package aws

import (
	"fmt"
	"regexp"
	"slices"
)

// mapping is one BlockDeviceMapping of an image, a launch or both together.
type mapping struct {
	device string
	ebs    *volumeSpec
	none   bool // NoDevice: leave out what the image has
	store  string
}

// deviceName are the names that EC2 accepts: /dev/sd[a-z][1-15], /dev/xvd[a-d][a-z],
// xvd[b-c][a-z] and sd[a-z].
var deviceName = regexp.MustCompile(`^(/dev/sd[a-z]([1-9]|1[0-5])?|(/dev/)?xvd[a-z][a-z]?[0-9]{0,2}|sd[a-z]([1-9]|1[0-5])?)$`)

// mappings takes BlockDeviceMapping.N of RegisterImage and RunInstances.
func (p *params) mappings() []mapping {
	var out []mapping
	for _, n := range p.numbers("BlockDeviceMapping") {
		prefix := fmt.Sprintf("BlockDeviceMapping.%d.", n)
		m := mapping{device: p.required(prefix + "DeviceName"), store: p.str(prefix + "VirtualName")}
		m.none = p.has(prefix + "NoDevice")
		p.str(prefix + "NoDevice")
		if p.any(prefix + "Ebs.") {
			s := p.volumeSpec(prefix+"Ebs.", "VolumeSize")
			s.remove = p.optBool(prefix + "Ebs.DeleteOnTermination")
			m.ebs = &s
		}
		out = append(out, m)
	}
	return out
}

func badMapping(format string, args ...any) *apiError {
	return ec2Fault("InvalidBlockDeviceMapping", format, args...)
}

// checkMappings makes the checks that images and launches share.
func checkMappings(ms []mapping) *apiError {
	seen := map[string]bool{}
	for _, m := range ms {
		switch {
		case !deviceName.MatchString(m.device):
			return badMapping("Invalid device name %s", m.device)
		case seen[m.device]:
			return badMapping("Duplicate device name %s", m.device)
		case !m.none && m.ebs == nil && m.store == "":
			return badMapping("Missing ebs, virtualName or noDevice for device %s", m.device)
		}
		seen[m.device] = true
	}
	return nil
}

// checkImageMapping is for RegisterImage, which takes an encrypted snapshot as
// it is and lets nobody choose.
func (e *Emulator) checkImageMapping(m mapping) *apiError {
	s := m.ebs
	if m.none || s == nil {
		return nil
	}
	switch {
	case s.kmsKey != "":
		return ec2Fault("InvalidParameter", "The parameter KmsKeyId is not supported for RegisterImage.")
	case s.rate != nil:
		return ec2Fault("InvalidParameterCombination", "The parameter VolumeInitializationRate is not supported for RegisterImage.")
	case s.snapshotID != "" && s.encrypted != nil:
		return badMapping("the encrypted flag cannot be specified since device %s has a snapshot specified.", m.device)
	case s.snapshotID == "" && s.size == 0:
		return ec2Fault("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	var snap *snapshot
	if s.snapshotID != "" {
		var err *apiError
		if snap, err = e.launchable(s.snapshotID); err != nil {
			return err
		}
		if s.size > 0 && s.size < snap.size {
			return badMapping("Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", s.size, snap.id, snap.size)
		}
	}
	return s.check(snapSize(snap))
}

// launchable finds a completed snapshot of the account.
func (e *Emulator) launchable(id string) (*snapshot, *apiError) {
	if !validID(id) {
		return nil, ec2Fault("InvalidSnapshotID.Malformed", "Invalid id: \"%s\" (expecting \"snap-...\")", id)
	}
	s := e.lookup(id)
	if s == nil || s.owner != e.opt.AccountID {
		return nil, snapshotMissing(id)
	}
	if state := e.state(s); state != stateCompleted {
		return nil, ec2Fault("InvalidSnapshot.NotCompleted", "The snapshot '%s' is in state %s: it must be completed.", id, state)
	}
	return s, nil
}

func snapSize(s *snapshot) int64 {
	if s == nil {
		return 0
	}
	return s.size
}

// merged lays the mappings of a launch over those of its image and returns what
// is to be made.
func (e *Emulator) merged(img *machineImage, over []mapping) ([]mapping, *apiError) {
	if err := checkMappings(over); err != nil {
		return nil, err
	}
	out := slices.Clone(img.mappings)
	for _, o := range over {
		at := slices.IndexFunc(out, func(m mapping) bool { return m.device == o.device })
		if at < 0 {
			if !o.none && o.ebs != nil {
				out = append(out, o)
			}
			continue
		}
		base := out[at]
		switch {
		case o.none && o.device == img.rootDevice:
			return nil, badMapping("The root device %s cannot be left out", o.device)
		case o.none:
			out = slices.Delete(out, at, at+1)
		case o.ebs != nil && base.ebs != nil:
			if o.ebs.snapshotID != "" && o.ebs.snapshotID != base.ebs.snapshotID && o.device == img.rootDevice {
				return nil, badMapping("snapshotId cannot be modified on root device")
			}
			s := base.ebs.merge(*o.ebs)
			out[at].ebs = &s
		}
	}
	out = slices.DeleteFunc(out, func(m mapping) bool { return m.none || m.ebs == nil })
	for _, m := range out {
		if err := e.checkLaunchMapping(img, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// checkLaunchMapping is for RunInstances.
func (e *Emulator) checkLaunchMapping(img *machineImage, m mapping) *apiError {
	s := *m.ebs
	snap, err := e.mappingSnapshot(img, s.snapshotID)
	switch {
	case err != nil:
		return err
	case snap == nil && s.size == 0:
		return ec2Fault("MissingParameter", "The request must contain the parameter size or snapshotId")
	case snap != nil && s.size > 0 && s.size < snap.size:
		return badMapping("Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", s.size, snap.id, snap.size)
	case snap != nil && snap.encrypted && s.encrypted != nil && !*s.encrypted:
		return badMapping("the encrypted flag cannot be false since device %s has an encrypted snapshot.", m.device)
	}
	if err := s.check(snapSize(snap)); err != nil {
		return err
	}
	if !volumeKinds[s.kindOr()].boots && m.device == img.rootDevice {
		return ec2Fault("InvalidParameterValue", "Volume type %s cannot be used as a boot volume.", s.kindOr())
	}
	return s.checkSource(snap)
}

// mappingSnapshot is the snapshot of a mapping: one of the image, whoever owns
// it, or one of the account.
func (e *Emulator) mappingSnapshot(img *machineImage, id string) (*snapshot, *apiError) {
	if id == "" {
		return nil, nil
	}
	if slices.ContainsFunc(img.mappings, func(m mapping) bool { return m.ebs != nil && m.ebs.snapshotID == id }) {
		if s := e.lookup(id); s != nil {
			return s, nil
		}
	}
	return e.launchable(id)
}
