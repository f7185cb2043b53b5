package torture_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"snapferry/transfer"
)

// program is the binary under torture, and which verbs it has.
type program struct {
	path           string
	cleans, prunes bool
}

// hang is how long a run may take. An EBS snapshot that somebody deletes while
// it is sealed is waited for as long as EC2 may not list a new one yet, three
// minutes; nothing else comes near.
const hang = 210 * time.Second

// moment is when something is done to a running child. Exactly one field is
// set; the zero moment never comes.
type moment struct {
	step  transfer.Step
	after time.Duration
	rule  *rule
}

// act is one run of the child: what to run, and what is done to it when.
type act struct {
	args []string
	when moment
	do   func()  // nil: kill -9
	also []*rule // of which it is noted when they fire
}

// result is how a run ended.
type result struct {
	exit   int // -1: killed
	came   bool
	step   transfer.Step            // at the moment
	fired  map[string]transfer.Step // when each rule of also fired first
	doc    document
	stdout string
	stderr string
	took   time.Duration
	hung   bool
}

// document is what is used of the JSON that sync prints.
type document struct {
	Error  string            `json:"error"`
	Kind   string            `json:"kind"`
	Cycles []transfer.Report `json:"cycles"`
}

func (d document) alarms() (all []string) {
	for _, c := range d.Cycles {
		all = append(all, c.Alarms...)
	}
	return all
}

// child is a run under way.
type child struct {
	cmd  *exec.Cmd
	a    act
	once sync.Once

	mu   sync.Mutex
	step transfer.Step
	at   transfer.Step // of the moment
	came bool
	also map[string]transfer.Step
}

// strike does what the act says, once.
func (c *child) strike() {
	c.once.Do(func() {
		c.mu.Lock()
		c.at, c.came = c.step, true
		c.mu.Unlock()
		if c.a.do != nil {
			c.a.do()
			return
		}
		_ = c.cmd.Process.Kill() // it may have ended: the exit status tells
	})
}

func (c *child) stepped(s transfer.Step) {
	c.mu.Lock()
	c.step = s
	c.mu.Unlock()
	if c.a.when.step == s {
		c.strike()
	}
}

// listen reads the events on stderr, and keeps the other lines.
func (c *child) listen(r io.Reader, rest *bytes.Buffer) {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		var e struct {
			Event string
			State struct{ Step transfer.Step }
		}
		switch {
		case !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil:
			rest.Write(line)
		case e.Event == "step":
			c.stepped(e.State.Step)
		case e.Event == "end":
			c.stepped(transfer.StepDone)
		}
		if err != nil {
			return
		}
	}
}

// run runs the child to its end.
func (l *life) run(a act) result {
	started := time.Now()
	c := &child{a: a, also: map[string]transfer.Step{}, cmd: exec.Command(l.bin.path, a.args...)}
	c.cmd.Env, c.cmd.Dir = l.env, l.dir
	var stdout, rest bytes.Buffer
	c.cmd.Stdout = &stdout
	stderr, err := c.cmd.StderrPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		l.failf("start the child: %v", err)
		return result{exit: 1}
	}
	ended := make(chan struct{})
	var watchers sync.WaitGroup
	watchers.Go(func() { l.await(c, ended) })
	watchers.Go(func() { l.guestWrites(ended) })
	var hung atomic.Bool
	watchdog := time.AfterFunc(hang, func() { hung.Store(true); _ = c.cmd.Process.Signal(syscall.SIGQUIT) })
	c.listen(stderr, &rest)
	err = c.cmd.Wait()
	watchdog.Stop()
	l.led.count(func() { l.led.cpu += c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime() })
	close(ended)
	watchers.Wait()
	r := result{came: c.came, step: c.at, fired: c.also, stdout: stdout.String(), stderr: rest.String(), took: time.Since(started), hung: hung.Load()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.exit = exit.ExitCode()
	case err != nil:
		l.failf("wait for the child: %v", err)
	}
	if r.exit != -1 && !r.hung {
		_ = json.Unmarshal(stdout.Bytes(), &r.doc) // of another verb: another document
	}
	return r
}

// await strikes at a moment that is no step.
func (l *life) await(c *child, ended <-chan struct{}) {
	w := c.a.when
	switch {
	case w.after > 0:
		t := time.NewTimer(w.after)
		defer t.Stop()
		select {
		case <-t.C:
			c.strike()
		case <-ended:
		}
	case w.rule != nil:
		l.awaitRules(c, ended)
	}
}

// awaitRules strikes when the moment's rule has fired, and notes when the others
// did.
func (l *life) awaitRules(c *child, ended <-chan struct{}) {
	look := time.NewTicker(500 * time.Microsecond) // a fault set tells nobody
	defer look.Stop()
	struck := false
	for over := false; !over; {
		select {
		case <-look.C:
		case <-ended:
			over = true
		}
		for _, r := range c.a.also {
			if l.firedNow(r) > 0 {
				c.noteRule(r.name)
			}
		}
		switch {
		case struck || l.firedNow(c.a.when.rule) == 0:
		case over:
			c.mu.Lock()
			c.came, c.at = true, c.step
			c.mu.Unlock()
		default:
			struck = true
			c.strike()
		}
	}
}

func (c *child) noteRule(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.also[name]; !known {
		c.also[name] = c.step
	}
}

// environment is all that the child gets of this machine.
func environment(home string, aws []string) []string {
	return append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}, aws...)
}

func short(text string) string {
	if text = strings.TrimSpace(text); len(text) > 4000 {
		return text[:2000] + "\n…\n" + text[len(text)-2000:]
	}
	return text
}
