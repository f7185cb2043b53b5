package ebs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	smithy "github.com/aws/smithy-go"

	"snapferry/transfer"
)

const (
	// draftTimeout is in minutes and the longest that AWS takes: three days.
	// It counts from the last put, and when it runs out all that was written
	// is lost. A seed waits out a weekend's network fault; drafts that nobody
	// wants are deleted, not left to time out.
	draftTimeout   = 4320
	maxDescription = 255
	maxToken       = 255
	// cleanUp bounds what is undone after the caller's own context ended.
	cleanUp = time.Minute
)

// Start opens a draft. The same spec gives the same request, so that after a
// lost answer or a crash the same token finds the same draft.
func (s *Store) Start(ctx context.Context, spec transfer.DraftSpec) (transfer.Draft, error) {
	what := fmt.Sprintf("start a snapshot of %q of VM %s", spec.Label.DiskLabel, spec.Label.VM)
	in, err := startInput(spec)
	if err != nil {
		return nil, refuse(what, "%w", err)
	}
	var out *ebs.StartSnapshotOutput
	err = s.do(ctx, request{op: opStart, what: what, shared: s.starts}, func(ctx context.Context) (err error) {
		out, err = s.api.ebs.StartSnapshot(ctx, in)
		return err
	})
	if err != nil && spec.Label.Parent != "" {
		return nil, s.blameParent(ctx, what, spec, err)
	}
	if err != nil {
		return nil, err
	}
	d := s.newDraft(spec, out)
	if err := checkStarted(spec, out); err != nil {
		// The token would find this draft again: nothing may be built on it.
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
		defer cancel()
		if aerr := d.Abort(actx); aerr != nil {
			err = fmt.Errorf("%w (and snapshot %s is left pending: %w)", err, d.id, aerr)
		}
		return nil, transfer.Fail(transfer.Retry, what, err, "the next cycle plans anew")
	}
	return d, nil
}

func (s *Store) newDraft(spec transfer.DraftSpec, out *ebs.StartSnapshotOutput) *draft {
	// By AWS's own clock: a draft that was found again may be days old.
	var age time.Duration
	if now, ok := awsmiddleware.GetServerTime(out.ResultMetadata); ok && out.StartTime != nil {
		age = max(0, now.Sub(*out.StartTime))
	}
	return &draft{
		s: s, id: transfer.SnapshotID(aws.ToString(out.SnapshotId)), blocks: spec.VolumeGiB * transfer.BlocksPerGiB,
		known: time.Now().Add(s.cfg.Timing.NotYet - age), pace: newPacer(s.cfg.PutsPerSecondPerSnapshot),
	}
}

// startInput is the request of a spec, and of that spec only: tags are in
// order, and nothing in it depends on when or where it is made.
func startInput(spec transfer.DraftSpec) (*ebs.StartSnapshotInput, error) {
	switch {
	case spec.Token == "" || len(spec.Token) > maxToken || strings.ContainsAny(spec.Token, " \t\r\n"):
		return nil, fmt.Errorf("the token must have 1 to %d characters and no spaces", maxToken)
	case spec.VolumeGiB < 1 || spec.VolumeGiB > transfer.MaxVolumeGiB:
		return nil, fmt.Errorf("a volume has 1 to %d GiB, not %d", transfer.MaxVolumeGiB, spec.VolumeGiB)
	case spec.Label.Parent != "" && (spec.Encrypted || spec.KMSKey != ""):
		return nil, errors.New("encryption cannot be asked for together with a parent: the child inherits its parent's")
	case spec.KMSKey != "" && (!strings.HasPrefix(spec.KMSKey, "arn:") || !strings.Contains(spec.KMSKey, ":key/")):
		return nil, fmt.Errorf("%q is not the ARN of a KMS key: EBS takes neither key IDs nor aliases", cut(spec.KMSKey, 128))
	}
	tags, err := encodeLabel(spec.Label, spec.Tags)
	if err != nil {
		return nil, fmt.Errorf("write the label: %w", err)
	}
	in := &ebs.StartSnapshotInput{
		VolumeSize: aws.Int64(spec.VolumeGiB), ClientToken: aws.String(spec.Token), Timeout: aws.Int32(draftTimeout),
		Description: aws.String(cut("snapferry "+displayName(spec.Label), maxDescription)),
	}
	for _, k := range sortedKeys(tags) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(tags[k])})
	}
	if spec.Label.Parent != "" {
		in.ParentSnapshotId = aws.String(string(spec.Label.Parent))
	}
	if spec.KMSKey != "" {
		in.KmsKeyArn = aws.String(spec.KMSKey)
	}
	if spec.Encrypted || spec.KMSKey != "" {
		in.Encrypted = aws.Bool(true)
	}
	return in, nil
}

// checkStarted refuses a draft that is not what the spec means.
func checkStarted(spec transfer.DraftSpec, out *ebs.StartSnapshotOutput) error {
	encrypted := out.KmsKeyArn != nil || out.SseType == types.SSETypeSseKms || out.SseType == types.SSETypeSseEbs
	switch {
	case aws.ToString(out.SnapshotId) == "":
		return errors.New("AWS named no snapshot")
	case out.BlockSize != nil && *out.BlockSize != transfer.BlockSize:
		return fmt.Errorf("AWS has blocks of %d bytes, not %d", *out.BlockSize, transfer.BlockSize)
	case out.VolumeSize != nil && *out.VolumeSize != spec.VolumeGiB:
		return fmt.Errorf("AWS made a volume of %d GiB, not %d", *out.VolumeSize, spec.VolumeGiB)
	case encrypted && spec.Label.ZerosAbsent:
		// Absent blocks of an encrypted snapshot read back as garbage.
		return errors.New("the new snapshot is encrypted, but blocks of zeros were to be left out: encryption by default has been switched on")
	case !encrypted && (spec.Encrypted || spec.KMSKey != ""):
		return errors.New("the new snapshot is not encrypted although that was asked for")
	}
	return nil
}

// blameParent finds out whether a start failed because of the parent; then it
// is an error of kind BaselineLost, which a seed gets past. Asking only now
// spares every good start two calls, and lets a token find a draft whose parent
// has gone since.
func (s *Store) blameParent(ctx context.Context, what string, spec transfer.DraftSpec, failed error) error {
	var api smithy.APIError
	if !errors.As(failed, &api) {
		return failed
	}
	switch codeClasses[api.ErrorCode()] {
	case validationCode, missingCode, deniedCode:
	default:
		return failed
	}
	parent, err := s.describeOne(ctx, what, spec.Label.Parent)
	if err != nil {
		return errors.Join(failed, err)
	}
	lost := func(format string, args ...any) error {
		why := fmt.Sprintf(format, args...)
		return transfer.Fail(transfer.BaselineLost, what, fmt.Errorf("the parent %s %s: %w", spec.Label.Parent, why, failed), "")
	}
	switch {
	case parent == nil:
		return lost("is not among this account's snapshots of region %s", s.api.region)
	case transfer.State(parent.State) != transfer.Completed:
		return lost("is %s, not completed", parent.State)
	case int64(aws.ToInt32(parent.VolumeSize)) > spec.VolumeGiB:
		return lost("has %d GiB, more than the disk's %d", aws.ToInt32(parent.VolumeSize), spec.VolumeGiB)
	case codeClasses[api.ErrorCode()] == deniedCode:
		return failed // our rights, or the key's policy
	case codeClasses[api.ErrorCode()] == missingCode:
		return transfer.Fail(transfer.Retry, what, fmt.Errorf("EC2 lists the parent %s and EBS does not know it yet: %w", spec.Label.Parent, failed), "")
	case !aws.ToBool(parent.Encrypted):
		on, err := s.askEncrypts(ctx)
		if err != nil {
			return errors.Join(failed, err)
		}
		if on {
			return lost("is not encrypted and the account now encrypts by default")
		}
	}
	if types.ValidationExceptionReason(reasonOf(failed)) == types.ValidationExceptionReasonInvalidSnapshotId {
		return lost("was refused")
	}
	return failed
}
