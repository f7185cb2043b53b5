package convert_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"snapferry/launch/convert"
)

func workdir(t *testing.T) (*convert.Workdir, string) {
	t.Helper()
	parent := t.TempDir()
	w, err := convert.NewWorkdir(parent, "k")
	if err != nil {
		t.Fatal(err)
	}
	return w, parent
}

func TestAPointIsConvertedOnceAtATime(t *testing.T) {
	w, parent := workdir(t)
	if _, err := convert.NewWorkdir(parent, "k"); !errors.Is(err, convert.ErrBusy) {
		t.Errorf("the second one: %v", err)
	}
	if swept, err := convert.Sweep(parent, false); len(swept) > 0 || err != nil {
		t.Errorf("a living one was swept: %+v, %v", swept, err)
	}
	if err := w.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if swept, err := convert.Sweep(filepath.Join(parent, "none"), false); len(swept) > 0 || err != nil {
		t.Errorf("no folder: %v", err)
	}
}

// TestSweepEndsWhatACrashLeft: the processes that were noted, with what they
// started, and no other that has come by the same number.
func TestSweepEndsWhatACrashLeft(t *testing.T) {
	w, parent := workdir(t)
	pid, wait, err := w.Start(t.Context(), "sh", "-c", "sleep 600 & echo $! > child; wait")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- wait() }()
	var child []byte
	for deadline := time.Now().Add(10 * time.Second); len(strings.TrimSpace(string(child))) == 0; {
		if child, _ = os.ReadFile(filepath.Join(w.Path(), "child")); time.Now().After(deadline) {
			t.Fatal("the child did not start")
		}
		time.Sleep(time.Millisecond)
	}
	// Ours is a number that is taken, by a process that started at another time.
	f, err := os.OpenFile(filepath.Join(w.Path(), "processes"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("nonsense\n1 1\n" + strconv.Itoa(os.Getpid()) + " 12345\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	w.Abandon()
	for range 2 { // a look changes nothing
		if left, err := convert.Sweep(parent, true); err != nil || len(left) != 1 || !slices.Equal(left[0].Processes, []int{pid}) {
			t.Errorf("left is %+v, %v", left, err)
		}
	}
	swept, err := convert.Sweep(parent, false)
	if err != nil || len(swept) != 1 || len(swept[0].Processes) != 1 || swept[0].Processes[0] != pid {
		t.Errorf("swept %+v, %v", swept, err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the process lives on")
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestTheNextRunClearsUp: a folder that a crash left is taken over, emptied.
func TestTheNextRunClearsUp(t *testing.T) {
	w, parent := workdir(t)
	if err := os.WriteFile(filepath.Join(w.Path(), "overlay.qcow2"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.Abandon()
	next, err := convert.NewWorkdir(parent, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer next.Remove()
	if _, err := os.Stat(filepath.Join(next.Path(), "overlay.qcow2")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old overlay is there: %v", err)
	}
}

func TestProgramsAreBounded(t *testing.T) {
	w, _ := workdir(t)
	defer w.Remove()
	t.Setenv("AWS_SECRET_ACCESS_KEY", "geheim")
	out, err := convert.Run(w, t.Context(), time.Minute, "sh", "-c", "env")
	if err != nil || strings.Contains(string(out), "geheim") || !strings.Contains(string(out), "PATH=") {
		t.Errorf("environment %q, %v", out, err)
	}
	_, err = convert.Run(w, t.Context(), time.Minute, "sh", "-c", "yes moan | head -n 100000 >&2; echo cause >&2; exit 3")
	if err == nil || len(err.Error()) > 20<<10 || !strings.Contains(err.Error(), "cause") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error of %d bytes", len(err.Error()))
	}
	began := time.Now()
	_, err = convert.Run(w, t.Context(), 50*time.Millisecond, "sh", "-c", "sleep 600 & sleep 600")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not end within") || time.Since(began) > 20*time.Second {
		t.Errorf("a slow one: %v after %v", err, time.Since(began))
	}
	if _, err = convert.Run(w, t.Context(), time.Second, "no-such-program"); !errors.Is(err, convert.ErrMissingProgram) {
		t.Errorf("a missing one: %v", err)
	}
	if b, _ := os.ReadFile(filepath.Join(w.Path(), "processes")); strings.Count(string(b), "\n") != 3 {
		t.Errorf("noted %q", b)
	}
}
