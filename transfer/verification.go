package transfer

import (
	"errors"
	"fmt"
	"time"
)

// VerifyKind is what a snapshot was held against, and how much of it.
type VerifyKind string

// The kinds of verification.
const (
	VerifyFull   VerifyKind = "full"   // every block was read back
	VerifySample VerifyKind = "sample" // some were, chosen at random
	VerifySource VerifyKind = "source" // compared with the VM, frozen anew
)

// Verification is the result of verifying one snapshot, as it is stored with
// it.
type Verification struct {
	At     time.Time  `json:"at"`
	Kind   VerifyKind `json:"kind"`
	Proof  Proof      `json:"proof,omitempty"` // of VerifyFull and VerifySample
	OK     bool       `json:"ok"`
	Blocks int64      `json:"blocks"` // compared
	Of     int64      `json:"of"`     // that could have been: present ones, or those that CBT calls unchanged
	Wrong  int64      `json:"wrong"`  // blocks; 0 beside OK false: the whole is wrong, and nobody knows where
}

// Check says why a verification cannot be true, in itself and of snapshot s.
func (v Verification) Check(s Snapshot, now time.Time) error {
	const skew = 24 * time.Hour // clocks of appliances may be wrong, not by days
	most := s.VolumeGiB * BlocksPerGiB
	switch {
	case v.At.Before(s.Started.Add(-skew)) || v.At.After(now.Add(skew)):
		return fmt.Errorf("it is of %s, the snapshot of %s", v.At.Format(time.RFC3339), s.Started.Format(time.RFC3339))
	case v.Blocks < 0 || v.Of < v.Blocks || v.Of > most || v.Wrong < 0 || v.Wrong > most:
		return fmt.Errorf("%d of %d blocks, %d of them wrong, of a volume of %d", v.Blocks, v.Of, v.Wrong, most)
	case v.OK && v.Wrong > 0:
		return fmt.Errorf("%d wrong blocks are not right", v.Wrong)
	case v.Kind == VerifySource:
		if v.Proof != "" {
			return fmt.Errorf("proof %q of the source", v.Proof)
		}
		return nil
	case v.Kind != VerifyFull && v.Kind != VerifySample:
		return fmt.Errorf("%q is no kind of verification", v.Kind)
	case v.Kind == VerifyFull && v.Blocks != v.Of:
		return errors.New("it calls itself full and is not")
	case v.Proof != ProofManifest && v.Proof != ProofRoot && v.Proof != ProofNone:
		return fmt.Errorf("%q is no proof", v.Proof)
	}
	return nil
}

// Replaces reports whether v is stored in place of old. The newer one is,
// except that a wrong result stays until a full proof refutes it: luckier
// samples do not make a snapshot right, and one that lacks what the source has
// is proven perfectly against what was put.
func (v Verification) Replaces(old *Verification) bool {
	switch {
	case old == nil || old.OK:
		return true
	case old.Kind == VerifySource:
		return v.Kind == VerifySource && !v.OK
	case !v.OK:
		return true
	}
	return v.Kind == VerifyFull && v.Proof != ProofNone
}

// VerificationOf is the result to store of reading a snapshot back.
func VerificationOf(p Proved, at time.Time) Verification {
	v := Verification{At: at, Kind: VerifyFull, Proof: p.Proof, OK: p.OK, Blocks: p.Blocks, Of: p.Blocks, Wrong: p.Wrong}
	if p.Sampled {
		v.Kind, v.Of = VerifySample, p.Of
	}
	return v
}

// Notes are what later hands wrote on a sealed snapshot's tags.
type Notes struct {
	Verified *Verification `json:"verified,omitempty"`
	// Unreadable is why there is none although something is written there.
	Unreadable string `json:"unreadable,omitempty"`
	// InUse is who uses the snapshot, a launch for one; "" is nobody.
	InUse string `json:"inUse,omitempty"`
	// Boot is what launching the point has shown last; nil: it never was.
	Boot *BootProof `json:"boot,omitempty"`
}

// BootProof is how a launch of a point ended, as its snapshots' tags have it. It
// is no Verification: that says which blocks are right, this what the whole
// boots to.
type BootProof struct {
	At     time.Time `json:"at"`
	OK     bool      `json:"ok"`             // it came up and passed its checks
	Checks int       `json:"checks"`         // of the user's, besides EC2's own
	Job    string    `json:"job"`            // the launch
	Text   string    `json:"text,omitempty"` // what was wrong
}

// BootOf is what launching a point has shown, noted on its boot disk.
func BootOf(p Point, notes map[SnapshotID]Notes) *BootProof {
	if len(p.Disks) == 0 {
		return nil
	}
	return notes[p.Disks[0].ID].Boot
}

// PointVerification sums up what is noted on the snapshots of one point.
type PointVerification struct {
	Disks      int        `json:"disks"` // that were verified
	OK         bool       `json:"ok"`    // none of those is wrong
	Kind       VerifyKind `json:"kind"`  // of the oldest; of a wrong one where there is one
	Proven     bool       `json:"proven"`
	At         time.Time  `json:"at"` // as Kind
	Blocks     int64      `json:"blocks"`
	Of         int64      `json:"of"`
	Wrong      int64      `json:"wrong"`
	Unreadable string     `json:"unreadable,omitempty"` // why a note does not count
}

// VerifiedPoint sums up a point; nil where nothing is noted on it.
func VerifiedPoint(p Point, notes map[SnapshotID]Notes) *PointVerification {
	sum := PointVerification{OK: true, Proven: true}
	for _, s := range p.Disks {
		n := notes[s.ID]
		if n.Unreadable != "" {
			sum.Unreadable = fmt.Sprintf("%s: %s", s.ID, n.Unreadable)
		}
		v := n.Verified
		if v == nil {
			continue
		}
		leads := sum.Disks == 0 || (sum.OK && (!v.OK || v.At.Before(sum.At))) || (!sum.OK && !v.OK && v.At.Before(sum.At))
		if leads {
			sum.Kind, sum.At = v.Kind, v.At
		}
		sum.Disks++
		sum.OK, sum.Proven = sum.OK && v.OK, sum.Proven && v.Proof != ProofNone
		sum.Blocks, sum.Of, sum.Wrong = sum.Blocks+v.Blocks, sum.Of+v.Of, sum.Wrong+v.Wrong
	}
	if sum.Disks == 0 && sum.Unreadable == "" {
		return nil
	}
	return &sum
}
