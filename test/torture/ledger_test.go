package torture_test

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// ledger counts what was done and how it went, for all lives.
type ledger struct {
	mu     sync.Mutex
	rng    *rand.Rand
	tried  map[string]int
	fired  map[string]int
	deaths map[string]int // by what they hit
	rows   map[row]int
	runs   int
	right  int           // recovery points compared
	cpu    time.Duration // of the children
	slow   []slowRun
	began  time.Time
	enough time.Duration // after which a full run would have passed; 0: not yet
}

// suffices notes when all that judge asks for had been done: how much longer
// the run was is its margin on a slower machine.
func (l *ledger) suffices() {
	if l.unfired() > 0 {
		return
	}
	l.count(func() {
		if l.enough == 0 && l.deathCount() >= leastDeaths {
			l.enough = time.Since(l.began)
		}
	})
}

// slowRun is one of the longest runs.
type slowRun struct {
	took time.Duration
	what string
}

// timed remembers the longest runs.
func (l *ledger) timed(took time.Duration, what string) {
	l.count(func() {
		l.slow = append(l.slow, slowRun{took, what})
		slices.SortFunc(l.slow, func(a, b slowRun) int { return cmp.Compare(b.took, a.took) })
		l.slow = l.slow[:min(len(l.slow), 8)]
	})
}

// row is a line of the table.
type row struct{ what, step, outcome string }

func newLedger(seed uint64) *ledger {
	return &ledger{began: time.Now(), rng: rand.New(rand.NewPCG(seed, 3)), tried: map[string]int{}, fired: map[string]int{}, deaths: map[string]int{}, rows: map[row]int{}}
}

// choose returns the rule that needs a turn most: fired least, then tried
// least, chance decides among equals.
func (l *ledger) choose(fits func(rule) bool) (rule, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var best []rule
	cost := func(r rule) int { return 1000*l.fired[r.name] + l.tried[r.name] }
	for _, r := range catalogue() {
		if !fits(r) || (r.slow && (l.fired[r.name] > 0 || l.tried[r.name] > 6)) {
			continue
		}
		switch {
		case len(best) == 0 || cost(r) < cost(best[0]):
			best = []rule{r}
		case cost(r) == cost(best[0]):
			best = append(best, r)
		}
	}
	if len(best) == 0 {
		return rule{}, false
	}
	r := best[l.rng.IntN(len(best))]
	l.tried[r.name]++
	return r, true
}

// unfired is how many rules have not fired yet.
func (l *ledger) unfired() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range catalogue() {
		if l.fired[r.name] == 0 {
			n++
		}
	}
	return n
}

// deathShare is how many of 100 events are deaths: 42, or more or fewer while
// a full run lacks deaths or rules. Of a death event there are two on average.
func (l *ledger) deathShare() int {
	rules := float64(l.unfired()) / float64(len(catalogue()))
	l.mu.Lock()
	defer l.mu.Unlock()
	deaths := max(0, 1-float64(l.deathCount())/(1.2*leastDeaths)) // with a margin
	return 42 + int(20*(deaths-rules))
}

func (l *ledger) count(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *ledger) note(what, step, outcome string) {
	l.count(func() { l.rows[row{what, orDash(step), outcome}]++ })
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (l *ledger) deathCount() (n int) {
	for _, d := range l.deaths {
		n += d
	}
	return n
}

// table is the run as text.
func (l *ledger) table() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%d runs of the binary, %d crash points, %d disks of recovery points compared, %v of CPU in the binary\n\ncrash points:\n",
		l.runs, l.deathCount(), l.right, l.cpu.Round(time.Millisecond))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, d := range slices.Sorted(maps.Keys(l.deaths)) {
		fmt.Fprintf(w, "  %s\t%d\n", d, l.deaths[d])
	}
	_ = w.Flush() // to a builder
	b.WriteString(l.matrix())
	fmt.Fprint(&b, "\nthe same, one by one: what was done × at which step → what came of it:\n")
	keys := slices.SortedFunc(maps.Keys(l.rows), func(x, y row) int {
		return strings.Compare(x.what+"\x00"+x.step+"\x00"+x.outcome, y.what+"\x00"+y.step+"\x00"+y.outcome)
	})
	for _, k := range keys {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d\n", k.what, k.step, k.outcome, l.rows[k])
	}
	_ = w.Flush()
	fmt.Fprint(&b, "\nthe longest runs:\n")
	for _, r := range l.slow {
		fmt.Fprintf(&b, "  %6.1fs  %s\n", r.took.Seconds(), r.what)
	}
	var unfired []string
	fired := 0
	for _, r := range catalogue() {
		if l.fired[r.name] == 0 {
			unfired = append(unfired, r.name)
		} else {
			fired++
		}
	}
	if l.enough > 0 {
		fmt.Fprintf(&b, "\n%d crash points and every rule: after %v", leastDeaths, l.enough.Round(time.Second))
	}
	fmt.Fprintf(&b, "\n%d fault rules fired", fired)
	if len(unfired) > 0 {
		fmt.Fprintf(&b, ", %d did not: %s", len(unfired), strings.Join(unfired, ", "))
	}
	return b.String() + "\n"
}
