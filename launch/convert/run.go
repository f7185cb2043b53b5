package convert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxOutput of a program is kept for errors: the end, where the cause is.
	maxOutput = 16 << 10
	// killGrace is how long a program gets between SIGTERM and SIGKILL. QEMU
	// flushes its images on SIGTERM; nobody waits for what they hold then.
	killGrace = 5 * time.Second
)

// tail keeps the last bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - maxOutput; n > 0 {
		t.buf, t.cut = append(t.buf[:0], t.buf[n:]...), true
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.TrimSpace(strings.ToValidUTF8(string(t.buf), "\ufffd"))
	if t.cut {
		s = "… " + s
	}
	return s
}

// environment is what programs get: the paths, and no more of ours than they
// need. Credentials may be in our environment; they are not in theirs.
func environment(dir string) []string {
	env := []string{
		"PATH=" + orElse(os.Getenv("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin"),
		"LC_ALL=C.UTF-8", "HOME=" + dir, "TMPDIR=" + dir,
		"LIBGUESTFS_BACKEND=direct",
	}
	for _, name := range []string{"LIBGUESTFS_PATH", "LIBGUESTFS_HV", "LIBGUESTFS_MEMSIZE", "SUPERMIN_KERNEL", "SUPERMIN_MODULES", "LIBGUESTFS_DEBUG"} {
		if v := os.Getenv(name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	// The appliance is built once and cached for the user.
	cache := orElse(os.Getenv("LIBGUESTFS_CACHEDIR"), "/var/tmp")
	if settings := os.Getenv("LIBGUESTFS_BACKEND_SETTINGS"); settings != "" {
		env = append(env, "LIBGUESTFS_BACKEND_SETTINGS="+settings)
	} else if emulate() {
		env = append(env, "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	}
	return append(env, "LIBGUESTFS_CACHEDIR="+cache)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// noKVM is set once the appliance did not start with KVM: nested, its device may
// be there and not work.
var noKVM atomic.Bool

// emulate reports whether the appliance is to run in software emulation.
func emulate() bool {
	if noKVM.Load() {
		return true
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return true
	}
	f.Close()
	return false
}

// command prepares a program in a process group of its own, so that it ends
// with all that it started, also when we are killed.
func (w *workdir) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = w.path, environment(w.path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killGrace
	return cmd
}

// finish waits for a program and sees to it that its whole group has ended.
func finish(cmd *exec.Cmd) error {
	err := cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind, if anything
	return err
}

// run runs a program to its end, within limit, and returns its standard output.
func (w *workdir) run(ctx context.Context, limit time.Duration, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := w.command(ctx, name, args...)
	var out bytes.Buffer
	errOut := &tail{}
	cmd.Stdout, cmd.Stderr = &out, errOut
	if err := w.start(cmd); err != nil {
		return nil, err
	}
	if err := finish(cmd); err != nil {
		return nil, failed(ctx, name, limit, err, errOut.String()+"\n"+lastOf(out.String()))
	}
	return out.Bytes(), nil
}

func lastOf(s string) string {
	if len(s) > maxOutput {
		s = s[len(s)-maxOutput:]
	}
	return s
}

// start starts a program and notes it for Sweep.
func (w *workdir) start(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return missing(cmd.Args[0])
		}
		return fmt.Errorf("start %s: %w", cmd.Args[0], err)
	}
	if err := w.note(cmd.Process.Pid); err != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		return err
	}
	return nil
}

// failed says how a program failed, with what it said.
func failed(ctx context.Context, name string, limit time.Duration, err error, said string) error {
	if said = strings.TrimSpace(said); said == "" {
		said = "it said nothing"
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("it did not end within %v: %w", limit, ctx.Err())
	} else if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("run %s: %w; its output: %s", name, err, said)
}

// packages that have the programs, on Debian.
var packages = map[string]string{
	"guestfish": "libguestfs-tools", "qemu-img": "qemu-utils", "qemu-nbd": "qemu-utils",
	"hivexregedit": "libwin-hivex-perl",
}

// ErrMissingProgram is the cause where a program that conversion needs is not
// installed.
var ErrMissingProgram = errors.New("a program that conversion needs is not installed")

func missing(name string) error {
	return fmt.Errorf("%w: %s; install it (Debian: apt-get install %s)", ErrMissingProgram, name, orElse(packages[name], name))
}

// Check says which programs that the conversion of a guest needs are missing; nil
// if none is. guestID is vSphere's, such as "windows2019srv_64Guest"; "" is none
// in particular.
func Check(guestID string) error {
	names := []string{"guestfish", "qemu-img", "qemu-nbd"}
	if strings.HasPrefix(strings.ToLower(guestID), "win") {
		names = append(names, "hivexregedit")
	}
	var errs []error
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, missing(name))
		}
	}
	return errors.Join(errs...)
}
