package ebs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithy "github.com/aws/smithy-go"

	"snapferry/transfer"
)

// Tags that are written on finished snapshots; lateTags keeps room for them.
// Nothing that a replication depends on is in them: whatever they hold, a
// label is read all the same.
const (
	tagVerified = tagPrefix + "verified"    // JSON, see note
	tagInUse    = tagPrefix + "in-use"      // by whom: a launch writes it, and takes it away
	tagProved   = tagPrefix + "boot-proved" // JSON, see bootNote: a launch writes it
)

// note is a verification as its tag has it. The snapshot is named in it, since
// copies of a snapshot are offered its tags, and nobody has verified those.
type note struct {
	Snapshot transfer.SnapshotID `json:"snap"`
	At       time.Time           `json:"at"`
	Kind     transfer.VerifyKind `json:"kind"`
	Proof    transfer.Proof      `json:"proof,omitempty"`
	OK       bool                `json:"ok"`
	Blocks   int64               `json:"blocks"`
	Of       int64               `json:"of"`
	Wrong    int64               `json:"wrong"`
}

// AllWithNotes is AllSnapshots, and beside it what is noted on them, by one
// listing. A note that cannot be read or believed is no error: it says why in
// Notes.Unreadable.
func (s *Store) AllWithNotes(ctx context.Context) ([]transfer.Snapshot, map[transfer.SnapshotID]transfer.Notes, error) {
	return s.withNotes(ctx, "list the snapshots of all VMs")
}

// WithNotes is AllWithNotes for one VM; as there, the snapshots that can be
// read come beside an error about those that cannot.
func (s *Store) WithNotes(ctx context.Context, vm transfer.VMID) ([]transfer.Snapshot, map[transfer.SnapshotID]transfer.Notes, error) {
	what := fmt.Sprintf("list the snapshots of VM %s", vm)
	if vm.VCenter == "" || vm.Moref == "" {
		return nil, nil, refuse(what, "vCenter and moref must both be known")
	}
	return s.withNotes(ctx, what, ofVM(vm)...)
}

func (s *Store) withNotes(ctx context.Context, what string, filters ...types.Filter) ([]transfer.Snapshot, map[transfer.SnapshotID]transfer.Notes, error) {
	raw, err := s.describe(ctx, what, append(filters, filter("tag-key", tagVersion))...)
	if err != nil {
		return nil, nil, err
	}
	notes := map[transfer.SnapshotID]transfer.Notes{}
	for _, r := range raw {
		if n := decodeNotes(r, time.Now()); n != (transfer.Notes{}) {
			notes[transfer.SnapshotID(aws.ToString(r.SnapshotId))] = n
		}
	}
	found, err := decodeAll(what, raw)
	return found, notes, err
}

// decodeNotes reads what is noted on a snapshot. Anybody may have written it.
func decodeNotes(r types.Snapshot, now time.Time) transfer.Notes {
	tags := tagMap(r.Tags)
	var n transfer.Notes
	if v, there := tags[tagInUse]; there { // whatever it says: rather kept than lost
		n.InUse = cut(printable(v), maxValue)
		if n.InUse == "" {
			n.InUse = "tag " + tagInUse
		}
	}
	n.Boot = decodeBoot(tags)
	text, there := tags[tagVerified]
	if !there {
		return n
	}
	v, err := decodeVerification(text, r, now)
	if err != nil {
		n.Unreadable = fmt.Sprintf("tag %s: %v", tagVerified, err)
		return n
	}
	n.Verified = &v
	return n
}

// bootNote is a proof as package launch writes it. The cycle is in it, since
// copies of a snapshot are offered its tags.
type bootNote struct {
	Cycle  transfer.CycleID `json:"cycle"`
	At     time.Time        `json:"at"`
	Job    string           `json:"job"`
	OK     bool             `json:"ok"`
	Checks int              `json:"checks"`
	Text   string           `json:"text"`
}

// decodeBoot reads it; nil where there is none that can be believed.
func decodeBoot(tags map[string]string) *transfer.BootProof {
	var b bootNote
	if err := json.Unmarshal([]byte(tags[tagProved]), &b); err != nil || string(b.Cycle) != tags[tagCycle] || b.At.IsZero() {
		return nil
	}
	return &transfer.BootProof{At: b.At.UTC(), OK: b.OK, Checks: b.Checks, Job: cut(printable(b.Job), maxValue), Text: cut(printable(b.Text), maxValue)}
}

func decodeVerification(text string, r types.Snapshot, now time.Time) (transfer.Verification, error) {
	var t note
	if err := strictJSON(text, &t); err != nil {
		return transfer.Verification{}, err
	}
	if id := aws.ToString(r.SnapshotId); string(t.Snapshot) != id {
		return transfer.Verification{}, fmt.Errorf("it is about %q", cut(printable(string(t.Snapshot)), 64))
	}
	if _, err := formatTime(t.At); err != nil {
		return transfer.Verification{}, err
	}
	v := transfer.Verification{At: t.At.UTC(), Kind: t.Kind, Proof: t.Proof, OK: t.OK, Blocks: t.Blocks, Of: t.Of, Wrong: t.Wrong}
	err := v.Check(transfer.Snapshot{Started: aws.ToTime(r.StartTime), VolumeGiB: int64(aws.ToInt32(r.VolumeSize))}, now)
	return v, err
}

// Note stores the result of verifying a snapshot in its tags. kept is false
// where an older result weighs more and stays (see Verification.Replaces).
func (s *Store) Note(ctx context.Context, id transfer.SnapshotID, v transfer.Verification) (kept bool, err error) {
	what := fmt.Sprintf("note the verification of snapshot %s", id)
	found, err := s.ours(ctx, what, id)
	if err != nil {
		return false, err
	}
	v.At = v.At.UTC().Truncate(time.Second) // a tag is short, and seconds are enough
	snap := transfer.Snapshot{Started: aws.ToTime(found.StartTime), VolumeGiB: int64(aws.ToInt32(found.VolumeSize))}
	if err := v.Check(snap, time.Now()); err != nil {
		return false, refuse(what, "%w", err)
	}
	if !v.Replaces(decodeNotes(*found, time.Now()).Verified) {
		return false, nil
	}
	text, err := json.Marshal(note{Snapshot: id, At: v.At, Kind: v.Kind, Proof: v.Proof, OK: v.OK, Blocks: v.Blocks, Of: v.Of, Wrong: v.Wrong})
	if err != nil || len(text) > maxValue {
		return false, refuse(what, "%d bytes of JSON do not fit into a tag: %v", len(text), err)
	}
	return true, s.tag(ctx, what, id, time.Time{}, map[string]string{tagVerified: string(text)})
}

// Expire implements transfer.Expirer.
func (s *Store) Expire(ctx context.Context, id transfer.SnapshotID) error {
	what := fmt.Sprintf("delete snapshot %s", id)
	found, err := s.describeOne(ctx, what, id)
	if err != nil || found == nil {
		return err
	}
	if by := decodeNotes(*found, time.Now()).InUse; by != "" {
		return transfer.Fail(transfer.Permanent, what, fmt.Errorf("%w: %s", transfer.ErrInUse, by), "it can go once that has ended")
	}
	if state := transfer.State(found.State); state != transfer.Completed {
		return refuse(what, "EC2 calls it %s, and only completed snapshots expire", state)
	}
	err = s.deleteOurs(ctx, what, found)
	if isInUse(err) {
		return transfer.Fail(transfer.Permanent, what, fmt.Errorf("%w: %w", transfer.ErrInUse, err), transfer.HintOf(err))
	}
	return err
}

// ours describes a snapshot that must exist and carry our mark.
func (s *Store) ours(ctx context.Context, what string, id transfer.SnapshotID) (*types.Snapshot, error) {
	found, err := s.describeOne(ctx, what, id)
	switch {
	case err != nil:
		return nil, err
	case found == nil:
		return nil, transfer.Fail(transfer.Permanent, what, errors.New("it is gone"), "")
	}
	if _, ours := tagMap(found.Tags)[tagVersion]; !ours {
		return nil, refuse(what, "it does not carry our tags")
	}
	return found, nil
}

// isInUse: an image or something else of AWS's holds the snapshot.
func isInUse(err error) bool {
	var api smithy.APIError
	return errors.As(err, &api) && (codeClasses[api.ErrorCode()] == inUseCode || strings.HasSuffix(api.ErrorCode(), ".InUse"))
}
