package transfer

import (
	"errors"
	"fmt"
	"strings"
)

// PlanKind is how one disk is copied in one cycle.
type PlanKind string

// The kinds of plan.
const (
	// Seed copies the whole disk into a snapshot without a parent.
	Seed PlanKind = "seed"
	// Delta copies what CBT says has changed since the parent.
	Delta PlanKind = "delta"
	// Compare reads the whole disk and copies the blocks whose digests differ
	// from the parent's.
	Compare PlanKind = "compare"
	// Conversion is no copy of a source disk: it holds what making the guest of
	// a recovery point ready for EC2 has changed on its boot disk.
	Conversion PlanKind = "conversion"
)

// ZeroPolicy says which blocks of zeros may stay absent from a seed.
type ZeroPolicy string

// The zero policies.
const (
	// ZerosAuto leaves blocks of zeros out while the snapshot is and stays
	// unencrypted, and writes every block otherwise: absent blocks of an
	// encrypted snapshot read back as garbage (coldsnap#395, #396, #469).
	ZerosAuto ZeroPolicy = "auto"
	// ZerosAll writes every block of the volume.
	ZerosAll ZeroPolicy = "all"
	// ZerosAllocated reads only what vSphere reports as allocated. What it
	// forgets to report is lost, and in an encrypted snapshot what was never
	// allocated reads back as garbage.
	ZerosAllocated ZeroPolicy = "allocated"
)

// Known says how much the local manifest knows about a snapshot.
type Known int

// How much is known.
const (
	KnownNothing Known = iota // there is no manifest of it
	KnownPartly               // the digests of some blocks
	KnownWhole                // the digest of every block
)

// PlanInput is everything that decides how a disk is copied.
type PlanInput struct {
	Disk     Disk      // as frozen
	Tracking string    // FrozenVM.Tracking
	Base     *Snapshot // Baseline of the disk, or nil
	NoBase   string    // why Base is nil
	Known    Known     // what the manifest knows about Base
	Lost     string    // why CBT refused Base's change ID, "" if it did not

	Zeros            ZeroPolicy
	Encrypted        bool   // asked for by the user
	KMSKey           string // asked for by the user
	EncryptByDefault bool   // the account's setting
	Reseed           bool   // asked for by the user
}

// Plan is how a disk is copied, and why.
type Plan struct {
	Kind   PlanKind
	Reason string    // for a person, one line
	Base   *Snapshot // the parent; nil for a seed
	Since  ChangeID  // for a delta

	// Allocated: ask for allocated areas and read only those.
	Allocated bool
	// SkipZeros: blocks of zeros that nothing is known about stay absent.
	SkipZeros bool
	// ZerosAbsent is the label's: some block of the chain may be absent.
	ZerosAbsent bool
	// Fill is a range of blocks behind the disk's end that are zeros without
	// being read, and must be written.
	FillFirst, FillEnd int64
	// Whole: after this plan every block of the snapshot is known.
	Whole bool

	Encrypted bool // for StartSnapshot, never with a parent
	KMSKey    string
}

// ErrShrunk is the cause when a disk is smaller than its last recovery point.
var ErrShrunk = errors.New("the disk is smaller than in its last recovery point")

// Decide chooses the plan. The only errors are for a person to resolve.
func Decide(in PlanInput) (Plan, error) {
	if in.Base != nil && !in.Reseed && in.Disk.Size < in.Base.Label.DiskSize {
		return Plan{}, Fail(Permanent, "plan "+in.Disk.Label,
			fmt.Errorf("%w: %d bytes, %d in %s", ErrShrunk, in.Disk.Size, in.Base.Label.DiskSize, in.Base.ID),
			"vSphere cannot shrink a disk, so this is another disk under the same identity. Look at what happened to the VM, then run sync with --seed to start the disk anew.")
	}
	if why := noParent(in); why != "" {
		return seed(in, why), nil
	}
	lost := baselineLost(in)
	switch {
	case lost == "":
		return child(in, Delta, "changes since "+string(in.Base.ID)), nil
	case in.Known == KnownWhole:
		return child(in, Compare, lost), nil
	default:
		return seed(in, lost+", and there is no local manifest of "+string(in.Base.ID)+" to compare with"), nil
	}
}

// noParent says why the draft cannot have a parent, or "".
func noParent(in PlanInput) string {
	switch {
	case in.Reseed:
		return "asked for"
	case in.Base == nil:
		return in.NoBase
	case in.EncryptByDefault && !in.Base.Encrypted:
		return fmt.Sprintf("the account now encrypts by default and %s is not encrypted", in.Base.ID)
	case (in.Encrypted || in.KMSKey != "") && !in.Base.Encrypted:
		return fmt.Sprintf("encryption is asked for and %s is not encrypted", in.Base.ID)
	case otherKey(in.KMSKey, in.Base.KMSKey):
		return fmt.Sprintf("another KMS key is asked for than that of %s", in.Base.ID)
	case in.Zeros == ZerosAll && in.Base.Label.ZerosAbsent:
		return fmt.Sprintf("every block is to be written and %s has absent ones", in.Base.ID)
	}
	return ""
}

// otherKey compares key ARNs; an alias or a bare ID cannot be compared and
// passes, since a child inherits its parent's key anyway.
func otherKey(asked, have string) bool {
	return strings.Contains(asked, ":key/") && asked != have
}

// baselineLost says why change tracking cannot bridge the time since Base, or
// "". The rules are rows 1 to 7 of the CBT table in the vSphere facts.
func baselineLost(in PlanInput) string {
	base, now := in.Base.Label.ChangeID, in.Disk.ChangeID
	baseSeq, baseOK := base.Sequence()
	nowSeq, nowOK := now.Sequence()
	switch {
	case in.Lost != "":
		return in.Lost
	case in.Base.Label.Suspect != "":
		return fmt.Sprintf("%s is suspect (%s)", in.Base.ID, in.Base.Label.Suspect)
	case in.Disk.Size != in.Base.Label.DiskSize:
		return fmt.Sprintf("the disk grew from %d to %d bytes", in.Base.Label.DiskSize, in.Disk.Size)
	case now == "" && in.Tracking != "":
		return in.Tracking
	case now == "":
		return "the VM snapshot carries no change ID for this disk"
	case base == "":
		return fmt.Sprintf("%s was made without a change ID", in.Base.ID)
	case !baseOK || !nowOK:
		return fmt.Sprintf("change ID %q or %q is not of the form uuid/sequence", base, now)
	case base.Epoch() != now.Epoch():
		return "CBT was reset since (another tracking epoch)"
	case nowSeq < baseSeq:
		return fmt.Sprintf("the VM was reverted (change sequence %d after %d)", nowSeq, baseSeq)
	}
	return ""
}

func seed(in PlanInput, why string) Plan {
	encrypted := in.Encrypted || in.KMSKey != "" || in.EncryptByDefault
	p := Plan{
		Kind: Seed, Reason: why,
		Allocated: in.Zeros == ZerosAllocated,
		SkipZeros: !encrypted && in.Zeros != ZerosAll,
		Encrypted: in.Encrypted || in.KMSKey != "",
		KMSKey:    in.KMSKey,
	}
	p.ZerosAbsent = p.SkipZeros || p.Allocated
	p.Whole = !p.Allocated || !encrypted // what is absent from an encrypted one is garbage, not zeros
	if !p.SkipZeros {
		p.FillFirst, p.FillEnd = DiskBlocks(in.Disk.Size), VolumeBlocks(in.Disk.Size)
	}
	return p
}

func child(in PlanInput, kind PlanKind, why string) Plan {
	base := in.Base
	p := Plan{
		Kind: kind, Reason: why, Base: base,
		ZerosAbsent: base.Label.ZerosAbsent,
		Whole:       in.Known == KnownWhole,
	}
	if kind == Delta {
		p.Since = base.Label.ChangeID
		return p
	}
	if grownFrom := base.VolumeGiB * BlocksPerGiB; grownFrom < VolumeBlocks(in.Disk.Size) {
		if base.Encrypted || in.Zeros == ZerosAll {
			p.FillFirst, p.FillEnd = DiskBlocks(in.Disk.Size), VolumeBlocks(in.Disk.Size)
		} else {
			p.SkipZeros, p.ZerosAbsent = true, true
		}
	}
	return p
}
