package convert

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// workdir is the folder of one conversion: overlay, cache, sockets, and a list
// of the processes that were started for it. It is locked as long as its
// conversion lives, so that Sweep can tell what a crash left.
type workdir struct {
	path string
	lock *os.File

	mu sync.Mutex // over the list of processes
}

const (
	lockName  = "lock"
	pidsName  = "processes"
	workStart = "convert-"
)

// ErrBusy is the cause where the same point is being converted by this machine.
var ErrBusy = errors.New("a conversion of this point runs already on this machine")

// newWorkdir makes and locks the folder of the conversion called key under
// parent. What a crash left of an earlier one is ended and removed.
func newWorkdir(parent, key string) (*workdir, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for conversions: %w", err)
	}
	path := filepath.Join(parent, workStart+key)
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make the folder of a conversion: %w", err)
	}
	w, err := lockWorkdir(path)
	if err != nil {
		return nil, err
	}
	if err := w.clear(); err != nil {
		w.lock.Close()
		return nil, err
	}
	return w, nil
}

func lockWorkdir(path string) (*workdir, error) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrBusy
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &workdir{path: path, lock: f}, nil
}

func (w *workdir) file(name string) string { return filepath.Join(w.path, name) }

// note writes a process down with the instant at which it started: its number
// alone may be another's after a crash.
func (w *workdir) note(pid int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f, err := os.OpenFile(w.file(pidsName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("note a process: %w", err)
	}
	_, err = fmt.Fprintf(f, "%d %s\n", pid, startOf(pid))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("note a process: %w", err)
	}
	return nil
}

// startOf is the instant at which a process started, in the kernel's ticks, or
// "" if there is none: field 22 of /proc/PID/stat (proc(5)).
func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, ok := strings.Cut(string(b), ") ") // the name may hold spaces, but not this
	for strings.Contains(rest, ") ") {
		_, rest, _ = strings.Cut(rest, ") ")
	}
	fields := strings.Fields(rest)
	const start = 22 - 3 // the state, field 3, is the first behind the name
	if !ok || len(fields) <= start {
		return ""
	}
	return fields[start]
}

// living are the processes that an earlier run noted and that are the same still.
func (w *workdir) living() (pids []int) {
	b, err := os.ReadFile(w.file(pidsName))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		number, start, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err == nil && pid >= 2 && start != "" && startOf(pid) == start {
			pids = append(pids, pid)
		}
	}
	return pids
}

// endProcesses ends the living ones, each with its group.
func (w *workdir) endProcesses() (ended []int) {
	for _, pid := range w.living() {
		if syscall.Kill(-pid, syscall.SIGKILL) == nil {
			ended = append(ended, pid)
		}
	}
	for _, pid := range ended { // until they are gone, their files are in use
		for range 100 {
			if syscall.Kill(pid, 0) != nil || isZombie(pid) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	return ended
}

func isZombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(b), ") Z ")
}

// clear ends what an earlier run left in the folder, and empties it.
func (w *workdir) clear() error {
	w.endProcesses()
	entries, err := os.ReadDir(w.path)
	if err != nil {
		return fmt.Errorf("empty %s: %w", w.path, err)
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(w.path, e.Name())); err != nil {
			return fmt.Errorf("empty %s: %w", w.path, err)
		}
	}
	return nil
}

// remove ends everything and removes the folder; the lock goes last.
func (w *workdir) remove() error {
	w.endProcesses()
	err := os.RemoveAll(w.path)
	return errors.Join(err, w.lock.Close())
}

// Swept is one folder of a conversion that a crash left.
type Swept struct {
	Folder    string `json:"folder"`
	Processes []int  `json:"processes,omitempty"` // that still lived
	Error     string `json:"error,omitempty"`
}

// Sweep ends what conversions that were cut off by a crash left on this machine
// under folder: their processes, by what they noted of them, and their files. It
// leaves those that live alone. Drafts in AWS are the business of
// transfer.Reaper. Where dry is set it only looks.
func Sweep(folder string, dry bool) (swept []Swept, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("look for conversions that were cut off: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), workStart) {
			continue
		}
		w, err := lockWorkdir(filepath.Join(folder, e.Name()))
		if errors.Is(err, ErrBusy) {
			continue
		}
		s := Swept{Folder: e.Name()}
		switch {
		case err != nil:
		case dry:
			s.Processes = w.living()
			err = w.lock.Close()
		default:
			s.Processes = w.endProcesses()
			err = w.remove()
		}
		if err != nil {
			s.Error = err.Error()
			errs = append(errs, err)
		}
		swept = append(swept, s)
	}
	return swept, errors.Join(errs...)
}
