package aws

import (
	"fmt"
	"slices"
)

// volumeSpec is what a request or an image says about one volume; zero values
// are what it leaves out.
type volumeSpec struct {
	snapshotID, kind, kmsKey string
	size                     int64 // GiB
	iops, throughput, rate   *int64
	encrypted, remove        *bool // remove: deleted with the instance
}

// volumeKind are the bounds of a volume type, as the API reference of 2016-11-15
// gives them in its present edition: sizes in GiB, throughput in MiB/s.
type volumeKind struct {
	minSize, maxSize int64
	minIOPS, maxIOPS int64 // 0: not to be chosen
	perGiB           int64 // IOPS for each GiB
	needsIOPS        bool
	boots            bool
}

var volumeKinds = map[string]volumeKind{
	"gp2":      {1, 16384, 0, 0, 0, false, true},
	"gp3":      {1, 65536, 3000, 80000, 500, false, true},
	"io1":      {4, 16384, 100, 64000, 50, true, true},
	"io2":      {4, 65536, 100, 256000, 1000, true, true},
	"st1":      {125, 16384, 0, 0, 0, false, false},
	"sc1":      {125, 16384, 0, 0, 0, false, false},
	"standard": {1, 1024, 0, 0, 0, false, true},
}

// Bounds of gp3 throughput and of the volume initialization rate, in MiB/s.
const (
	minThroughput, maxThroughput = 125, 2000
	throughputPerIOPS            = 0.25
	minInitRate, maxInitRate     = 100, 300
	defaultGP3IOPS               = 3000
)

// volumeSpec takes Prefix.VolumeSize and so on; CreateVolume calls the size Size.
func (p *params) volumeSpec(prefix, sizeKey string) volumeSpec {
	return volumeSpec{
		snapshotID: p.str(prefix + "SnapshotId"), kind: p.str(prefix + "VolumeType"), kmsKey: p.str(prefix + "KmsKeyId"),
		size: p.integer(prefix + sizeKey), iops: p.optInt(prefix + "Iops"), throughput: p.optInt(prefix + "Throughput"),
		rate: p.optInt(prefix + "VolumeInitializationRate"), encrypted: p.optBool(prefix + "Encrypted"),
	}
}

// merge lays a request's spec over the one of the image.
func (s volumeSpec) merge(over volumeSpec) volumeSpec {
	if over.kind != "" && over.kind != s.kind {
		s.iops, s.throughput = nil, nil // they were for the other type
	}
	pick(&s.snapshotID, over.snapshotID)
	pick(&s.kind, over.kind)
	pick(&s.kmsKey, over.kmsKey)
	pick(&s.size, over.size)
	pick(&s.iops, over.iops)
	pick(&s.throughput, over.throughput)
	pick(&s.rate, over.rate)
	pick(&s.encrypted, over.encrypted)
	pick(&s.remove, over.remove)
	return s
}

// pick sets *to unless v says nothing.
func pick[T comparable](to *T, v T) {
	var zero T
	if v != zero {
		*to = v
	}
}

// check looks at type, size and performance. The size may be 0 where a snapshot
// will give it, whose size is then snapGiB.
func (s volumeSpec) check(snapGiB int64) *apiError {
	kind := s.kindOr()
	k, ok := volumeKinds[kind]
	if !ok {
		return ec2Fault("InvalidParameterValue", "Invalid volume type: %s", kind)
	}
	size := max(s.size, snapGiB)
	if s.size > 0 {
		size = s.size
	}
	if size < k.minSize || size > k.maxSize {
		return ec2Fault("InvalidParameterValue", "Volume of %dGiB is not between %d and %d GiB, the bounds of %s", size, k.minSize, k.maxSize, kind)
	}
	if err := s.checkIOPS(kind, k, size); err != nil {
		return err
	}
	return s.checkThroughput(kind)
}

func (s volumeSpec) kindOr() string {
	if s.kind == "" {
		return "gp2" // the API's default still, if not the console's
	}
	return s.kind
}

func (s volumeSpec) checkIOPS(kind string, k volumeKind, size int64) *apiError {
	switch {
	case s.iops == nil && k.needsIOPS:
		return ec2Fault("MissingParameter", "The parameter iops must be specified for %s volumes.", kind)
	case s.iops == nil:
		return nil
	case k.maxIOPS == 0:
		return ec2Fault("InvalidParameterCombination", "The parameter iops is not supported for %s volumes.", kind)
	case *s.iops < k.minIOPS:
		return ec2Fault("InvalidParameterValue", "Volume iops of %d is too low; minimum is %d.", *s.iops, k.minIOPS)
	case *s.iops > k.maxIOPS:
		return ec2Fault("InvalidParameterValue", "Volume iops of %d is too high; maximum is %d.", *s.iops, k.maxIOPS)
	case *s.iops > max(size*k.perGiB, k.minIOPS):
		return ec2Fault("InvalidParameterValue", "Iops to volume size ratio of %f is too high; maximum is %d", float64(*s.iops)/float64(size), k.perGiB)
	}
	return nil
}

func (s volumeSpec) checkThroughput(kind string) *apiError {
	if s.throughput == nil {
		return nil
	}
	iops := int64(defaultGP3IOPS)
	if s.iops != nil {
		iops = *s.iops
	}
	switch t := *s.throughput; {
	case kind != "gp3":
		return ec2Fault("InvalidParameterCombination", "The parameter throughput is not supported for %s volumes.", kind)
	case t < minThroughput || t > maxThroughput:
		return ec2Fault("InvalidParameterValue", "Throughput of %d MiB/s is not between %d and %d.", t, minThroughput, maxThroughput)
	case float64(t) > float64(iops)*throughputPerIOPS:
		return ec2Fault("InvalidParameterValue", "Throughput (MiBps) to iops ratio of %f is too high; maximum is %f MiBps per iops", float64(t)/float64(iops), throughputPerIOPS)
	}
	return nil
}

// checkSource looks at what depends on having a snapshot or not.
func (s volumeSpec) checkSource(snap *snapshot) *apiError {
	switch {
	case s.kmsKey != "" && (s.encrypted == nil || !*s.encrypted):
		return ec2Fault("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	case s.rate != nil && snap == nil:
		return ec2Fault("InvalidParameterCombination", "The parameter VolumeInitializationRate requires a snapshot.")
	case s.rate != nil && (*s.rate < minInitRate || *s.rate > maxInitRate):
		return ec2Fault("InvalidParameterValue", "VolumeInitializationRate of %d MiB/s is not between %d and %d.", *s.rate, minInitRate, maxInitRate)
	case snap != nil && snap.encrypted && s.encrypted != nil && !*s.encrypted:
		return ec2Fault("InvalidParameterValue", "Encrypted flag cannot be false since the snapshot %s is encrypted.", snap.id)
	case snap != nil && s.size > 0 && s.size < snap.size:
		return ec2Fault("InvalidParameterValue", "Volume of %dGiB is smaller than snapshot '%s', expect size >= %dGiB", s.size, snap.id, snap.size)
	}
	return nil
}

// performance is what the volume has in the end; nil where its type has none.
func (s volumeSpec) performance(size int64) (iops, throughput *int64) {
	switch s.kindOr() {
	case "gp2":
		n := min(max(3*size, 100), 16000)
		return &n, nil
	case "gp3":
		i, t := int64(defaultGP3IOPS), int64(minThroughput)
		if s.iops != nil {
			i = *s.iops
		}
		if s.throughput != nil {
			t = *s.throughput
		}
		return &i, &t
	}
	return s.iops, nil
}

// keyExists tells whether KMS knows the key. EC2 asks only after it has answered.
func (e *Emulator) keyExists(key string) bool {
	e.mu.RLock()
	known := e.kmsDefault
	e.mu.RUnlock()
	return key == "" || key == known || len(e.opt.KMSKeys) == 0 || slices.Contains(e.opt.KMSKeys, key)
}

// fullKey makes an ARN of a key ID or an alias, which is what Describe shows.
func (e *Emulator) fullKey(key string) string {
	if key == "" || len(key) > 4 && key[:4] == "arn:" {
		return key
	}
	if len(key) < 6 || key[:6] != "alias/" {
		key = "key/" + key
	}
	return fmt.Sprintf("arn:aws:kms:%s:%s:%s", e.opt.Region, e.opt.AccountID, key)
}
