package aws

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// SnapshotInfo is a snapshot as a test sees it.
type SnapshotInfo struct {
	ID, Owner, Parent, Description string
	State, StateMessage            string // pending, completed, error
	Tags                           map[string]string
	VolumeSize                     int64 // GiB
	Encrypted                      bool
	KMSKey                         string
	Blocks                         int // written to this snapshot, distinct; inherited ones not
	StartTime, CompletionTime      time.Time
	Timeout                        time.Duration
}

// Calls returns how often each operation was called since the start or the
// last ResetCalls, refused and failed calls among them, by operation name.
func (e *Emulator) Calls() map[string]int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return maps.Clone(e.calls)
}

// ResetCalls sets all counts to zero.
func (e *Emulator) ResetCalls() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.calls)
}

// Misuse lists fault rules that fired where they cannot be played. A test that
// uses faults should find it empty.
func (e *Emulator) Misuse() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.misuse)
}

// Snapshots returns all snapshots that exist, oldest first.
func (e *Emulator) Snapshots() []SnapshotInfo {
	all := e.sortedSnapshots()
	out := make([]SnapshotInfo, 0, len(all))
	now := e.now()
	for _, s := range all {
		s.mu.Lock()
		s.settle(e.store, now)
		out = append(out, SnapshotInfo{
			ID: s.id, Owner: s.owner, Parent: s.parentID, Description: s.description,
			State: s.state, StateMessage: s.message, Tags: maps.Collect(s.tags.all()),
			VolumeSize: s.size, Encrypted: s.encrypted, KMSKey: s.kmsKey, Blocks: s.layer.count(),
			StartTime: s.started, CompletionTime: s.completedAt, Timeout: s.timeout,
		})
		s.mu.Unlock()
	}
	return out
}

// sortedSnapshots lists the snapshots by start time, then ID.
func (e *Emulator) sortedSnapshots() []*snapshot {
	e.mu.RLock()
	all := slices.Collect(maps.Values(e.snapshots))
	e.mu.RUnlock()
	slices.SortFunc(all, func(a, b *snapshot) int {
		if c := a.started.Compare(b.started); c != 0 {
			return c
		}
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}

// SetEncryptionByDefault changes the account's setting.
func (e *Emulator) SetEncryptionByDefault(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.encDefault = on
}

// Deny sets the predicate that refuses actions, named as in IAM policies:
// "ebs:PutSnapshotBlock", "ec2:CreateTags", "kms:Decrypt"; nil allows all.
// StartSnapshot with tags also asks for ec2:CreateTags; what touches encrypted
// data asks for kms:GenerateDataKeyWithoutPlaintext (start), kms:GenerateDataKey
// (put) or kms:Decrypt (get, and start with an encrypted parent). In EC2, calls
// that make something with tags ask for ec2:CreateTags, RunInstances with a
// profile for iam:PassRole, and encrypted volumes for kms:CreateGrant: without
// it the launch or the volume fails after the answer.
func (e *Emulator) Deny(denied func(action string) bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deny = denied
}

func (e *Emulator) denied(action string) bool {
	e.mu.RLock()
	deny := e.deny
	e.mu.RUnlock()
	return deny != nil && deny(action)
}

// ExpireCredentials makes every request fail as with an expired session token,
// until RenewCredentials.
func (e *Emulator) ExpireCredentials() { e.setExpired(true) }

// RenewCredentials ends what ExpireCredentials began.
func (e *Emulator) RenewCredentials() { e.setExpired(false) }

func (e *Emulator) setExpired(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expired = on
}

// SetCredentials replaces the credentials that are accepted; those from before
// become unknown. Env still returns the ones of Options.
func (e *Emulator) SetCredentials(keyID, secret, sessionToken string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.creds = credentials{keyID, secret, sessionToken}
}

// ReplaceCredentials is SetCredentials for a session that ends and is followed
// by another: requests with the old key are answered as expired.
func (e *Emulator) ReplaceCredentials(keyID, secret, sessionToken string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended == nil {
		e.ended = map[string]bool{}
	}
	e.ended[e.creds.keyID] = true
	e.creds = credentials{keyID, secret, sessionToken}
}

// SetClockSkew makes the service's clock run ahead of the real one by d, as
// signatures and Date headers see it; more than five minutes either way and
// requests are refused.
func (e *Emulator) SetClockSkew(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.skew = d
}

// ExpireTokens makes all block and page tokens that were given out invalid.
func (e *Emulator) ExpireTokens() { e.tokens.rotate() }

// ExpireDraft lets the inactivity timeout of a pending snapshot run out now.
func (e *Emulator) ExpireDraft(id string) error {
	s := e.lookup(id)
	if s == nil {
		return fmt.Errorf("expire draft %s: no such snapshot", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(e.store, e.now())
	if s.state != statePending || s.sealed {
		return fmt.Errorf("expire draft %s: it is not an open draft", id)
	}
	s.fail(e.store, messageTimeout)
	return nil
}

// FailSnapshot puts a snapshot into state error with a message of EC2.
func (e *Emulator) FailSnapshot(id, message string) error {
	s := e.lookup(id)
	if s == nil {
		return fmt.Errorf("fail snapshot %s: no such snapshot", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail(e.store, message)
	return nil
}

// DeleteOutOfBand deletes a snapshot as someone else with the right to do so.
func (e *Emulator) DeleteOutOfBand(id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.snapshots[id] == nil {
		return fmt.Errorf("delete snapshot %s: no such snapshot", id)
	}
	delete(e.snapshots, id)
	return nil
}

// UseInImage registers a snapshot to an AMI, which forbids deleting it.
func (e *Emulator) UseInImage(snapshotID, imageID string) error {
	s := e.lookup(snapshotID)
	if s == nil {
		return fmt.Errorf("register snapshot %s to %s: no such snapshot", snapshotID, imageID)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.amis == nil {
		s.amis = map[string]bool{}
	}
	s.amis[imageID] = true
	return nil
}

// DeregisterImage ends the use of all snapshots in an AMI.
func (e *Emulator) DeregisterImage(imageID string) {
	for _, s := range e.sortedSnapshots() {
		s.mu.Lock()
		delete(s.amis, imageID)
		s.mu.Unlock()
	}
}

// AddForeign adds a completed, public snapshot of another account: visible to a
// DescribeSnapshots that forgets its owner filter, and good for nothing else.
func (e *Emulator) AddForeign(owner string, sizeGiB int64, tags map[string]string) (id string) {
	now := e.now()
	s := &snapshot{
		id: newID("snap"), owner: owner, size: sizeGiB, started: now, timeout: time.Hour,
		layer: newLayer(e.store, nil), state: stateCompleted, completedAt: now,
	}
	s.rootID = s.id
	for k, v := range tags {
		s.tags.set(k, v)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.snapshots[s.id] = s
	return s.id
}
