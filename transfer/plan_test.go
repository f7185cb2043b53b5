package transfer_test

import (
	"errors"
	"strings"
	"testing"

	"snapferry/transfer"
)

// base is a completed, unencrypted snapshot of a 3 GiB disk at sequence 4.
func base(edit ...func(*transfer.Snapshot)) *transfer.Snapshot {
	s := &transfer.Snapshot{ID: "snap-1", State: transfer.Completed, VolumeGiB: 3,
		Label: transfer.Label{DiskSize: 3 << 30, ChangeID: "52 aa/4", ZerosAbsent: true}}
	for _, f := range edit {
		f(s)
	}
	return s
}

func TestDecide(t *testing.T) {
	now := transfer.Disk{Label: "Hard disk 1", Size: 3 << 30, ChangeID: "52 aa/5"}
	with := func(f func(*transfer.Disk)) transfer.Disk { d := now; f(&d); return d }
	for name, c := range map[string]struct {
		in     transfer.PlanInput
		kind   transfer.PlanKind
		reason string
		check  func(transfer.Plan) bool
	}{
		"first time": {transfer.PlanInput{Disk: now, NoBase: "no snapshot of this disk exists yet"}, transfer.Seed, "no snapshot",
			func(p transfer.Plan) bool { return p.SkipZeros && p.ZerosAbsent && p.Whole && p.FillFirst == p.FillEnd }},
		"as usual": {transfer.PlanInput{Disk: now, Base: base()}, transfer.Delta, "changes since snap-1",
			func(p transfer.Plan) bool { return p.Since == "52 aa/4" && !p.SkipZeros && p.ZerosAbsent }},
		"same sequence":          {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 aa/4" }), Base: base()}, transfer.Delta, "changes", nil},
		"other epoch":            {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 bb/1" }), Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "CBT was reset", nil},
		"other epoch, no memory": {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 bb/1" }), Base: base()}, transfer.Seed, "no local manifest", nil},
		"other epoch, patchy":    {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 bb/1" }), Base: base(), Known: transfer.KnownPartly}, transfer.Seed, "no local manifest", nil},
		"reverted":               {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 aa/3" }), Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "reverted", nil},
		"empty change ID":        {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "" }), Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "no change ID", nil},
		"untracked, and why":     {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "" }), Tracking: "CBT is off and the VM has snapshots", Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "CBT is off and", nil},
		"base untracked":         {transfer.PlanInput{Disk: now, Base: base(func(s *transfer.Snapshot) { s.Label.ChangeID = "" }), Known: transfer.KnownWhole}, transfer.Compare, "without a change ID", nil},
		"nonsense change ID":     {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.ChangeID = "52 aa" }), Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "not of the form", nil},
		"refused by vSphere":     {transfer.PlanInput{Disk: now, Base: base(), Lost: "vSphere does not accept it", Known: transfer.KnownWhole}, transfer.Compare, "does not accept", nil},
		"base is suspect":        {transfer.PlanInput{Disk: now, Base: base(func(s *transfer.Snapshot) { s.Label.Suspect = "the audit found 3" }), Known: transfer.KnownWhole}, transfer.Compare, "snap-1 is suspect", nil},
		"grown, unencrypted": {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.Size = 5 << 30 }), Base: base(), Known: transfer.KnownWhole}, transfer.Compare, "grew from",
			func(p transfer.Plan) bool { return p.SkipZeros && p.ZerosAbsent && p.FillFirst == p.FillEnd }},
		"grown, encrypted": {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.Size = 5<<30 - 512<<10 }), Base: base(func(s *transfer.Snapshot) { s.Encrypted, s.Label.ZerosAbsent = true, false }), Known: transfer.KnownWhole},
			transfer.Compare, "grew from", func(p transfer.Plan) bool {
				return !p.SkipZeros && !p.ZerosAbsent && p.FillFirst == 5*2048-1 && p.FillEnd == 5*2048
			}},
		"grown inside its GiB": {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.Size = 3 << 30 }), Base: base(func(s *transfer.Snapshot) { s.Label.DiskSize = 3<<30 - 512 }), Known: transfer.KnownWhole},
			transfer.Compare, "grew from", func(p transfer.Plan) bool { return !p.SkipZeros && p.FillFirst == p.FillEnd }},
		"account now encrypts": {transfer.PlanInput{Disk: now, Base: base(), EncryptByDefault: true, Known: transfer.KnownWhole}, transfer.Seed, "encrypts by default",
			func(p transfer.Plan) bool { return !p.SkipZeros && !p.ZerosAbsent && !p.Encrypted && p.Whole }},
		"encryption asked for": {transfer.PlanInput{Disk: now, Base: base(), Encrypted: true}, transfer.Seed, "encryption is asked for",
			func(p transfer.Plan) bool { return p.Encrypted && !p.SkipZeros && !p.ZerosAbsent }},
		"encrypted already": {transfer.PlanInput{Disk: now, Base: base(func(s *transfer.Snapshot) { s.Encrypted = true }), Encrypted: true, KMSKey: "alias/x"}, transfer.Delta, "changes",
			func(p transfer.Plan) bool { return !p.Encrypted && p.KMSKey == "" }},
		"another key": {transfer.PlanInput{Disk: now, Base: base(func(s *transfer.Snapshot) { s.Encrypted, s.KMSKey = true, "arn:aws:kms:r:1:key/a" }), KMSKey: "arn:aws:kms:r:1:key/b"}, transfer.Seed, "another KMS key", nil},
		"all blocks wanted": {transfer.PlanInput{Disk: now, Base: base(), Zeros: transfer.ZerosAll}, transfer.Seed, "has absent ones",
			func(p transfer.Plan) bool { return !p.SkipZeros && !p.ZerosAbsent }},
		"allocated only": {transfer.PlanInput{Disk: now, Zeros: transfer.ZerosAllocated, NoBase: "none"}, transfer.Seed, "none",
			func(p transfer.Plan) bool { return p.Allocated && p.ZerosAbsent && p.Whole }},
		"allocated only, encrypted": {transfer.PlanInput{Disk: now, Zeros: transfer.ZerosAllocated, NoBase: "none", Encrypted: true}, transfer.Seed, "none",
			func(p transfer.Plan) bool { return p.Allocated && p.ZerosAbsent && !p.Whole && !p.SkipZeros }},
		"asked for":             {transfer.PlanInput{Disk: now, Base: base(), Reseed: true}, transfer.Seed, "asked for", nil},
		"shrunk, but asked for": {transfer.PlanInput{Disk: with(func(d *transfer.Disk) { d.Size = 1 << 30 }), Base: base(), Reseed: true}, transfer.Seed, "asked for", nil},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := transfer.Decide(c.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.Kind != c.kind || !strings.Contains(p.Reason, c.reason) {
				t.Errorf("got %s because %q, want %s because …%s…", p.Kind, p.Reason, c.kind, c.reason)
			}
			if (p.Base == nil) != (c.kind == transfer.Seed) {
				t.Errorf("a %s with base %v", p.Kind, p.Base)
			}
			if c.check != nil && !c.check(p) {
				t.Errorf("unexpected plan %+v", p)
			}
		})
	}
}

func TestDecideRefusesAShrunkDisk(t *testing.T) {
	_, err := transfer.Decide(transfer.PlanInput{Disk: transfer.Disk{Label: "Hard disk 1", Size: 1 << 30, ChangeID: "52 aa/5"}, Base: base()})
	if !errors.Is(err, transfer.ErrShrunk) || !strings.Contains(transfer.HintOf(err), "--seed") {
		t.Errorf("got %v, hint %q", err, transfer.HintOf(err))
	}
}
