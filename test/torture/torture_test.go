package torture_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A full run is judged by what the product promises; a short one only by the
// invariants.
const (
	shortTime   = 4 * time.Second
	fullTime    = 4 * time.Minute
	leastDeaths = 150
)

// budget is what a run may take.
type budget struct {
	seed    uint64
	time    time.Duration
	lives   int // 0: as many as fit
	workers int
}

func readBudget(t *testing.T) budget {
	t.Helper()
	// The short run has one seed for everybody: what fails in it fails again.
	b := budget{seed: 1, time: shortTime, workers: 3}
	number := func(name string, set func(uint64)) {
		if v := os.Getenv("SNAPFERRY_TORTURE_" + name); v != "" {
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				t.Fatalf("SNAPFERRY_TORTURE_%s: %v", name, err)
			}
			set(n)
		}
	}
	number("LIVES", func(n uint64) { b.lives = int(n) })
	number("WORKERS", func(n uint64) { b.workers = max(1, int(n)) })
	if v := os.Getenv("SNAPFERRY_TORTURE_TIME"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			t.Fatalf("SNAPFERRY_TORTURE_TIME %q: it must be a duration such as 5m (%v)", v, err)
		}
		b.time, b.seed = d, uint64(time.Now().UnixNano())
	}
	number("SEED", func(n uint64) { b.seed = n })
	if os.Getenv("SNAPFERRY_TORTURE_WORKERS") == "" && b.time > shortTime {
		b.workers = 8 // a life mostly waits: for EC2 to complete, for a pause to end
	}
	return b
}

// build makes the binary as it is shipped, without the race detector; once.
func build(t *testing.T) *program {
	t.Helper()
	p, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// folder is where the binary is, for all tests.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "torture"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(folder) // the system tidies its folder
	os.Exit(code)
}

var built = sync.OnceValues(func() (*program, error) {
	p := &program{path: filepath.Join(folder, "snapferry")}
	if out, err := exec.Command("go", "build", "-o", p.path, "snapferry/cmd/snapferry").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build snapferry: %w\n%s", err, out)
	}
	out, err := exec.Command(p.path, "help").Output()
	if err != nil {
		return nil, fmt.Errorf("snapferry help: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if name := strings.Fields(line); len(name) > 0 && strings.HasPrefix(line, "  ") {
			switch name[0] {
			case "clean":
				p.cleans = true
			case "prune":
				p.prunes = true
			}
		}
	}
	return p, nil
})

// TestTorture is the whole of it. The seed is in the log; see the package's
// comment for how to give one.
func TestTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes and kills them: not with -short")
	}
	b := readBudget(t)
	t.Logf("seed %d, %v, %d lives side by side", b.seed, b.time, b.workers)
	bin, led := build(t), newLedger(b.seed)
	if !bin.cleans {
		t.Log("this snapferry cannot clean: the harness removes what a crash leaves")
	}
	end := time.Now().Add(b.time)
	var mu sync.Mutex
	next := 0
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() || (b.lives > 0 && next >= b.lives) || (b.lives == 0 && next > 0 && time.Now().After(end)) {
			return 0, false
		}
		next++
		return b.seed + uint64(next) - 1, true
	}
	if b.lives > 0 {
		end = time.Now().Add(24 * time.Hour)
	}
	started := time.Now()
	var g sync.WaitGroup
	for range b.workers {
		g.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				runLife(t, bin, led, seed, end)
			}
		})
	}
	g.Wait()
	t.Logf("%d lives in %v\n%s", next, time.Since(started).Round(time.Second), led.table())
	led.judge(t, b)
}

// judge holds a full run against what it is for.
func (l *ledger) judge(t *testing.T, b budget) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.Failed() {
		return
	}
	if len(l.deaths) == 0 {
		t.Error("no child was killed")
	}
	if b.lives > 0 || b.time < fullTime {
		return
	}
	if n := l.deathCount(); n < leastDeaths {
		t.Errorf("%d crash points, at least %d are wanted", n, leastDeaths)
	}
	var unfired []string
	for _, r := range catalogue() {
		if l.fired[r.name] == 0 {
			unfired = append(unfired, r.name)
		}
	}
	if len(unfired) > 0 {
		t.Error(fmt.Sprint("rules that never fired: ", strings.Join(unfired, ", ")))
	}
}
