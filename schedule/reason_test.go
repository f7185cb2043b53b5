package schedule

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapferry/transfer"
)

type sharper struct{ error }

func (sharper) Reason() Reason { return ReasonNoReach }

func TestReasonOf(t *testing.T) {
	fail := func(kind transfer.Kind, op, text string) error { return transfer.Fail(kind, op, errors.New(text), "") }
	for _, x := range []struct {
		err  error
		want Reason
	}{
		{nil, ""},
		{sharper{errors.New("x")}, ReasonNoReach},
		{fmt.Errorf("disk: %w", sharper{errors.New("vCenter cannot be reached")}), ReasonNoReach},
		{context.Canceled, ReasonRetry},
		{fail(transfer.Canceled, "freeze app01", "context canceled"), ReasonRetry},
		{fail(transfer.Permanent, "log in to vCenter vc as x", "vCenter does not accept the user name or the password (InvalidLogin)"), ReasonVCenterAuth},
		{fail(transfer.Permanent, "freeze app01", "the vCenter user lacks the privilege VirtualMachine.State.CreateSnapshot on VirtualMachine vm-7"), ReasonVCenterAuth},
		{fail(transfer.Permanent, "connect to vCenter vc", "the certificate changed"), ReasonVCenter},
		{fmt.Errorf("Hard disk 1: %w", fail(transfer.Retry, "attach Hard disk 1 of app01", "vCenter cannot be reached or its answer be read: EOF")), ReasonVCenter},
		{fail(transfer.Retry, "freeze app01", "vCenter gave no answer in time (2m)"), ReasonVCenter},
		{fail(transfer.Permanent, "put block 3 of snapshot snap-1", "the AWS credentials have expired: api error ExpiredToken"), ReasonAWSAuth},
		{fail(transfer.Permanent, "start a snapshot of x", "these credentials do not permit it: AccessDenied"), ReasonAWSAuth},
		{fail(transfer.Retry, "put block 3 of snapshot snap-1", "AWS throttled the account's requests, 12 attempts"), ReasonThrottled},
		{fail(transfer.Retry, "start a snapshot of x", "the account's limit of pending snapshots is reached"), ReasonThrottled},
		{fail(transfer.Retry, "list the snapshots of VM x", "the endpoint cannot be reached: dial tcp"), ReasonAWS},
		{fail(transfer.Retry, "put block 3 of snapshot snap-1", "the connection broke or no answer came"), ReasonAWS},
		{fail(transfer.Permanent, "freeze app01", "datastore ds1 has 3 MiB free, less than the 10240 MiB that a VM snapshot should find"), ReasonDatastore},
		{fail(transfer.Permanent, "freeze app01", "the datastore ds1 is full (NoDiskSpace: no)"), ReasonDatastore},
		{fail(transfer.Permanent, "attach Hard disk 1 of app01", "the appliance's host esx2 does not see the datastore of the disk (ds1, datastore-3)"), ReasonNoReach},
		{fail(transfer.Permanent, "replicate app01", "it is a template"), ReasonObstacle},
		{fail(transfer.Permanent, "exclude disk 9", "app01 has no such disk"), ReasonObstacle},
		{fail(transfer.Retry, "replicate app01", "another cycle runs"), ReasonRetry},
		{fail(transfer.Retry, "attach Hard disk 1 of app01", "the appliance's configuration keeps changing"), ReasonAttach},
		{errors.Join(fmt.Errorf("Hard disk 1: %w", fail(transfer.Retry, "detach x", "it is still attached"))), ReasonAttach},
		{fail(transfer.Permanent, "freeze app01", "the VM has too many levels of snapshots (TooManySnapshotLevels)"), ReasonSnapshot},
		{fail(transfer.Retry, "remove VM snapshot \"snapferry-1\" (snapshot-3)", "it still runs"), ReasonSnapshot},
		{fail(transfer.Retry, "read 4096 bytes at 0 of [ds] x", "input/output error"), ReasonRetry},
		{fail(transfer.Retry, "seal snapshot snap-1", "EC2 does not list the snapshot any more"), ReasonRetry},
		{fail(transfer.Permanent, "read snapshot snap-1", "it is gone"), ReasonOther},
		{errors.New("whatever"), ReasonOther},
	} {
		if got := ReasonOf(x.err); got != x.want {
			t.Errorf("%v: %s, want %s", x.err, got, x.want)
		}
	}
}

// TestCausesAreSaid holds the table together with the packages whose words it
// knows: a text that nobody says any more tells no reason.
func TestCausesAreSaid(t *testing.T) {
	var text strings.Builder
	for _, pattern := range []string{"../vsphere/*.go", "../vsphere/hotadd/*.go", "../ebs/*.go", "../transfer/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(b)
		}
	}
	said := text.String()
	check := func(s string) {
		t.Helper()
		for part := range strings.SplitSeq(s, "*") {
			if part = strings.TrimSuffix(part, ":"); !strings.Contains(said, part) {
				t.Errorf("%q is said nowhere", part)
			}
		}
	}
	for _, c := range causes {
		for _, s := range c.says {
			check(s)
		}
	}
	for _, d := range deeds {
		for _, s := range d.begins {
			check(s)
		}
	}
}
