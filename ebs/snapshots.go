package ebs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/sync/errgroup"

	"snapferry/transfer"
)

const (
	// pageSize is EC2's largest page.
	pageSize = 1000
	// filterValues is how many values EC2 takes in one filter.
	filterValues = 200
	// tagWriters at once: EC2 refills only some five tag writes a second.
	tagWriters = 4
)

// Snapshots returns every snapshot that carries our mark and this VM, pending
// and failed ones too, oldest first.
func (s *Store) Snapshots(ctx context.Context, vm transfer.VMID) ([]transfer.Snapshot, error) {
	what := fmt.Sprintf("list the snapshots of VM %s", vm)
	if vm.VCenter == "" || vm.Moref == "" {
		return nil, refuse(what, "vCenter and moref must both be known")
	}
	found, err := s.list(ctx, what, ofVM(vm)...)
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ofVM chooses the snapshots of one VM.
func ofVM(vm transfer.VMID) []types.Filter {
	return []types.Filter{filter("tag:"+tagVCenter, literal(vm.VCenter)), filter("tag:"+tagVM, literal(vm.Moref))}
}

// AllSnapshots returns every snapshot in the region that carries our mark,
// oldest first. Beside an error of kind Permanent that names snapshots whose
// labels cannot be read it returns the others.
func (s *Store) AllSnapshots(ctx context.Context) ([]transfer.Snapshot, error) {
	return s.list(ctx, "list the snapshots of all VMs")
}

// list describes, decodes and sorts the snapshots with our mark.
func (s *Store) list(ctx context.Context, what string, filters ...types.Filter) ([]transfer.Snapshot, error) {
	raw, err := s.describe(ctx, what, append(filters, filter("tag-key", tagVersion))...)
	if err != nil {
		return nil, err
	}
	return decodeAll(what, raw)
}

// decodeAll decodes and sorts what was described; beside an error that names
// the unreadable ones it returns the others.
func decodeAll(what string, raw []types.Snapshot) ([]transfer.Snapshot, error) {
	var unreadable []error
	found := make([]transfer.Snapshot, 0, len(raw))
	for _, r := range raw {
		snap, err := decodeSnapshot(r)
		if err != nil {
			unreadable = append(unreadable, err)
			continue
		}
		found = append(found, snap)
	}
	slices.SortFunc(found, func(a, b transfer.Snapshot) int {
		if c := a.Started.Compare(b.Started); c != 0 {
			return c
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	if len(unreadable) > 0 {
		return found, transfer.Fail(transfer.Permanent, what, errors.Join(unreadable...),
			"somebody changed its tags, or a newer snapferry wrote them: put the tag right, or remove "+tagVersion+" from a snapshot that is not to count")
	}
	return found, nil
}

func decodeSnapshot(r types.Snapshot) (transfer.Snapshot, error) {
	id := transfer.SnapshotID(aws.ToString(r.SnapshotId))
	label, err := decodeLabel(tagMap(r.Tags))
	if err != nil {
		return transfer.Snapshot{}, fmt.Errorf("read the label of snapshot %s: %w", id, err)
	}
	return transfer.Snapshot{
		ID: id, State: transfer.State(r.State), Message: aws.ToString(r.StateMessage),
		Started: aws.ToTime(r.StartTime), VolumeGiB: int64(aws.ToInt32(r.VolumeSize)),
		Encrypted: aws.ToBool(r.Encrypted), KMSKey: aws.ToString(r.KmsKeyId), Label: label,
	}, nil
}

// describe pages through DescribeSnapshots for the account's own snapshots.
func (s *Store) describe(ctx context.Context, what string, filters ...types.Filter) ([]types.Snapshot, error) {
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters, MaxResults: aws.Int32(pageSize)}
	var all []types.Snapshot
	for {
		out, err := s.describePage(ctx, what, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Snapshots...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		in.NextToken = out.NextToken
	}
}

func (s *Store) describePage(ctx context.Context, what string, in *ec2.DescribeSnapshotsInput) (*ec2.DescribeSnapshotsOutput, error) {
	var out *ec2.DescribeSnapshotsOutput
	err := s.do(ctx, request{op: opDescribe, what: what}, func(ctx context.Context) (err error) {
		out, err = s.api.ec2.DescribeSnapshots(ctx, in)
		return err
	})
	return out, err
}

// describeIDs returns those of some snapshots that are the account's own. By ID
// it is one cheap look-up; EC2 has an error instead where one of them does not
// exist, and then a filter finds the others.
func (s *Store) describeIDs(ctx context.Context, what string, ids ...string) ([]types.Snapshot, error) {
	var all []types.Snapshot
	for some := range slices.Chunk(ids, filterValues) {
		out, err := s.describePage(ctx, what, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, SnapshotIds: some})
		switch {
		case err == nil:
			all = append(all, out.Snapshots...)
		case isMissing(err) && len(some) == 1:
		case isMissing(err):
			values := make([]string, len(some))
			for i, id := range some {
				values[i] = literal(id)
			}
			found, err := s.describe(ctx, what, filter("snapshot-id", values...))
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		default:
			return nil, err
		}
	}
	return all, nil
}

// describeOne returns one snapshot of the account, or nil if there is none.
func (s *Store) describeOne(ctx context.Context, what string, id transfer.SnapshotID) (*types.Snapshot, error) {
	found, err := s.describeIDs(ctx, what, string(id))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

// states is what EC2 says of some snapshots, for the watcher.
func (s *Store) states(ctx context.Context, ids []transfer.SnapshotID) (map[transfer.SnapshotID]ending, error) {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	raw, err := s.describeIDs(ctx, "see whether snapshots are completed", names...)
	if err != nil {
		return nil, err
	}
	found := make(map[transfer.SnapshotID]ending, len(ids))
	for _, r := range raw {
		found[transfer.SnapshotID(aws.ToString(r.SnapshotId))] = ending{transfer.State(r.State), aws.ToString(r.StateMessage)}
	}
	return found, nil
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}

// literal keeps EC2 from reading wildcards in a filter's value.
func literal(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(s)
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

// tag writes tags on one snapshot in one call. known is as in request.
func (s *Store) tag(ctx context.Context, what string, id transfer.SnapshotID, known time.Time, tags map[string]string) error {
	in := &ec2.CreateTagsInput{Resources: []string{string(id)}}
	for _, k := range sortedKeys(tags) {
		in.Tags = append(in.Tags, types.Tag{Key: aws.String(k), Value: aws.String(tags[k])})
	}
	return s.do(ctx, request{op: opTag, what: what, known: known}, func(ctx context.Context) error {
		_, err := s.api.ec2.CreateTags(ctx, in)
		return err
	})
}

// Confirm records on snapshots of a complete point that nothing had changed at
// an instant, and the change ID of each at that instant, one call each. It may
// be repeated.
func (s *Store) Confirm(ctx context.Context, at time.Time, ids map[transfer.SnapshotID]transfer.ChangeID) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagWriters)
	for id, change := range ids {
		what := fmt.Sprintf("confirm snapshot %s", id)
		tags, err := confirmTags(at, change)
		if err != nil {
			return refuse(what, "%w", err)
		}
		group.Go(func() error { return s.tag(ctx, what, id, time.Time{}, tags) })
	}
	return group.Wait()
}

// Delete deletes a snapshot in whatever state, after a look at its tags: one
// that does not carry our mark is an error. Of one that is gone it returns nil.
func (s *Store) Delete(ctx context.Context, id transfer.SnapshotID) error {
	what := fmt.Sprintf("delete snapshot %s", id)
	found, err := s.describeOne(ctx, what, id)
	if err != nil || found == nil {
		return err
	}
	return s.deleteOurs(ctx, what, found)
}

// deleteOurs deletes what DescribeSnapshots has just shown, if it is ours.
func (s *Store) deleteOurs(ctx context.Context, what string, found *types.Snapshot) error {
	if _, ours := tagMap(found.Tags)[tagVersion]; !ours {
		return transfer.Fail(transfer.Permanent, what, errors.New("it does not carry our tags"),
			"only snapshots tagged "+tagVersion+" are deleted; delete it by hand if it is to go")
	}
	err := s.do(ctx, request{op: opDelete, what: what}, func(ctx context.Context) error {
		_, err := s.api.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: found.SnapshotId})
		if isMissing(err) {
			return nil // an earlier attempt, or somebody else, was faster
		}
		return err
	})
	return err
}

// Suspect marks completed snapshots as in doubt, one call each. One that is
// gone is no error.
func (s *Store) Suspect(ctx context.Context, ids []transfer.SnapshotID, why string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagWriters)
	for _, id := range ids {
		what := fmt.Sprintf("mark snapshot %s as suspect", id)
		group.Go(func() error {
			err := s.tag(ctx, what, id, time.Time{}, map[string]string{tagSuspect: cut(printable(why), maxValue)})
			if err == nil {
				return nil
			}
			if found, ferr := s.describeOne(ctx, what, id); ferr == nil && found == nil {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}
