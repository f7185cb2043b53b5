package transfer

import (
	"context"
	"time"
)

// State of an EBS snapshot, in EC2's words.
type State string

// The states that EC2 reports. Only Completed means that the bytes are there:
// CompleteSnapshot's 202 proves nothing.
const (
	Pending   State = "pending"
	Completed State = "completed"
	Failed    State = "error"
)

// Label is everything that the tags of one EBS snapshot say about it. What the
// cloud holds is the truth: a label alone must let an appliance that lost its
// own disk go on.
type Label struct {
	Appliance ApplianceID `json:"appliance"`
	VM        VMID        `json:"vm"`
	VMName    string      `json:"vmName"`
	VMUUID    string      `json:"vmUUID"` // instance UUID
	Guest     Guest       `json:"guest"`
	Cycle     CycleID     `json:"cycle"`
	Frozen    time.Time   `json:"frozen"` // instant of the VM snapshot
	Quiesced  bool        `json:"quiesced"`
	Confirmed time.Time   `json:"confirmed"` // last instant at which a cycle found nothing changed; zero: never
	Disk      DiskID      `json:"disk"`
	DiskLabel string      `json:"diskLabel"`
	DiskSize  int64       `json:"diskSize"`           // bytes of the virtual disk, not of the volume
	Ordinal   int         `json:"ordinal"`            // this is disk Ordinal (from 1) …
	Of        int         `json:"of"`                 // … of Of in the recovery point
	Excluded  []string    `json:"excluded,omitempty"` // labels of disks left out at the user's wish
	ChangeID  ChangeID    `json:"changeID,omitempty"`
	Parent    SnapshotID  `json:"parent,omitempty"`
	Kind      PlanKind    `json:"kind"`
	Reason    string      `json:"reason"`
	// Converts, of a Conversion only, is the cycle of the point whose boot disk
	// was converted; Parent is that disk's snapshot.
	Converts CycleID `json:"converts,omitempty"`
	// ZerosAbsent: blocks of zeros were left out somewhere in this chain, so
	// the snapshot must never be encrypted by a launch.
	ZerosAbsent bool `json:"zerosAbsent"`
	// Root is SHA-256 over the digests of all blocks of the volume, ascending,
	// absent ones as ZeroDigest; nil when not every block was known. Set just
	// before the snapshot is completed.
	Root *Digest `json:"root,omitempty"`
	// Suspect says since when and why the snapshot's bytes are in doubt, "" when
	// they are not. Set later, by an audit.
	Suspect string `json:"suspect,omitempty"`
	// Blocks written to this snapshot itself; -1 while it is not known.
	Blocks int64 `json:"blocks"`
}

// Snapshot is an EBS snapshot of ours: its label, and what EC2 says.
type Snapshot struct {
	ID        SnapshotID `json:"id"`
	State     State      `json:"state"`
	Message   string     `json:"message,omitempty"` // EC2's reason for an error
	Started   time.Time  `json:"started"`
	VolumeGiB int64      `json:"volumeGiB"`
	Encrypted bool       `json:"encrypted"`
	KMSKey    string     `json:"kmsKey,omitempty"`
	Label     Label      `json:"label"`
}

// DraftSpec is all that starts a draft. The caller has it on disk before
// StartSnapshot, so that a lost answer or a crash finds the same draft again.
type DraftSpec struct {
	Token     string            `json:"token"` // idempotency token, <= 255 characters
	Label     Label             `json:"label"`
	VolumeGiB int64             `json:"volumeGiB"`
	Encrypted bool              `json:"encrypted"` // never together with a parent: the child inherits
	KMSKey    string            `json:"kmsKey,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"` // the user's own
}

// Seal is what completes a draft.
type Seal struct {
	Blocks   int64  // distinct block indexes written to this snapshot
	Checksum Digest // SHA-256 over their raw digests, ascending by index
	Root     *Digest
	// Label, when set, takes the place of the one that the draft was started
	// with: an earlier cycle started it, and this one froze the disk anew.
	Label *Label
}

// Store keeps EBS snapshots. All methods may be called by many goroutines.
// Requests are retried inside; an error that comes out has been classified.
type Store interface {
	// Snapshots returns every snapshot, pending and failed ones too, that
	// carries our mark and this VM. Labels that cannot be read are an error
	// that names the snapshot, never left out silently.
	Snapshots(ctx context.Context, vm VMID) ([]Snapshot, error)

	// EncryptsByDefault says whether the account encrypts new snapshots that
	// do not ask for it.
	EncryptsByDefault(ctx context.Context) (bool, error)

	// Start opens a draft. The same spec again, token included, gives the same
	// draft. An unusable parent is an error of kind BaselineLost.
	Start(ctx context.Context, spec DraftSpec) (Draft, error)

	// Confirm records on snapshots of a complete point that at an instant
	// nothing had changed, and the change ID of each at that instant. Safe to
	// repeat; each snapshot's pair of tags is written in one call.
	Confirm(ctx context.Context, at time.Time, ids map[SnapshotID]ChangeID) error

	// Suspect marks completed snapshots as in doubt, for this reason. Safe to
	// repeat; one that is gone already is no error.
	Suspect(ctx context.Context, ids []SnapshotID, why string) error

	// Read opens a completed snapshot for reading back.
	Read(ctx context.Context, id SnapshotID) (SnapshotReader, error)
}

// Draft is a pending snapshot: Put any number of times from many goroutines,
// then Seal or Abort, once, and nothing after.
type Draft interface {
	ID() SnapshotID

	// Put writes one whole block and returns when AWS has acknowledged it. The
	// block's buffer is the caller's again on return. The same index may be
	// put again; the last one counts.
	Put(ctx context.Context, index int64, block []byte, digest Digest) error

	// Seal completes the draft and returns when EC2 reports it completed, and
	// not before: EC2's later "error" is an error here.
	Seal(ctx context.Context, seal Seal) error

	// Abort deletes the draft; it gets a context of its own. Of a draft that
	// is gone already it returns nil. It never deletes a completed snapshot.
	Abort(ctx context.Context) error
}

// SnapshotReader reads a completed snapshot back.
type SnapshotReader interface {
	// Blocks calls yield for every present block, ascending; token is what Get
	// wants. Absent blocks are not listed.
	Blocks(ctx context.Context, yield func(index int64, token string) error) error

	// Get fills buf (BlockSize long) with one block and returns its digest,
	// which it has checked against the one that AWS sent. Many at once.
	Get(ctx context.Context, index int64, token string, buf []byte) (Digest, error)
}
