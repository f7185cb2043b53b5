package aws_test

import (
	"fmt"
	"sync"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"snapferry/test/aws"
)

// Calls from all sides at once neither wait for each other for ever nor leave
// anything behind.
func TestManyClientsAtOnce(t *testing.T) {
	l := newLot(t, aws.Options{}).withImage()
	one := func(n int) error {
		in := l.runInput()
		in.ClientToken = awssdk.String(fmt.Sprint("client ", n))
		out, err := l.ec2.RunInstances(l.ctx, in)
		if err != nil {
			return err
		}
		id := *out.Instances[0].InstanceId
		if _, err := l.ec2.CreateTags(l.ctx, &ec2.CreateTagsInput{Resources: []string{id, l.snap, l.ami}, Tags: []types.Tag{{Key: awssdk.String(fmt.Sprint(n)), Value: &id}}}); err != nil {
			return err
		}
		if _, err := l.ec2.DescribeTags(l.ctx, &ec2.DescribeTagsInput{}); err != nil {
			return err
		}
		if _, err := l.ec2.DeleteSnapshot(l.ctx, &ec2.DeleteSnapshotInput{SnapshotId: &l.snap}); codeOf(err) != "InvalidSnapshot.InUse" {
			return fmt.Errorf("delete the snapshot of the image: %w", err)
		}
		l.e.Inventory()
		return l.terminate(id)
	}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			if err := one(n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l.wantKinds(map[string]int{"snapshot": 1, "image": 1})
}
