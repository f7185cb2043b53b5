package scenario_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/test/scenario"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// hasty gives up on requests that never answer soon.
func hasty(o *scenario.LabOptions) {
	o.EBS.Headers, o.EBS.Attempt = time.Second, 1500*time.Millisecond
	o.EBS.NotYet = 3 * time.Second
}

// awsFault is what AWS does in one cycle, and how it gets well again.
type awsFault struct {
	name  string
	rules []fault.Rule
	rides bool   // it may not fail the cycle
	kinds string // of the error that it may fail with, "retry" if empty
	tune  func(*aws.Options)
	o     transfer.Options
	// do happens when the step begins; reading is a step too.
	at   transfer.Step
	do   func(*testing.T, *rig)
	well func(*testing.T, *rig)
}

func rule(op string, kind fault.Kind, detail string, times int) []fault.Rule {
	return []fault.Rule{{Op: op, Kind: kind, Detail: detail, Times: times}}
}

func requestFaults() (all []awsFault) {
	for _, op := range []string{"StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot", "CreateTags", "DescribeSnapshots", "GetEbsEncryptionByDefault"} {
		for _, kind := range []fault.Kind{fault.Throttle, fault.Cut, fault.LostAnswer, fault.Stall} {
			all = append(all, awsFault{name: string(kind) + " of " + op, rules: rule(op, kind, "", 2), rides: true})
		}
		all = append(all, awsFault{name: "overload at " + op, rules: rule(op, fault.Error, "overload", 3), rides: true})
	}
	return append(all,
		awsFault{name: "throttled for the snapshot", rules: rule("PutSnapshotBlock", fault.Throttle, "RESOURCE_LEVEL_THROTTLE", 3), rides: true},
		awsFault{name: "throttled for the account", rules: rule("PutSnapshotBlock", fault.Throttle, "ACCOUNT_THROTTLED", 3), rides: true},
		awsFault{name: "a body corrupted on the way", rules: rule("PutSnapshotBlock", fault.WrongBytes, "", 1), rides: true},
		awsFault{name: "bodies corrupted again and again", rules: rule("PutSnapshotBlock", fault.WrongBytes, "", -1)},
		awsFault{name: "a body that came too slowly", rules: rule("PutSnapshotBlock", fault.Error, "ValidationException:WRITE_REQUEST_TIMEOUT", 1), rides: true},
		awsFault{name: "a put while another is under way", rules: rule("PutSnapshotBlock", fault.Error, "ValidationException:CONFLICTING_BLOCK_UPDATE", 2), rides: true},
		awsFault{name: "a put acknowledged and dropped", rules: rule("PutSnapshotBlock", fault.Lie, aws.LieDropped, 1)},
		awsFault{name: "late error after 202", rules: rule("CompleteSnapshot", fault.Lie, aws.LieLateError, 1)},
		awsFault{name: "a stale look", rules: rule("DescribeSnapshots", fault.Lie, aws.LieStale, 1), rides: true},
		awsFault{name: "puts not permitted", rules: rule("PutSnapshotBlock", fault.Error, "AccessDeniedException", 1), kinds: "permanent"},
		awsFault{name: "puts not permitted, and the answer to the abort lost", kinds: "permanent", rules: append(
			rule("PutSnapshotBlock", fault.Error, "AccessDeniedException", 1), rule("DeleteSnapshot", fault.LostAnswer, "", 1)...)},
		awsFault{name: "tags not permitted", rules: rule("CreateTags", fault.Error, "UnauthorizedOperation", 1), kinds: "permanent"},
		awsFault{name: "the limit of pending snapshots", rules: rule("StartSnapshot", fault.Error, "ServiceQuotaExceededException", 1)},
		awsFault{name: "credentials expire at a put", rules: []fault.Rule{{Op: "PutSnapshotBlock", Kind: fault.DeadSession, Skip: 1}}, kinds: "permanent", well: renew},
		awsFault{name: "credentials expire at the seal", rules: rule("CompleteSnapshot", fault.DeadSession, "", 1), kinds: "permanent", well: renew},
		awsFault{name: "credentials expire at the start", rules: rule("StartSnapshot", fault.DeadSession, "", 1), kinds: "permanent", well: renew},
	)
}

func renew(_ *testing.T, r *rig) { r.w.Lab.AWS.RenewCredentials() }

func worldFaults() (all []awsFault) {
	deny := func(action string) func(*testing.T, *rig) {
		return func(_ *testing.T, r *rig) {
			r.w.Lab.AWS.Deny(func(a string) bool { return strings.HasPrefix(a, action) })
		}
	}
	allow := func(_ *testing.T, r *rig) { r.w.Lab.AWS.Deny(nil) }
	all = []awsFault{
		{name: "slow propagation of new snapshots", tune: func(o *aws.Options) { o.PropagationDelay = 300 * time.Millisecond }, rides: true},
		{name: "odd pages", tune: func(o *aws.Options) { o.OddPages = true }, rides: true},
		{name: "late completion", tune: func(o *aws.Options) { o.CompletionDelay = 200 * time.Millisecond }, rides: true},
		{name: "rates of 20 puts a second", tune: func(o *aws.Options) { o.PutsPerSecondPerSnapshot, o.PutsPerSecondPerAccount = 20, 20 }, rides: true},
		{name: "room for one pending snapshot", tune: func(o *aws.Options) { o.MaxPending = 1 }, at: transfer.StepInspect, do: func(*testing.T, *rig) {}},
		{name: "the KMS key may not be used", o: transfer.Options{Encrypted: true}, kinds: "permanent", at: transfer.StepCopy, do: deny("kms:"), well: allow},
		{name: "deleting drafts is not permitted", kinds: "permanent", at: transfer.StepCopy, do: deny("ec2:DeleteSnapshot"), well: allow,
			rules: rule("PutSnapshotBlock", fault.Error, "AccessDeniedException", 1)},
	}
	for _, step := range []transfer.Step{transfer.StepInspect, transfer.StepPlan, transfer.StepCopy, reading, transfer.StepSeal} {
		all = append(all,
			awsFault{name: "the parent is deleted", at: step, do: deleteParents},
			awsFault{name: "the drafts time out", at: step, do: eachDraft(func(e *aws.Emulator, id string) error { return e.ExpireDraft(id) })},
			awsFault{name: "the drafts are deleted", at: step, kinds: "retry permanent", do: eachDraft((*aws.Emulator).DeleteOutOfBand)})
	}
	return all
}

func deleteParents(t *testing.T, r *rig) {
	for _, s := range r.w.Lab.AWS.Snapshots() {
		if s.State == string(transfer.Completed) {
			must(t, r.w.Lab.AWS.DeleteOutOfBand(s.ID))
		}
	}
}

// eachDraft does something to every draft there is; a draft that is being
// sealed meanwhile is left alone.
func eachDraft(f func(*aws.Emulator, string) error) func(*testing.T, *rig) {
	return func(_ *testing.T, r *rig) {
		for _, id := range r.w.Drafts() {
			_ = f(r.w.Lab.AWS, string(id))
		}
	}
}

// TestRequestsToAWSFail spoils requests to AWS, one kind at a time, in a cycle
// that makes a delta of two disks; those to one operation share a VM.
func TestRequestsToAWSFail(t *testing.T) {
	groups := map[string][]awsFault{}
	for _, c := range requestFaults() {
		groups[c.rules[0].Op] = append(groups[c.rules[0].Op], c)
	}
	for op, faults := range groups {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, vcenter.VMSpec{CBT: true}, hasty)
			for n, c := range faults {
				if kind := c.rules[0].Kind; !long && op != "PutSnapshotBlock" && (kind == fault.Cut || kind == fault.Throttle) {
					continue // a lost answer is the harder one, and a server's own error is treated as a throttle is
				}
				if brief && n%2 == 1 {
					continue // see thin
				}
				r.suffer(c)
			}
		})
	}
}

// TestTheAccountChanges is what happens in the account around the requests.
func TestTheAccountChanges(t *testing.T) {
	sample := map[string]transfer.Step{"the parent is deleted": transfer.StepCopy, "the drafts time out": reading, "the drafts are deleted": transfer.StepSeal}
	for _, c := range worldFaults() {
		if at, ok := sample[c.name]; ok && !long && c.at != at {
			continue
		}
		t.Run(c.name+"/"+string(c.at), func(t *testing.T) {
			t.Parallel()
			newRig(t, vcenter.VMSpec{CBT: true}, hasty, func(o *scenario.LabOptions) {
				if c.tune != nil {
					c.tune(&o.AWS)
				}
			}).suffer(c)
		})
	}
}

func (r *rig) suffer(c awsFault) {
	t := r.t
	if c.rides || c.tune == nil && len(r.Points()) == 0 {
		r.Sync(transfer.Options{})
	}
	r.change()
	r.w.AWSFaults.Add(c.rules...)
	var once sync.Once
	act := func() { once.Do(func() { c.do(t, r) }) }
	if c.at == reading {
		reads := 0
		var mu sync.Mutex
		r.onRead = func(transfer.DiskID) {
			mu.Lock()
			defer mu.Unlock()
			if reads++; reads > 1 { // the first has perhaps been put
				act()
			}
		}
	}
	res := r.run(c.o, firedOf(r.w.AWSFaults), func(step transfer.Step) {
		if step == c.at {
			act()
		}
	})
	r.onRead = nil
	r.allFired(r.w.AWSFaults)
	r.w.AWSFaults.Clear()
	if c.well != nil {
		c.well(t, r)
	}
	step := res.step
	if c.at != "" {
		step = c.at
	}
	r.row(c.name, step, r.outcome(res))
	switch kind := transfer.KindOf(res.err).String(); {
	case res.err == nil:
	case c.rides:
		t.Errorf("the cycle failed: %v", res.err)
	case c.kinds == "" && kind != "retry", c.kinds != "" && !strings.Contains(c.kinds, kind):
		t.Errorf("%s, not %s: %v", kind, c.kinds, res.err)
	case transfer.HintOf(res.err) == "":
		t.Errorf("without a word on what to do: %v", res.err)
	}
	if c.tune != nil && !c.rides {
		return
	}
	r.recover(transfer.Options{})
}

// TestEncryptionBegins: the account's default is switched on between cycles
// and in mid-cycle. No block may be absent from what is encrypted.
func TestEncryptionBegins(t *testing.T) {
	if !long {
		t.Skip("a volume without absent blocks is 2,048 puts, and TestTheAccountBeginsToEncrypt makes one; set SNAPFERRY_LONG")
	}
	steps := []transfer.Step{transfer.StepInspect, transfer.StepFreeze, transfer.StepPlan, transfer.StepCopy, reading, transfer.StepSeal}
	for _, seeded := range []bool{true, false} {
		for _, step := range steps {
			t.Run(string(step)+map[bool]string{true: ", a delta", false: ", a seed"}[seeded], func(t *testing.T) {
				t.Parallel()
				r := newRig(t, vcenter.VMSpec{CBT: true})
				if seeded {
					r.Sync(transfer.Options{})
				}
				r.change()
				var once sync.Once
				on := func() { once.Do(func() { r.w.Lab.AWS.SetEncryptionByDefault(true) }) }
				if step == reading {
					r.onRead = func(transfer.DiskID) { on() }
				}
				res := r.run(transfer.Options{}, nil, func(at transfer.Step) {
					if at == step {
						on()
					}
				})
				r.onRead = nil
				r.row("encryption by default begins", step, r.outcome(res))
				if res.err != nil && transfer.KindOf(res.err) != transfer.Retry {
					t.Errorf("%v: %v", transfer.KindOf(res.err), res.err)
				}
				r.recover(transfer.Options{})
			})
		}
	}
}
