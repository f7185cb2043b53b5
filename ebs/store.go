package ebs

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"snapferry/transfer"
)

// Store is the snapshots of one account and region. All its methods may be
// called by many goroutines; one Store per process keeps the rates honest.
type Store struct {
	api clients
	cfg Config

	puts, gets               *pacer // of the account
	starts, completes, lists *pacer
	bytes                    *pacer
	gate                     *gate
	watcher                  *watcher

	ebsReached, ec2Reached, stsReached atomic.Bool

	mu       sync.Mutex
	calls    map[string]int64
	encrypts bool
	asked    time.Time // when encrypts was
}

var _ transfer.Store = (*Store)(nil)

// Open loads the configuration, makes the clients and fetches credentials; it
// sends nothing to EBS or EC2.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	api, c, err := newClients(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &Store{
		api: api, cfg: c,
		puts: pacerOf(c.PutsPerSecondPerAccount, requestBurst), gets: pacerOf(c.GetsPerSecondPerAccount, requestBurst),
		starts: newPacer(quotaStarts * underQuota), completes: newPacer(quotaCompletes * underQuota),
		lists: newPacer(quotaLists * underQuota), bytes: pacerOf(float64(c.BytesPerSecond), byteBurst),
		gate: newGate(c.Puts, c.Timing.SlowPut), calls: map[string]int64{},
	}
	s.watcher = newWatcher(c.Timing, s.states)
	return s, nil
}

// Region is the region that the store works in.
func (s *Store) Region() string { return s.api.region }

// Calls counts the requests sent so far, repeated attempts included, by
// operation.
func (s *Store) Calls() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.calls)
}

func (s *Store) count(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
}

// reached says whether the service of an operation ever answered.
func (s *Store) reached(op string) *atomic.Bool {
	switch serviceOf(op) {
	case serviceEC2:
		return &s.ec2Reached
	case serviceSTS:
		return &s.stsReached
	}
	return &s.ebsReached
}

// renew makes the next request fetch credentials from their source.
func (s *Store) renew() {
	if s.api.cache != nil {
		s.api.cache.Invalidate()
	}
}

// Identity is whose credentials these are.
type Identity struct {
	Account string `json:"account"`
	ARN     string `json:"arn"`
	Region  string `json:"region"`
}

// Identity asks AWS whose credentials these are.
func (s *Store) Identity(ctx context.Context) (Identity, error) {
	id := Identity{Region: s.api.region}
	err := s.do(ctx, request{op: opIdentity, what: "ask AWS for the caller's identity"}, func(ctx context.Context) error {
		out, err := s.api.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		if err == nil {
			id.Account, id.ARN = aws.ToString(out.Account), aws.ToString(out.Arn)
		}
		return err
	})
	return id, err
}

// EncryptsByDefault says whether the account encrypts new snapshots that do
// not ask for it. The answer is believed for Timing.Settings.
func (s *Store) EncryptsByDefault(ctx context.Context) (bool, error) {
	s.mu.Lock()
	known, on := time.Since(s.asked) < s.cfg.Timing.Settings, s.encrypts
	s.mu.Unlock()
	if known {
		return on, nil
	}
	return s.askEncrypts(ctx)
}

// askEncrypts asks, whatever was answered before.
func (s *Store) askEncrypts(ctx context.Context) (bool, error) {
	const what = "read the account's EBS encryption default"
	var on bool
	err := s.do(ctx, request{op: opEncrypts, what: what}, func(ctx context.Context) error {
		out, err := s.api.ec2.GetEbsEncryptionByDefault(ctx, &ec2.GetEbsEncryptionByDefaultInput{})
		if err != nil {
			return err
		}
		if out.EbsEncryptionByDefault == nil {
			return errors.New("the answer does not say")
		}
		on = *out.EbsEncryptionByDefault
		return nil
	})
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.encrypts, s.asked = on, time.Now()
	return on, nil
}
