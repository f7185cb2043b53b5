package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// turn is one operation in the life of a migration.
type turn struct {
	name   string // in the tables
	verb   string
	args   []string
	before func()
	after  func()           // what is true once it has come to its end
	giveUp func(hit string) // the way back after a crash; nil: there is none
}

func (l *launchLife) sync() turn {
	return turn{name: "sync", verb: "sync", args: []string{"app1"}, after: func() {
		l.quietSource()
		l.pointsOnly()
	}}
}

func (l *launchLife) test(name string) turn {
	return turn{name: name, verb: "test", args: []string{"app1", "--for", "2h"}, before: l.scribble,
		after: func() { l.launched("test", "running") },
		giveUp: func(hit string) {
			l.back(hit, "test", "app1", "--done")
			l.pointsOnly()
		},
	}
}

func (l *launchLife) testDone() turn {
	return turn{name: "test --done", verb: "test", args: []string{"app1", "--done"}, after: l.pointsOnly}
}

func (l *launchLife) cutover(name string) turn {
	return turn{name: name, verb: "cutover", args: []string{"app1", "--yes"}, before: l.scribble,
		after: func() {
			l.quietSource()
			l.sameBytes()
		},
		giveUp: func(hit string) {
			l.back(hit, "revert", "app1", "--yes")
			l.power(true)
		},
	}
}

func (l *launchLife) revert() turn {
	return turn{name: "revert", verb: "revert", args: []string{"app1", "--yes"}, after: func() {
		l.isBack()
		l.launched("cutover", "stopped")
	}}
}

func (l *launchLife) discard() turn {
	return turn{name: "revert --discard", verb: "revert", args: []string{"app1", "--discard", "--yes"}, after: func() {
		l.isBack()
		l.pointsOnly()
	}}
}

func (l *launchLife) finalize() turn {
	return turn{name: "finalize", verb: "finalize", args: []string{"app1", "--points", "none", "--yes"}, before: func() { l.ending = true }, after: func() {
		l.quietSource()
		l.sameBytes()
		l.holds(map[string]int{"instance": 1, "volume": len(l.vm.Disks())})
	}}
}

// isBack: the source serves again.
func (l *launchLife) isBack() {
	if !l.vm.PoweredOn() {
		l.failf("the source is off after a revert")
	}
	l.quietSource()
}

// crash is where the program is killed.
type crash struct {
	n     int  // at the n-th call that changes something
	after bool // behind its effect, and before its answer
	back  bool // and then it is given up
}

func (c crash) String() string {
	s := fmt.Sprintf("before change %d", c.n)
	if c.after {
		s = fmt.Sprintf("behind change %d", c.n)
	}
	if c.back {
		s += ", then back"
	}
	return s
}

// crashes says where the program is killed in an operation, hears at which call
// it was, "" for none, and how many changes there were with nothing in the way.
type crashes interface {
	next(turn string) *crash
	note(turn string, c crash, hit string, changes []string)
	count(turn string, changes int)
}

// take does an operation, into a crash if there is one to come: it is repeated
// then, or first given up. It ends where the operation leads.
func (l *launchLife) take(t turn, book crashes) {
	if t.before != nil {
		t.before()
	}
	c := book.next(t.name)
	if c == nil {
		l.done(t.verb, t.args...)
		l.ended(t)
		return
	}
	s := &strike{n: c.n, after: c.after}
	o := l.do(s, t.verb, t.args...)
	book.note(t.name, *c, s.hit, o.changes)
	if s.hit == "" { // it came through
		book.count(t.name, len(o.changes))
		l.mustExit(o, 0, t.name)
		l.ended(t)
		return
	}
	l.recordf("kill -9 %v: %s", *c, s.hit)
	l.mustExit(o, -1, t.name)
	l.afterwards()
	l.laterOn()
	if c.back && t.giveUp != nil {
		t.giveUp(s.hit)
		l.afterwards()
	}
	l.done(t.verb, t.args...)
	l.ended(t)
}

func (l *launchLife) ended(t turn) {
	l.afterwards()
	t.after()
}

// back runs the verb that gives up what crashed. If nothing was written down
// there is nothing to give up.
func (l *launchLife) back(hit, verb string, args ...string) {
	o := l.do(nil, verb, args...)
	if o.exit != 1 || !strings.Contains(o.doc.Error, "there is no such launch") {
		l.mustExit(o, 0, verb+" after a crash at "+hit)
	}
}

// live is a whole migration. With tidy the reverted instance is ended before the
// next cutover, which else does it.
func (l *launchLife) live(book crashes, tidy bool) {
	turns := []turn{l.sync(), l.test("test"), l.test("next test"), l.testDone(), l.cutover("cutover"), l.revert()}
	if tidy {
		turns = append(turns, l.discard())
	}
	for _, t := range append(turns, l.cutover("next cutover"), l.finalize()) {
		if l.failed {
			return
		}
		l.take(t, book)
	}
}

// turnNames are all operations, in their order.
var turnNames = []string{"sync", "test", "next test", "test --done", "cutover", "revert", "revert --discard", "next cutover", "finalize"}

// toll is the book of crash points of a run of the test.
type toll struct {
	seed    uint64
	counted map[string]chan struct{} // closed once it is known what an operation changes

	mu      sync.Mutex
	changes map[string]int            // of each operation with nothing in its way
	hits    map[string]map[string]int // crashes by operation and call
	run     map[string]int
	missed  []string
	walk    map[string]map[bool]int // where the walk is, by operation and kind; -1: it is through
}

func newToll(seed uint64) *toll {
	b := &toll{seed: seed, counted: map[string]chan struct{}{}, changes: map[string]int{}, hits: map[string]map[string]int{}, run: map[string]int{}, walk: map[string]map[bool]int{}}
	for _, name := range turnNames {
		b.counted[name], b.hits[name], b.walk[name] = make(chan struct{}), map[string]int{}, map[bool]int{}
	}
	return b
}

// next implements crashes by a walk.
func (b *toll) next(turn string) *crash {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.walk[turn]
	after := w[true] >= 0 && (w[false] < 0 || w[true] < w[false])
	if w[after] < 0 {
		return nil
	}
	w[after]++
	// Of each neighbouring pair, behind a change and before the next, which leave
	// the same, one is gone on with and the other one given up.
	return &crash{n: w[after], after: after, back: w[after]%2 == 0}
}

// note implements crashes. A walk ends where an operation came through, which
// is not before its last change.
func (b *toll) note(turn string, c crash, hit string, changes []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if hit != "" {
		b.run[turn]++
		b.hits[turn][hit]++
		return
	}
	if c.n <= b.changes[turn] {
		b.missed = append(b.missed, fmt.Sprintf("%s, %v, there were %v", turn, c, changes))
	}
	b.walk[turn][c.after] = -1
}

// through reports that every walk is.
func (b *toll) through() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range b.walk {
		if w[true] >= 0 || w[false] >= 0 {
			return false
		}
	}
	return true
}

// quiet is the life without crashes, which counts.
type quiet struct{ *toll }

// next is a crash that never comes: the wire counts up to it.
func (quiet) next(string) *crash { return &crash{n: 1 << 30} }

// count implements crashes for those whose operations are counted already.
func (b *toll) count(string, int) {}

func (q quiet) count(turn string, changes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changes[turn] = changes
	close(q.counted[turn])
}

func (quiet) note(string, crash, string, []string) {}

// over lets nobody wait for what was not counted.
func (q quiet) over() {
	for _, name := range turnNames {
		select {
		case <-q.counted[name]:
		default:
			close(q.counted[name])
		}
	}
}

// sampled is the n-th life of a sample: it follows behind the one that counts,
// and meets one crash in each operation.
type sampled struct {
	*toll
	n int
}

func (s sampled) next(turn string) *crash {
	<-s.counted[turn]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes[turn] == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(s.seed+uint64(s.n), uint64(slices.Index(turnNames, turn))))
	return &crash{n: 1 + rng.IntN(s.changes[turn]), after: rng.IntN(2) == 0, back: s.n%2 == 0}
}

func (b *toll) table() string {
	var s strings.Builder
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operation\tcrash points\trun\tat calls")
	points, run := 0, 0
	for _, name := range turnNames {
		ops := map[string]int{}
		for hit, n := range b.hits[name] {
			op, _, _ := strings.Cut(hit, " ")
			ops[op] += n
		}
		var at []string
		for _, op := range sortedKeys(ops) {
			at = append(at, fmt.Sprintf("%s %d", op, ops[op]))
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\n", name, 2*b.changes[name], b.run[name], strings.Join(at, ", "))
		points, run = points+2*b.changes[name], run+b.run[name]
	}
	fmt.Fprintf(w, "all\t%d\t%d\t\n", points, run)
	_ = w.Flush() // to a builder
	return s.String()
}

var long = os.Getenv("SNAPFERRY_LONG") != ""

// inTorture leaves a test to make torture: the race detector of make test would
// watch the lab, and not the program, which is a process of its own.
func inTorture(t *testing.T) {
	t.Helper()
	if os.Getenv("SNAPFERRY_TORTURE_TIME") == "" && !long {
		t.Skip("it is a part of make torture")
	}
}

// TestLaunchCrashes kills the program at the calls by which a migration changes
// something in EC2, EBS or vCenter: before the effect, and behind it before the
// answer. What is repeated, or given up, comes to its end all the same: nothing
// runs twice at any moment, no point is lost, and nothing is left at the end but
// the instance and its volumes, with the source's bytes.
//
// make torture draws two points of each operation; SNAPFERRY_LONG=1 has them all.
func TestLaunchCrashes(t *testing.T) {
	inTorture(t)
	t.Parallel()
	b, bin, began := readBudget(t), build(t), time.Now()
	book := newToll(b.seed)
	var g sync.WaitGroup
	g.Go(func() {
		defer quiet{book}.over()
		l := newLaunchLife(t, bin, "the life without a crash", b.seed, launchWorld{})
		l.live(quiet{book}, true)
		l.close()
		t.Logf("a life without a crash: %v, %v of CPU in the program\n%s", time.Since(began).Round(time.Millisecond), l.led.cpu.Round(time.Millisecond), strings.Join(l.history, "\n"))
	})
	live := func(n int, book crashes, world launchWorld) {
		l := newLaunchLife(t, bin, fmt.Sprintf("launch life %d of SNAPFERRY_TORTURE_SEED=%d", n, b.seed), b.seed+uint64(n), world)
		l.waiting = long
		began := time.Now()
		l.live(book, !long || n%4 == 0)
		l.close()
		if long {
			t.Logf("life %d, EC2 %v: %v", n, world, time.Since(began).Round(time.Second))
		}
	}
	if long {
		g.Wait()
		walkAll(t, book, live)
	} else {
		for n := range 2 {
			g.Go(func() { live(n, sampled{book, n}, launchWorld{}) })
		}
		g.Wait()
	}
	t.Logf("%v, seed %d\n%s", time.Since(began).Round(time.Second), b.seed, book.table())
	if len(book.missed) > 0 {
		t.Errorf("crashes that never came: %v", book.missed)
	}
}

// walkAll has all crash points, in lives side by side: one mostly waits.
func walkAll(t *testing.T, book *toll, live func(int, crashes, launchWorld)) {
	var g sync.WaitGroup
	queue := make(chan int)
	for range 6 {
		g.Go(func() {
			for n := range queue {
				live(n, book, launchWorld{lag: launchLag, visible: []time.Duration{0, 2 * launchLag, 0}[n%3]})
			}
		})
	}
	for n := 0; !t.Failed() && !book.through(); n++ {
		queue <- n
	}
	close(queue)
	g.Wait()
}
