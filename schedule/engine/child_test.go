package engine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"snapferry/schedule/engine"
	"snapferry/schedule/store"
	"snapferry/transfer"
)

const childEnv = "SNAPFERRY_ENGINE_CHILD"

// TestMain is also the program of an appliance: the test binary runs itself.
func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		os.Exit(childMain(spec))
	}
	flag.Parse()
	// They mostly wait: one per core would take minutes.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// spec is what a child is told.
type spec struct {
	URL      string          `json:"url"`
	Site     site            `json:"site"`
	Liveness engine.Liveness `json:"liveness"`
	Default  bool            `json:"default"` // the timings of real life
	Patience time.Duration   `json:"patience"`
	Launch   bool            `json:"launch"` // does launches, as synced does
}

func childMain(text string) int {
	var sp spec
	if err := json.Unmarshal([]byte(text), &sp); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := runChild(ctx, &sp); errors.Is(err, engine.ErrFenced) {
		return 3
	} else if err != nil {
		fmt.Println("ended:", err)
		return 1
	}
	return 0
}

func runChild(ctx context.Context, sp *spec) error {
	db, err := store.Open(ctx, sp.URL, store.Options{})
	if err != nil {
		return err
	}
	r, err := newRig(&sp.Site)
	if err != nil {
		return err
	}
	c := engine.Config{
		Store: db, SQL: db.SQL(), Pool: db.Pool(), Appliance: transfer.ApplianceID(sp.Site.Appl), Version: "test", Work: r,
		Log:    slog.New(slog.NewTextHandler(os.Stderr, nil)).With("appl", sp.Site.Appl),
		Fenced: func(err error) { fmt.Println("fenced:", err); os.Exit(3) },
	}
	if !sp.Default {
		brisk(&c)
		c.Liveness = sp.Liveness
	}
	c.Patience = sp.Patience
	if sp.Launch {
		c.Launches, c.Launcher = db, &launches{do: synced}
	}
	e, err := engine.New(ctx, c)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return e.Run(ctx)
}

// child is an appliance in a process of its own.
type child struct {
	*exec.Cmd
	t    *testing.T
	appl string
	out  *lines

	once sync.Once
	gone chan struct{}
	err  error
}

// lines keeps what a child says.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "\n")
}

// spawn starts an appliance and waits until it is in the fleet.
func spawn(t *testing.T, sp spec, appl string) *child {
	t.Helper()
	sp.Site.Appl = appl
	text, err := json.Marshal(sp)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, appl: appl, out: &lines{}, gone: make(chan struct{})}
	c.Cmd = exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childEnv+"="+string(text))
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdout, c.Stderr = pw, pw
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	pw.Close()
	ready := make(chan struct{})
	go func() {
		in := bufio.NewScanner(pr)
		in.Buffer(nil, 1<<20)
		told := false
		for in.Scan() {
			c.out.add(in.Text())
			if !told && in.Text() == "ready" {
				told = true
				close(ready)
			}
		}
		c.err = c.Wait()
		close(c.gone)
	}()
	t.Cleanup(func() {
		c.end()
		if t.Failed() {
			t.Logf("appliance %s (pid %d) said:\n%s", appl, c.Process.Pid, c.out)
		}
	})
	select {
	case <-ready:
	case <-c.gone:
		t.Fatalf("appliance %s ended at once: %v", appl, c.err)
	case <-time.After(30 * time.Second):
		t.Fatalf("appliance %s does not start", appl)
	}
	return c
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.Process.Signal(s); err != nil {
		c.t.Fatalf("signal %v to %s: %v", s, c.appl, err)
	}
}

// end kills what still runs.
func (c *child) end() {
	c.once.Do(func() {
		_ = c.Process.Signal(syscall.SIGKILL) // also one that is stopped
		<-c.gone
	})
}

// exits waits for the child's end and returns its exit code.
func (c *child) exits(within time.Duration) int {
	c.t.Helper()
	select {
	case <-c.gone:
		return c.ProcessState.ExitCode()
	case <-time.After(within):
		c.t.Fatalf("appliance %s still runs after %v", c.appl, within)
		return 0
	}
}

// overlaps are cycles of one VM that ran at the same time, told from the
// journal. A process that was killed ended then: killed says when, in ms. The
// cycles of a process that was frozen are left out.
func overlaps(all []note, killed map[int]int64, frozen ...int) (bad []string) {
	type span struct {
		from, to int64
		pid      int
		run, ep  int64
	}
	by := map[string][]*span{}
	last := int64(0)
	for _, n := range all {
		last = max(last, n.At)
	}
	for _, n := range all {
		switch n.What {
		case "begin":
			end := last + 1
			if at, ok := killed[n.Pid]; ok {
				end = at
			}
			by[n.VM] = append(by[n.VM], &span{from: n.At, to: end, pid: n.Pid, run: n.Run, ep: n.Ep})
		case "end":
			for _, s := range by[n.VM] {
				if s.pid == n.Pid && s.run == n.Run && s.ep == n.Ep {
					s.to = n.At
				}
			}
		}
	}
	for vm, spans := range by {
		spans = slices.DeleteFunc(spans, func(s *span) bool { return slices.Contains(frozen, s.pid) })
		for i, a := range spans {
			for _, b := range spans[i+1:] {
				if a.from < b.to && b.from < a.to {
					bad = append(bad, fmt.Sprintf("%s: run %d/%d of pid %d and run %d/%d of pid %d", vm, a.run, a.ep, a.pid, b.run, b.ep, b.pid))
				}
			}
		}
	}
	return bad
}
