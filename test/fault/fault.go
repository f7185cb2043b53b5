package fault

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"sync"
	"time"
)

// Kind is the sort of misbehaviour, in words that every service can play.
type Kind string

// The kinds. A service that cannot play a kind for an operation must refuse
// the rule loudly rather than ignore it.
const (
	// Throttle answers with the service's own "slow down".
	Throttle Kind = "throttle"
	// Cut closes the connection without an answer, before any effect.
	Cut Kind = "cut"
	// LostAnswer has the effect, then closes the connection without an answer.
	LostAnswer Kind = "lost-answer"
	// Stall takes the request and answers only after Delay (zero: never,
	// until the client goes away).
	Stall Kind = "stall"
	// WrongBytes corrupts the payload in flight.
	WrongBytes Kind = "wrong-bytes"
	// DeadSession ends the caller's session before the operation.
	DeadSession Kind = "dead-session"
	// TaskFault accepts the call and lets the task fail later.
	TaskFault Kind = "task-fault"
	// Error answers with the error that Detail names.
	Error Kind = "error"
	// Lie answers with success and a wrong result, which Detail names.
	Lie Kind = "lie"
)

// Rule says when an operation fails, and how.
type Rule struct {
	// Name is what Fired and Unfired count by; empty means "Op/Kind".
	Name string
	// Op is the operation as the service calls it ("PutSnapshotBlock",
	// "CreateSnapshot_Task"); "*" is every operation.
	Op string
	// Subject, when set, restricts the rule to calls about this object (a
	// snapshot ID, a managed object's value).
	Subject string
	Kind    Kind
	// Skip lets the first matching calls pass.
	Skip int
	// Times is how often the rule fires; 0 means once, negative without end.
	Times int
	// Probability of firing on a matching call past Skip; 0 means always.
	Probability float64
	// Delay is how long a Stall lasts.
	Delay time.Duration
	// Detail is for the service: an error code, a fault's type name.
	Detail string
}

type entry struct {
	Rule
	seen, fired int
}

// Set holds rules and counts what fired. The zero Set has no rules. All its
// methods may be called by many goroutines at once.
type Set struct {
	mu    sync.Mutex
	rules []*entry
	rng   *rand.Rand
}

// New returns a set whose probabilities follow seed.
func New(seed uint64) *Set {
	return &Set{rng: rand.New(rand.NewPCG(seed, seed^0x9e3779b97f4a7c15))}
}

// Add puts rules behind those already there; the first that matches wins.
func (s *Set) Add(rules ...Rule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rules {
		if r.Name == "" {
			r.Name = fmt.Sprintf("%s/%s", r.Op, r.Kind)
		}
		if r.Times == 0 {
			r.Times = 1
		}
		s.rules = append(s.rules, &entry{Rule: r})
	}
}

// Next reports the rule that fires for one call of op about subject, if any.
// A nil Set never fires.
func (s *Set) Next(op, subject string) (Rule, bool) {
	if s == nil {
		return Rule{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.rules {
		if (e.Op != op && e.Op != "*") || (e.Subject != "" && e.Subject != subject) {
			continue
		}
		e.seen++
		if e.seen <= e.Skip || (e.Times > 0 && e.fired >= e.Times) || !s.lucky(e.Probability) {
			continue
		}
		e.fired++
		return e.Rule, true
	}
	return Rule{}, false
}

func (s *Set) lucky(p float64) bool {
	if p == 0 {
		return true
	}
	if s.rng == nil {
		s.rng = rand.New(rand.NewPCG(1, 2))
	}
	return s.rng.Float64() < p
}

// Fired returns how often each rule fired, by name, rules that never did
// among them with 0.
func (s *Set) Fired() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[string]int{}
	for _, e := range s.rules {
		n[e.Name] += e.fired
	}
	return n
}

// Unfired lists, sorted, the names of rules that never fired.
func (s *Set) Unfired() []string {
	var names []string
	for name, n := range s.Fired() {
		if n == 0 {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	return names
}

// Clear forgets every rule and its counts.
func (s *Set) Clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rules = nil
}
