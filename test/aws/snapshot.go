package aws

import (
	"crypto/sha256"
	"encoding/base64"
	"sync"
	"time"
)

// States of a snapshot, as EC2 and EBS direct spell them.
const (
	statePending   = "pending"
	stateCompleted = "completed"
	stateError     = "error"
)

// State messages of EC2, captured.
const (
	messageChecksum = "Checksum mismatch for snapshot"
	messageCount    = "Changed blocks count mismatch for snapshot"
	messageTimeout  = "Snapshot timed out"
)

// snapshot is one EBS snapshot. The fields above mu never change.
type snapshot struct {
	id, owner, parentID, rootID string
	description, kmsKey         string
	size                        int64 // GiB
	encrypted                   bool
	started                     time.Time
	timeout                     time.Duration

	mu          sync.Mutex
	layer       *layer
	state       string
	message     string
	completedAt time.Time
	lastWrite   time.Time
	sealed      bool
	never       bool // sealed, and will stay pending
	settleAt    time.Time
	failure     string // message of the error that comes at settleAt
	early       int    // puts within the propagation window
	inflight    map[int32]bool
	tags        tagSet
	amis        map[string]bool
}

// settle brings the state up to now; s.mu is held.
func (s *snapshot) settle(st *store, now time.Time) {
	switch {
	case s.state != statePending || s.never:
	case !s.sealed:
		if !now.Before(s.lastWrite.Add(s.timeout)) {
			s.fail(st, messageTimeout)
		}
	case now.Before(s.settleAt):
	case s.failure != "":
		s.fail(st, s.failure)
	default:
		s.state, s.completedAt = stateCompleted, s.settleAt
	}
}

// fail ends the snapshot and drops what was written; s.mu is held.
func (s *snapshot) fail(st *store, message string) {
	s.state, s.message = stateError, message
	s.layer = newLayer(st, nil)
}

// stateAt returns the state and its message.
func (s *snapshot) stateAt(st *store, now time.Time) (state, message string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(st, now)
	return s.state, s.message
}

// readable returns the sealed layer, or nil while reads must answer 404:
// before completion, for the propagation window after it, and after an error.
func (s *snapshot) readable(st *store, now time.Time, window time.Duration) *layer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(st, now)
	if s.state != stateCompleted || now.Before(s.completedAt.Add(window)) {
		return nil
	}
	return s.layer
}

// lastIndex is the highest block index that the volume size allows.
func (s *snapshot) lastIndex() int64 { return s.size*(1<<30/blockSize) - 1 }

// linearChecksum is base64(SHA-256(digests of the layer's own blocks by index)).
func linearChecksum(l *layer) string {
	h := sha256.New()
	for _, i := range l.own() {
		h.Write(l.get(i).digest[:])
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
