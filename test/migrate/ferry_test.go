package migrate_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"snapferry/launch"
	"snapferry/test/lab"
	"snapferry/transfer"
)

// ferry is the snapferry binary with a lab.
type ferry struct {
	*testing.T
	bin string
	lab *lab.Lab
	env []string
}

// builder builds snapferry as it is shipped, once for all guests.
var builder struct {
	sync.Mutex
	dir string
	err error
}

func program() (string, error) {
	b := &builder
	b.Lock()
	defer b.Unlock()
	if b.dir == "" && b.err == nil {
		if b.dir, b.err = os.MkdirTemp("", "migrate-bin-"); b.err != nil {
			return "", b.err
		}
		if out, err := exec.Command("go", "build", "-o", b.dir, "snapferry/cmd/snapferry").CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build snapferry: %w: %s", err, out)
		}
	}
	return filepath.Join(b.dir, "snapferry"), b.err
}

func newFerry(t *testing.T, l *lab.Lab, home string) *ferry {
	t.Helper()
	bin, err := program()
	must(t, err)
	// As the guests themselves: where KVM is there, it need not work.
	env := append(l.Env(), "HOME="+home, "PATH="+os.Getenv("PATH"), "LIBGUESTFS_BACKEND_SETTINGS=force_tcg")
	return &ferry{T: t, bin: bin, lab: l, env: env}
}

// run runs a verb, which must succeed, and reads the JSON that it prints.
func (f *ferry) run(into any, args ...string) (took time.Duration) {
	f.Helper()
	args = append(args, "--config", f.lab.Settings(), "--json")
	cmd := exec.CommandContext(f.Context(), f.bin, args...)
	cmd.Env = f.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it cleans up
	cmd.WaitDelay = time.Minute
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runtime.LockOSThread() // the kernel takes this thread's end for ours
	defer runtime.UnlockOSThread()
	began := time.Now()
	if err := cmd.Run(); err != nil {
		f.Fatalf("snapferry %q: %v\n%s\n%s", args, err, tail(stderr.String(), 6000), tail(stdout.String(), 6000))
	}
	took = time.Since(began)
	if err := json.Unmarshal(stdout.Bytes(), into); err != nil {
		f.Fatalf("snapferry %q printed no JSON: %v\n%s", args, err, tail(stdout.String(), 2000))
	}
	return took
}

// sync makes one cycle.
func (f *ferry) sync() transfer.Report {
	f.Helper()
	var doc struct {
		Cycles []transfer.Report `json:"cycles"`
	}
	f.run(&doc, "sync", vmName)
	if len(doc.Cycles) != 1 || len(doc.Cycles[0].Disks) != 1 {
		f.Fatalf("sync reports %d cycles", len(doc.Cycles))
	}
	r := doc.Cycles[0]
	if len(r.Alarms) > 0 {
		f.Errorf("alarms: %v", r.Alarms)
	}
	return r
}

// launch does an action on the VM and returns the launch as it is then.
func (f *ferry) launch(action string, args ...string) (launch.Job, time.Duration) {
	f.Helper()
	var doc struct {
		Launches []launch.Job `json:"launches"`
	}
	took := f.run(&doc, append([]string{action, vmName, "--yes"}, args...)...)
	if len(doc.Launches) != 1 || doc.Launches[0].Error != "" {
		f.Fatalf("%s: %+v", action, doc.Launches)
	}
	return doc.Launches[0], took
}

// volume puts the root volume of a launched instance into a raw file.
func (f *ferry) volume(j launch.Job, path string) {
	f.Helper()
	for _, i := range f.lab.AWS.Instances() {
		if i.ID != j.Instance {
			continue
		}
		volume, size, err := f.lab.AWS.VolumeImage(i.Root)
		must(f.T, err)
		file, err := os.Create(path)
		must(f.T, err)
		defer file.Close()
		must(f.T, file.Truncate(size))
		must(f.T, copyData(file, volume, size))
		return
	}
	f.Fatalf("there is no instance %q", j.Instance)
}

func tail(s string, n int) string {
	if len(s) > n {
		return "… " + s[len(s)-n:]
	}
	return s
}
