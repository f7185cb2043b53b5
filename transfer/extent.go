package transfer

import "fmt"

// BlockSize is the unit of the EBS direct APIs in bytes.
const BlockSize = 512 << 10

// SectorSize is the unit of a virtual disk in bytes.
const SectorSize = 512

// GiB is the unit of an EBS volume in bytes.
const GiB = 1 << 30

// BlocksPerGiB is how many blocks one GiB of a volume has.
const BlocksPerGiB = GiB / BlockSize

// MaxVolumeGiB is the largest volume that StartSnapshot accepts.
const MaxVolumeGiB = 65536

// Extent is a byte range of a disk. vSphere calls it an area.
type Extent struct {
	Offset int64 `json:"offset"`
	Length int64 `json:"length"`
}

// End is the first byte behind the extent.
func (e Extent) End() int64 { return e.Offset + e.Length }

func (e Extent) String() string { return fmt.Sprintf("%d+%d", e.Offset, e.Length) }

// VolumeGiB is the size of the volume that holds a disk of size bytes: whole
// GiB, rounded up.
func VolumeGiB(size int64) int64 { return (size + GiB - 1) / GiB }

// DiskBlocks is how many blocks hold bytes of a disk of size bytes; the last
// one may be partly behind its end.
func DiskBlocks(size int64) int64 { return (size + BlockSize - 1) / BlockSize }

// VolumeBlocks is how many blocks the volume of a disk of size bytes has.
func VolumeBlocks(size int64) int64 { return VolumeGiB(size) * BlocksPerGiB }

// CheckAreas returns a yield for Frozen.Areas that passes areas on to next and
// refuses what is no honest answer about a disk of size bytes: an area that is
// empty, outside the disk, or that does not lie behind the one before it.
func CheckAreas(size int64, next func(Extent) error) func(Extent) error {
	var end int64
	return func(e Extent) error {
		switch {
		case e.Length <= 0 || e.Offset < 0 || e.Offset > size-e.Length:
			return Fail(BaselineLost, "read changed areas",
				fmt.Errorf("area %v is not inside the disk of %d bytes", e, size), "")
		case e.Offset < end:
			return Fail(BaselineLost, "read changed areas",
				fmt.Errorf("area %v starts before the end %d of the one before", e, end), "")
		}
		end = e.End()
		return next(e)
	}
}
