package aws_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"snapferry/test/aws"
	"snapferry/test/fault"
)

// faulty is a rig with rules added after set-up.
func faulty(t *testing.T) (*rig, *fault.Set) {
	set := fault.New(1)
	r := newRig(t, aws.Options{Faults: set})
	t.Cleanup(func() {
		if u := set.Unfired(); len(u) > 0 {
			t.Errorf("rules that never fired: %v", u)
		}
	})
	return r, set
}

func TestFaultsOnPut(t *testing.T) {
	r, set := faulty(t)
	id, b := r.start(ebs.StartSnapshotInput{}), random()
	blocks := func() int { return r.e.Snapshots()[0].Blocks }
	play := func(rule fault.Rule) error {
		rule.Op, rule.Subject = "PutSnapshotBlock", id
		set.Add(rule)
		return r.tryPut(id, blocks(), b)
	}
	err := play(fault.Rule{Kind: fault.Throttle})
	var th *ebstypes.RequestThrottledException
	if !errors.As(err, &th) || th.Reason != "ACCOUNT_THROTTLED" {
		t.Errorf("throttle: %v", err)
	}
	if err := play(fault.Rule{Kind: fault.Cut, Name: "cut"}); err == nil || blocks() != 0 {
		t.Errorf("cut: %v, %d blocks", err, blocks())
	}
	if err := play(fault.Rule{Kind: fault.LostAnswer, Name: "lost"}); err == nil || blocks() != 1 {
		t.Errorf("lost answer: %v, %d blocks", err, blocks())
	}
	r.wantError(play(fault.Rule{Kind: fault.WrongBytes, Name: "bytes"}), "InvalidSignatureException", 403)
	r.wantError(play(fault.Rule{Kind: fault.Error, Name: "500", Detail: "InternalServerException"}), "InternalServerException", 500)
	r.wantError(play(fault.Rule{Kind: fault.Error, Name: "503", Detail: "overload"}), "InternalServerException", 503)
	r.wantReason(play(fault.Rule{Kind: fault.Error, Name: "slow", Detail: "ValidationException:WRITE_REQUEST_TIMEOUT"}), "WRITE_REQUEST_TIMEOUT")
	if err := play(fault.Rule{Kind: fault.Stall, Name: "short stall", Delay: time.Millisecond}); err != nil || blocks() != 2 {
		t.Errorf("short stall: %v, %d blocks", err, blocks())
	}
	if err := play(fault.Rule{Kind: fault.Lie, Name: "dropped", Detail: aws.LieDropped}); err != nil || blocks() != 2 {
		t.Errorf("dropped: %v, %d blocks", err, blocks())
	}
	r.wantError(play(fault.Rule{Kind: fault.DeadSession, Name: "session"}), "ExpiredTokenException", 403)
	r.wantError(r.tryPut(id, 2, b), "ExpiredTokenException", 403)
	r.e.RenewCredentials()
	if err := r.tryPut(id, 2, b); err != nil {
		t.Error(err)
	}
	set.Add(fault.Rule{Op: "PutSnapshotBlock", Kind: fault.WrongBytes, Name: "signed bytes"})
	if resp := r.send("ebs", "PUT", "/snapshots/"+id+"/blocks/9", "", putHeader(b), b); resp.StatusCode != 403 {
		t.Errorf("corrupted put with a signed payload: status %d", resp.StatusCode)
	}
	if m := r.e.Misuse(); len(m) > 0 {
		t.Errorf("misuse %v", m)
	}
}

func TestStallLastsUntilTheClientLeaves(t *testing.T) {
	r, set := faulty(t)
	id := r.start(ebs.StartSnapshotInput{})
	set.Add(fault.Rule{Op: "PutSnapshotBlock", Kind: fault.Stall})
	ctx, cancel := context.WithTimeout(r.ctx, 100*time.Millisecond)
	defer cancel()
	_, err := r.ebs.PutSnapshotBlock(ctx, putInput(id, 0, random()))
	if !errors.Is(err, context.DeadlineExceeded) || r.e.Snapshots()[0].Blocks != 0 {
		t.Errorf("stall: %v", err)
	}
}

func TestFaultsOnCompleteAndReads(t *testing.T) {
	r, set := faulty(t)
	b := random()
	good := r.snapshot(ebs.StartSnapshotInput{}, map[int][]byte{0: b})
	for detail, want := range map[string]string{aws.LieLateError: "error", aws.LieNeverCompletes: "pending"} {
		set.Add(fault.Rule{Name: detail, Op: "CompleteSnapshot", Kind: fault.Lie, Detail: detail})
		if s, _ := r.state(r.snapshot(ebs.StartSnapshotInput{}, nil)); s != want {
			t.Errorf("%s: state %s, want %s", detail, s, want)
		}
	}
	set.Add(fault.Rule{Op: "ListSnapshotBlocks", Kind: fault.Lie, Detail: aws.LieEmptyPage})
	indexes, tokens := r.list(good)
	if len(indexes) != 1 || r.e.Calls()["ListSnapshotBlocks"] != 2 {
		t.Errorf("listed %v in %v", indexes, r.e.Calls())
	}
	set.Add(fault.Rule{Op: "GetSnapshotBlock", Kind: fault.WrongBytes})
	if got, sum, err := r.tryGet(good, 0, tokens[0]); err != nil || digest(got) == sum || sum != digest(b) {
		t.Errorf("wrong bytes: checksum %s of data with %s, %v", sum, digest(got), err)
	}
	set.Add(fault.Rule{Op: "GetSnapshotBlock", Kind: fault.Lie, Detail: aws.LieWrongBlock, Name: "wrong block"})
	if got, sum, err := r.tryGet(good, 0, tokens[0]); err != nil || digest(got) != sum || sum == digest(b) {
		t.Errorf("wrong block: %s, %v", sum, err)
	}
	if got, _, err := r.tryGet(good, 0, tokens[0]); err != nil || !slices.Equal(got, b) {
		t.Errorf("after the faults: %v", err)
	}
	set.Add(fault.Rule{Op: "DescribeSnapshots", Kind: fault.Lie, Detail: aws.LieStale})
	if s, _ := r.state(good); s != "pending" {
		t.Errorf("stale: %s", s)
	}
	set.Add(fault.Rule{Op: "DescribeSnapshots", Kind: fault.Throttle})
	_, err := r.ec2.DescribeSnapshots(r.ctx, &ec2.DescribeSnapshotsInput{})
	r.wantError(err, "RequestLimitExceeded", 503)
}

func TestLostStartIsFoundByItsToken(t *testing.T) {
	r, set := faulty(t)
	set.Add(fault.Rule{Op: "StartSnapshot", Kind: fault.LostAnswer})
	in := &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1), ClientToken: awssdk.String("t")}
	if _, err := r.ebs.StartSnapshot(r.ctx, in); err == nil {
		t.Fatal("the answer was not lost")
	}
	out, err := r.ebs.StartSnapshot(r.ctx, in)
	if err != nil || len(r.e.Snapshots()) != 1 || r.e.Snapshots()[0].ID != *out.SnapshotId {
		t.Errorf("second start: %v, %v", out, err)
	}
}

func TestRulesThatCannotBePlayedAreRefused(t *testing.T) {
	r, set := faulty(t)
	for i, rule := range []fault.Rule{
		{Name: "a", Op: "StartSnapshot", Kind: fault.WrongBytes},
		{Name: "b", Op: "StartSnapshot", Kind: fault.Lie, Detail: aws.LieLateError},
		{Name: "c", Op: "StartSnapshot", Kind: fault.Error, Detail: "NoSuchThing"},
		{Name: "d", Op: "StartSnapshot", Kind: fault.TaskFault},
	} {
		set.Add(rule)
		_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1)})
		if c, _ := code(err); c != "ValidationException" || len(r.e.Misuse()) != i+1 {
			t.Errorf("rule %s: %v, misuse %v", rule.Name, err, r.e.Misuse())
		}
	}
}

func TestRates(t *testing.T) {
	r := newRig(t, aws.Options{PutsPerSecondPerSnapshot: 2, PutsPerSecondPerAccount: 3, StartsPerSecond: 2, ListPerSecond: 1, GetsPerSecondPerSnapshot: 1})
	a, b := r.start(ebs.StartSnapshotInput{}), r.start(ebs.StartSnapshotInput{})
	reason := func(err error) string {
		var th *ebstypes.RequestThrottledException
		if errors.As(err, &th) {
			return string(th.Reason)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	}
	_, err := r.ebs.StartSnapshot(r.ctx, &ebs.StartSnapshotInput{VolumeSize: awssdk.Int64(1)})
	got := []string{reason(err)}
	z := make([]byte, blockSize)
	for _, id := range []string{a, a, a, b, b} {
		got = append(got, reason(r.tryPut(id, 0, z)))
	}
	want := []string{"ACCOUNT_THROTTLED", "", "", "RESOURCE_LEVEL_THROTTLE", "", "ACCOUNT_THROTTLED"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
