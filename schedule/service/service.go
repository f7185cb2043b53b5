package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"snapferry/schedule"
	"snapferry/transfer"
)

// Config is what a Service works with.
type Config struct {
	Store Store
	Now   func() time.Time // nil is time.Now
	// Kick tells an engine in this process that something was written that it
	// may act on; nil where there is none.
	Kick func()
	// Settings are shown as they are, but for the limits, which are the store's.
	Settings schedule.Settings
	// Reuse is how old the state of all VMs may be that lists and overview are
	// made of: it takes tens of milliseconds of CPU to read for 2,000 VMs, and a
	// dozen open browsers ask for it several times a second. What this Service
	// writes shows at once all the same. 0 reads it anew each time.
	Reuse time.Duration

	// Launches are kept there; nil is a service without launches.
	Launches LaunchStore
	// Preview is the dry run of an action, which asks AWS and vCenter; nil where
	// no daemon is in this process.
	Preview func(ctx context.Context, vm schedule.VM, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error)
	// CheckLaunch says what is wrong with a VM's launch settings, all of them;
	// nil checks no more than that a table can carry them.
	CheckLaunch func(l schedule.Launch) error
	// ProveCost says in words what it costs to prove these VMs so often; nil is
	// that nobody knows.
	ProveCost func(every time.Duration, vms []schedule.VM) string
}

// Service answers and writes down. All methods may be called side by side.
// Errors wrap schedule.ErrNotFound, ErrConflict or ErrInvalid where one of
// those is the cause, and carry a hint that transfer.HintOf finds.
type Service struct {
	store    Store
	now      func() time.Time
	kick     func()
	settings schedule.Settings
	reuse    time.Duration
	shared   shared

	launches    LaunchStore
	preview     func(ctx context.Context, vm schedule.VM, action schedule.LaunchAction, wish schedule.LaunchWish) (schedule.LaunchPreview, error)
	checkLaunch func(l schedule.Launch) error
	proveCost   func(every time.Duration, vms []schedule.VM) string
}

// New makes a Service.
func New(c Config) *Service {
	s := &Service{
		store: c.Store, now: c.Now, settings: c.Settings, reuse: c.Reuse,
		launches: c.Launches, preview: c.Preview, checkLaunch: c.CheckLaunch, proveCost: c.ProveCost,
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.kick = func() {
		s.shared.forget()
		if c.Kick != nil {
			c.Kick()
		}
	}
	return s
}

// refusal is an error whose text says all by itself.
type refusal struct {
	kind error // schedule.ErrNotFound, ErrConflict, ErrInvalid
	text string
	hint string
}

func (r *refusal) Error() string { return r.text }

// Unwrap is the kind, with the hint where transfer.HintOf looks for it.
func (r *refusal) Unwrap() error {
	if r.hint == "" {
		return r.kind
	}
	return transfer.Fail(transfer.Permanent, r.text, r.kind, r.hint)
}

func invalid(hint, format string, args ...any) error {
	return &refusal{schedule.ErrInvalid, fmt.Sprintf(format, args...), hint}
}

func conflict(hint, format string, args ...any) error {
	return &refusal{schedule.ErrConflict, fmt.Sprintf(format, args...), hint}
}

func unknown(hint, format string, args ...any) error {
	return &refusal{schedule.ErrNotFound, fmt.Sprintf(format, args...), hint}
}

// record writes an event by somebody. That it could not be written does not
// undo what it tells of.
func (s *Service) record(ctx context.Context, by schedule.Actor, e schedule.Event) error {
	e.At, e.Actor = s.now(), by.Name
	if err := s.store.Record(ctx, e); err != nil {
		return fmt.Errorf("done, but the event could not be written: %w", err)
	}
	return nil
}

// load reads a VM; the error of one that is not there names it.
func (s *Service) load(ctx context.Context, id transfer.VMID) (schedule.VM, error) {
	vm, err := s.store.VM(ctx, id)
	if errors.Is(err, schedule.ErrNotFound) {
		return vm, unknown("The list of VMs has those that the inventory knows.", "there is no VM %s", id)
	}
	return whole(vm), err
}
