package transfer

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// VMID identifies a virtual machine for as long as its vCenter knows it. BIOS
// UUIDs repeat among clones and names repeat among folders; this pair does not.
type VMID struct {
	VCenter string `json:"vcenter"` // the vCenter's own instance UUID (about.instanceUuid)
	Moref   string `json:"moref"`   // the managed object's value, "vm-1042"
}

func (v VMID) String() string { return v.VCenter + "/" + v.Moref }

// DiskID identifies a virtual disk of a VM. It is never an index: disks come
// and go, and an index then names another disk.
type DiskID struct {
	Key  int32  `json:"key"`  // the device key, 2000 for the first SCSI disk
	UUID string `json:"uuid"` // the backing's UUID, lower case, as vCenter gives it
}

func (d DiskID) String() string { return fmt.Sprintf("%d/%s", d.Key, d.UUID) }

// ChangeID is vSphere's CBT position of one disk at one snapshot: a tracking
// epoch and a sequence number, "52 de c0 d9 …-61 d5 …/4". Empty means that the
// disk was not tracked.
type ChangeID string

// AllAllocated asks QueryChangedDiskAreas for every area that was ever
// allocated rather than for changes.
const AllAllocated ChangeID = "*"

// Epoch is the part before the slash. Change IDs of different epochs cannot be
// compared: tracking was reset in between.
func (c ChangeID) Epoch() string {
	epoch, _, _ := strings.Cut(string(c), "/")
	return epoch
}

// Sequence is the number behind the slash, and whether there is one.
func (c ChangeID) Sequence() (uint64, bool) {
	_, seq, ok := strings.Cut(string(c), "/")
	n, err := strconv.ParseUint(seq, 10, 64)
	return n, ok && err == nil
}

// SnapshotID is an EBS snapshot, "snap-0123456789abcdef0".
type SnapshotID string

// ApplianceID names one connector installation. It marks what this connector
// made, in vCenter and in AWS.
type ApplianceID string

// CycleID names one replication run of one VM. It sorts by time.
type CycleID string

// NewCycleID returns a fresh ID that starts with the instant in UTC. Cycles
// of one VM in which nothing changed take a fifth of a second: seconds would
// not sort them.
func NewCycleID(now time.Time) CycleID {
	var b [4]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	return CycleID(now.UTC().Format("20060102T150405.000Z") + "-" + hex.EncodeToString(b[:]))
}

// Digest is the SHA-256 of one whole block.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// ZeroDigest is the digest of a block of zeros (B4VNL+8p… in base64; the
// captured traffic in the project's AWS facts shows the same value).
var ZeroDigest = Digest(sha256.Sum256(make([]byte, BlockSize)))
