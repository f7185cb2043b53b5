package ebs

import (
	"crypto/sha256"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/transfer"
)

func TestTheSameSpecFindsTheSameDraft(t *testing.T) {
	r := newRig(t, aws.Options{})
	spec := r.spec(func(s *transfer.DraftSpec) {
		s.Tags = map[string]string{"team": "storage", "cost": "17", "Owner": "ops"}
		s.Label.Excluded = []string{"Hard disk 3"}
	})
	first, err := r.store.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	// Another process, after a crash.
	second, err := r.open().Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if first.ID() != second.ID() {
		t.Errorf("drafts %s and %s", first.ID(), second.ID())
	}
	spec.Label.Reason = "another"
	_, err = r.store.Start(t.Context(), spec)
	wantKind(t, err, transfer.Permanent, "client token was used before", "start a new one")
}

func TestADraftFoundAgainIsNotYoung(t *testing.T) {
	r := newRig(t, aws.Options{})
	spec := r.spec()
	first, err := r.store.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	// The service's clock is an hour on: the window for 404s is long over.
	r.aws.SetClockSkew(3600e9)
	again, err := r.store.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := first.(*draft).known, again.(*draft).known; !b.Before(a.Add(-1800e9)) {
		t.Errorf("window ends at %v, and of the draft found again at %v", a, b)
	}
	if err := r.aws.DeleteOutOfBand(string(again.ID())); err != nil {
		t.Fatal(err)
	}
	b := block(1)
	wantKind(t, again.Put(t.Context(), 0, b, sha256.Sum256(b)), transfer.Retry, "does not know the snapshot")
}

func TestStartRefusesBadSpecs(t *testing.T) {
	r := newRig(t, aws.Options{})
	cases := map[string]func(*transfer.DraftSpec){
		"token":      func(s *transfer.DraftSpec) { s.Token = "" },
		"GiB":        func(s *transfer.DraftSpec) { s.VolumeGiB = 0 },
		"65536":      func(s *transfer.DraftSpec) { s.VolumeGiB = 65537 },
		"inherits":   func(s *transfer.DraftSpec) { s.Label.Parent, s.Encrypted = "snap-0123", true },
		"ARN":        func(s *transfer.DraftSpec) { s.KMSKey = "alias/backup" },
		tagVM:        func(s *transfer.DraftSpec) { s.Label.VM.Moref = "" },
		"snapferry:": func(s *transfer.DraftSpec) { s.Tags = map[string]string{"Snapferry:vm": "x"} },
		"aws:":       func(s *transfer.DraftSpec) { s.Tags = map[string]string{"AWS:x": "x"} },
	}
	for text, change := range cases {
		_, err := r.store.Start(t.Context(), r.spec(change))
		wantKind(t, err, transfer.Permanent, text, "Hard disk 1")
	}
	if n := r.store.Calls()[opStart]; n != 0 {
		t.Errorf("%d starts were sent", n)
	}
}

func TestParentsThatCannotServe(t *testing.T) {
	r := newRig(t, aws.Options{})
	gone := r.sealed(nil)
	if err := r.aws.DeleteOutOfBand(string(gone)); err != nil {
		t.Fatal(err)
	}
	large := r.sealed(nil, func(s *transfer.DraftSpec) { s.VolumeGiB = 3 })
	failed := r.sealed(nil)
	if err := r.aws.FailSnapshot(string(failed), "it broke"); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		parent transfer.SnapshotID
		text   string
	}{
		"deleted": {gone, "not among this account's snapshots"},
		"foreign": {transfer.SnapshotID(r.aws.AddForeign("999999999999", 1, nil)), "not among this account's snapshots"},
		"pending": {r.start().ID(), "is pending, not completed"},
		"failed":  {failed, "is error, not completed"},
		"larger":  {large, "has 3 GiB, more than the disk's 1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := r.store.Start(t.Context(), r.spec(child(c.parent)))
			wantKind(t, err, transfer.BaselineLost, string(c.parent), c.text)
		})
	}
}

func TestEncryptionDefaultSwitchedOn(t *testing.T) {
	r := newRig(t, aws.Options{})
	parent := r.sealed(nil)
	if on, err := r.store.EncryptsByDefault(t.Context()); on || err != nil {
		t.Fatal(on, err)
	}
	r.aws.SetEncryptionByDefault(true)
	if on, err := r.store.EncryptsByDefault(t.Context()); on || err != nil {
		t.Fatalf("the answer was not kept: %v %v", on, err)
	}
	_, err := r.store.Start(t.Context(), r.spec(child(parent)))
	wantKind(t, err, transfer.BaselineLost, "not encrypted and the account now encrypts by default")
	if on, err := r.store.EncryptsByDefault(t.Context()); !on || err != nil {
		t.Errorf("the new setting was not learned: %v %v", on, err)
	}
}

func TestZerosAbsentNeverMeetEncryption(t *testing.T) {
	r := newRig(t, aws.Options{EncryptionByDefault: true})
	_, err := r.store.Start(t.Context(), r.spec(func(s *transfer.DraftSpec) { s.Label.ZerosAbsent = true }))
	wantKind(t, err, transfer.Retry, "encryption by default has been switched on")
	if all := r.aws.Snapshots(); len(all) != 0 {
		t.Errorf("left behind: %+v", all)
	}
	// With every block written the same draft is fine.
	if info, _ := r.info(r.start().ID()); !info.Encrypted {
		t.Error("not encrypted")
	}
}

func TestEncryptionIsAskedFor(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-4333-8444-555555555555"
	r := newRig(t, aws.Options{KMSKeys: []string{key}})
	own := r.sealed(map[int64][]byte{0: block(1)}, func(s *transfer.DraftSpec) { s.Encrypted, s.KMSKey = true, key })
	if info, _ := r.info(own); !info.Encrypted || info.KMSKey != key {
		t.Errorf("snapshot is %+v", info)
	}
	heir := r.sealed(nil, child(own))
	if info, _ := r.info(heir); info.KMSKey != key {
		t.Errorf("the child has key %q", info.KMSKey)
	}
	_, err := r.store.Start(t.Context(), r.spec(func(s *transfer.DraftSpec) { s.KMSKey = strings.Replace(key, "1111", "9999", 1) }))
	wantKind(t, err, transfer.Permanent, "KMS key does not exist", "ARN of an enabled")

	r.aws.Deny(func(action string) bool { return strings.HasPrefix(action, "kms:") })
	_, err = r.store.Start(t.Context(), r.spec(child(own)))
	wantKind(t, err, transfer.Permanent, "KMS key may not be used", "kms:GenerateDataKey")
}

func TestKMSDeniedOnPut(t *testing.T) {
	r := newRig(t, aws.Options{})
	d := r.start(func(s *transfer.DraftSpec) { s.Encrypted = true })
	r.aws.Deny(func(action string) bool { return action == "kms:GenerateDataKey" })
	b := block(1)
	wantKind(t, d.Put(t.Context(), 0, b, sha256.Sum256(b)), transfer.Permanent, "DEPENDENCY_ACCESS_DENIED", "kms:GenerateDataKey")
}

func TestPendingQuota(t *testing.T) {
	r := newRig(t, aws.Options{MaxPending: 2})
	one := r.start()
	r.start()
	_, err := r.store.Start(t.Context(), r.spec())
	wantKind(t, err, transfer.Retry, "limit of pending snapshots", "100 pending snapshots")
	if n := r.store.Calls()[opStart]; n != 3 {
		t.Errorf("%d starts: a full quota does not empty within a retry", n)
	}
	if err := one.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.start()
}

func TestDeniedNamesTheAction(t *testing.T) {
	for _, act := range []string{"ebs:StartSnapshot", "ec2:CreateTags"} {
		t.Run(act, func(t *testing.T) {
			r := newRig(t, aws.Options{})
			r.aws.Deny(func(a string) bool { return a == act })
			_, err := r.store.Start(t.Context(), r.spec())
			wantKind(t, err, transfer.Permanent, act)
			if n := r.store.Calls()[opStart]; n != 1 {
				t.Errorf("%d starts, want 1", n)
			}
		})
	}
}

func TestCredentialsThatExpireAreFetchedAgain(t *testing.T) {
	r := newRig(t, aws.Options{})
	d := r.start()
	r.faults.Add(fault.Rule{Op: opPut, Kind: fault.Error, Detail: "ExpiredTokenException"})
	r.put(d, map[int64][]byte{0: block(1)}) // renewed meanwhile

	r.aws.ExpireCredentials()
	b := block(2)
	err := d.Put(t.Context(), 1, b, sha256.Sum256(b))
	wantKind(t, err, transfer.Permanent, "credentials have expired", "renew the credentials")
	_, err = r.store.Snapshots(t.Context(), label().VM)
	wantKind(t, err, transfer.Permanent, "credentials have expired", "renew the credentials")
	r.aws.RenewCredentials()
	if err := d.Put(t.Context(), 1, b, sha256.Sum256(b)); err != nil {
		t.Error(err)
	}
}

func TestWrongClockIsRiddenOut(t *testing.T) {
	r := newRig(t, aws.Options{})
	r.aws.SetClockSkew(-2 * 3600e9)
	r.sealed(map[int64][]byte{0: block(1)}) // the SDK learns the offset from the refusal
}

func TestStartInputIsAFunctionOfTheSpec(t *testing.T) {
	spec := transfer.DraftSpec{Token: "t", VolumeGiB: 1, Label: label(), Tags: map[string]string{}}
	for i := range 20 {
		spec.Tags[fmt.Sprint("k", i)] = "v"
	}
	first, err := startInput(spec)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := startInput(spec)
		if err != nil || !reflect.DeepEqual(again, first) {
			t.Fatalf("another request for the same spec (%v)", err)
		}
	}
}
