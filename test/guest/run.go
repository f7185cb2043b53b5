package guest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// look is how often the serial lines' logs are read.
const look = 250 * time.Millisecond

// Running is a machine that was started. Its methods may be called by many
// goroutines.
type Running struct {
	// Console and Report are the logs of the two serial lines: the guest's console
	// once it was converted, and what its probe and its load tell.
	Console, Report string

	limit time.Duration
	began time.Time
	pid   int
	off   chan struct{} // closed once QEMU has ended
	said  *bytes.Buffer // by QEMU; read after off

	qmp     sync.Mutex
	in      io.Writer
	out     *bufio.Reader
	greeted bool
}

// Start starts a machine, which the caller ends. It ends with the process, too.
func Start(m Machine) (*Running, error) {
	now := time.Now().UnixNano()
	r := &Running{
		Console: filepath.Join(m.Dir, fmt.Sprintf("console-%s-%d.log", m.Bus, now)), Report: filepath.Join(m.Dir, fmt.Sprintf("report-%s-%d.log", m.Bus, now)),
		limit: m.limit(), began: time.Now(), off: make(chan struct{}), said: &bytes.Buffer{},
	}
	args, err := m.args(r.Console, r.Report)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.Stderr = r.said
	if r.in, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	r.out = bufio.NewReader(out)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the kernel takes this thread's end for ours
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is in what it said
		close(r.off)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start QEMU: %w", err)
	}
	r.pid = cmd.Process.Pid
	return r, nil
}

// Off is closed once the machine is off: its guest has shut down, or it was
// ended.
func (r *Running) Off() <-chan struct{} { return r.off }

// End pulls the plug.
func (r *Running) End() {
	select {
	case <-r.off:
		return
	default:
	}
	_ = syscall.Kill(r.pid, syscall.SIGTERM) // QEMU lets requests end that are under way
	select {
	case <-r.off:
	case <-time.After(10 * time.Second):
		_ = syscall.Kill(r.pid, syscall.SIGKILL)
		<-r.off
	}
}

// Up waits until the guest says that it is up. ErrNoBoot is in the error of one
// that does not.
func (r *Running) Up(ctx context.Context) (Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, r.limit-time.Since(r.began))
	defer cancel()
	var p Probe
	err := r.until(ctx, func(report string) (bool, error) {
		if line := ready.FindString(report); line != "" {
			p = parse(line)
			return true, nil
		}
		if console := r.console(); lost.MatchString(console) {
			return false, fmt.Errorf("%w: %s", ErrNoBoot, last(console, 1024))
		}
		return false, nil
	})
	p.Took = time.Since(r.began)
	switch {
	case errors.Is(err, errOff):
		return p, fmt.Errorf("%w: QEMU ended: %s", ErrNoBoot, last(r.said.String(), 2048))
	case ctx.Err() != nil && err != nil:
		return p, fmt.Errorf("%w: %w; it said: %s", ErrNoBoot, ctx.Err(), last(r.console()+r.Told(), 1024))
	}
	return p, err
}

// Until waits until enough holds of what the guest's probe and load have told.
func (r *Running) Until(ctx context.Context, enough func(report string) bool) error {
	return r.until(ctx, func(report string) (bool, error) { return enough(report), nil })
}

var errOff = errors.New("the machine is off")

func (r *Running) until(ctx context.Context, done func(report string) (bool, error)) error {
	tick := time.NewTicker(look)
	defer tick.Stop()
	for off := false; ; {
		if ok, err := done(r.Told()); ok || err != nil {
			return err
		}
		if off {
			return errOff
		}
		select {
		case <-tick.C:
		case <-r.off:
			off = true // its last words are looked at, too
		case <-ctx.Done():
			return fmt.Errorf("wait for the guest: %w; it told: %s", ctx.Err(), last(r.Told(), 1024))
		}
	}
}

// Told is what the guest's probe and load have told, in whole lines.
func (r *Running) Told() string {
	text, _ := os.ReadFile(r.Report) // not there before QEMU made it
	return strings.ReplaceAll(string(text[:bytes.LastIndexByte(text, '\n')+1]), "\r", "")
}

func (r *Running) console() string {
	text, _ := os.ReadFile(r.Console) // likewise
	return string(text)
}

// PowerButton presses it: the guest shuts down if it cares.
func (r *Running) PowerButton() error {
	_, err := r.command("system_powerdown", nil)
	return err
}

// command is one of QEMU's QMP commands (docs/interop/qmp-spec of QEMU).
func (r *Running) command(name string, args map[string]any) (json.RawMessage, error) {
	r.qmp.Lock()
	defer r.qmp.Unlock()
	if !r.greeted {
		if _, err := r.ask("qmp_capabilities", nil); err != nil {
			return nil, err
		}
		r.greeted = true
	}
	return r.ask(name, args)
}

func (r *Running) ask(name string, args map[string]any) (json.RawMessage, error) {
	request := map[string]any{"execute": name}
	if args != nil {
		request["arguments"] = args
	}
	text, err := json.Marshal(request)
	if err == nil {
		_, err = r.in.Write(append(text, '\n'))
	}
	for err == nil {
		var line []byte
		if line, err = r.out.ReadBytes('\n'); err != nil {
			break
		}
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err = json.Unmarshal(line, &answer); {
		case err != nil:
		case answer.Error != nil:
			return nil, fmt.Errorf("ask QEMU to %s: %s", name, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		} // the rest are the greeting and events
	}
	return nil, fmt.Errorf("ask QEMU to %s: %w", name, err)
}
