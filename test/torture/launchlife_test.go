package torture_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// launchLife is one VM from its first replication to the end of its migration,
// by the verbs of the program.
type launchLife struct {
	*life
	wire    *wire
	vm      *vcenter.VM
	waiting bool            // what a crash left is met at once, and waited for
	had     map[string]bool // complete points by their cycle, none of which may go
	ending  bool            // points are being pruned
	writes  int64
}

// launchLag is how long EC2 takes: shorter than the program's pauses between two
// looks, and long enough for a source that is powered on too early to be seen.
const launchLag = 300 * time.Millisecond

// launchWorld is what EC2 is like.
type launchWorld struct {
	lag     time.Duration // of all that it makes; to stop an instance always takes launchLag
	visible time.Duration // how long it hides what is new, and its tags
}

// launchHang is how long a verb may take: one that finds that EC2 was asked for
// something, and that does not see it, waits for two minutes.
const launchHang = 5 * time.Minute

// newLaunchLife makes the world.
func newLaunchLife(t *testing.T, bin *program, name string, seed uint64, w launchWorld) *launchLife {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "launch")
	if err != nil {
		t.Fatal(err)
	}
	l := &launchLife{had: map[string]bool{}, life: &life{
		t: t, bin: bin, led: newLedger(seed), name: name, seed: seed, rng: rand.New(rand.NewPCG(seed, 17)), dir: dir, end: time.Now().Add(24 * time.Hour),
		vcenter: fault.New(seed), aws: fault.New(seed + 1), foreign: map[string]bool{}, compared: map[string]bool{}, looked: map[string]time.Time{}, wrong: map[string]bool{},
	}}
	o := aws.Options{
		Faults: l.aws, StopDelay: launchLag, BootDelay: w.lag, TerminateDelay: w.lag, VolumeDelay: w.lag / 3, ImageDelay: w.lag,
		StatusDelay: w.lag / 3, VisibleDelay: w.visible, TagDelay: w.visible,
		Now: func() time.Time { return time.Now().Add(-2 * transfer.DraftGrace) }, // see life.options
	}
	if l.lab, err = lab.Start(lab.Options{Dir: dir, KeepFrozen: true, VCenter: vcenter.Options{Faults: l.vcenter}, AWS: o}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.lab.Close)
	l.begin()
	return l
}

// begin makes the VM, the networks and the way to both services.
func (l *launchLife) begin() {
	var err error
	l.vm, err = l.lab.AddVM(vcenter.VMSpec{Name: "app1", CBT: true, Disks: []vcenter.DiskSpec{{Size: 6 << 20}, {Size: 3<<20 + 512}}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.vms = []*vcenter.VM{l.vm}
	l.vm.SetGuest(vcenter.GuestHooks{Shutdown: l.lastWrites})
	settings := map[string]string{"convert": "no"}
	for i, key := range []string{"subnet", "test.subnet"} {
		vpc, err := l.lab.AWS.AddVPC(fmt.Sprintf("10.%d.0.0/16", i+1))
		if err == nil {
			settings[key], err = l.lab.AWS.AddSubnet(vpc, fmt.Sprintf("10.%d.1.0/24", i+1), "us-east-1a")
		}
		if err != nil {
			l.t.Fatal(err)
		}
	}
	if l.wire, err = newWire(l.lab, map[string]any{"launch": settings}, l.watch); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(l.wire.close)
	l.env = environment(l.dir, l.wire.env())
	l.scribble()
	l.scribble()
}

// scribble writes to each disk as a guest does, in every life to the same
// blocks: what a replication changes is always as much.
func (l *launchLife) scribble() {
	l.writes++
	for _, d := range l.vm.Disks() {
		block := 5 * l.writes % transfer.DiskBlocks(d.Size())
		_, err := d.WriteAt(fmt.Appendf(nil, "%d", l.rng.Uint64()), block*transfer.BlockSize)
		l.must("write to the source", err)
	}
}

// process is a run of the program.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr spoken
	ended          chan struct{}
}

// spoken is what a process has said so far.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// kill returns once there is no such process any more.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended: the exit status tells
	<-p.ended
}

// outcome is how a run ended.
type outcome struct {
	exit           int // -1: killed
	doc            launchDoc
	stdout, stderr string
	changes        []string
	took           time.Duration
}

// launchDoc is what is used of the JSON that the verbs print.
type launchDoc struct {
	Error    string
	Kind     string
	Launches []struct {
		ID, State, Instance, Error string
	}
}

// do runs a verb to its end, or to that which the strike brings.
func (l *launchLife) do(s *strike, verb string, args ...string) outcome {
	args = append([]string{verb, "--config", l.wire.settings, "--json", "--progress", "json"}, args...)
	p := &process{cmd: exec.Command(l.bin.path, args...), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = l.env, l.dir, &p.stdout, &p.stderr
	l.wire.begin(p, s)
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		l.failf("start the program: %v", err)
		return outcome{exit: 1}
	}
	var hung atomic.Bool
	watchdog := time.AfterFunc(launchHang, func() { hung.Store(true); _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	go l.watchUntil(p.ended)
	err := p.cmd.Wait()
	watchdog.Stop()
	close(p.ended)
	l.led.count(func() { l.led.cpu += p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime() })
	o := outcome{stdout: p.stdout.String(), stderr: p.stderr.String(), changes: l.wire.changed(), took: time.Since(began)}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		o.exit = exit.ExitCode()
	case err != nil:
		l.failf("wait for the program: %v", err)
	}
	if hung.Load() {
		l.failf("%v did not end within %v\n%s", args, launchHang, short(o.stderr))
	}
	if o.exit != -1 {
		_ = json.Unmarshal([]byte(o.stdout), &o.doc) // of sync: another document
	}
	if o.exit == 2 || strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "fatal error:") {
		l.failf("the program broke: exit %d\n%s\n%s", o.exit, short(o.stdout), short(o.stderr))
	}
	l.recordf("%s %s: exit %d after %v, %d changes %s", verb, strings.Join(args[5:], " "), o.exit, o.took.Round(time.Millisecond), len(o.changes), o.doc.Error)
	l.watch("after " + verb)
	return o
}

// done runs a verb that must come to its end.
func (l *launchLife) done(verb string, args ...string) outcome {
	o := l.do(nil, verb, args...)
	l.mustExit(o, 0, verb)
	return o
}

func (l *launchLife) mustExit(o outcome, exit int, what string) {
	if o.exit != exit {
		l.failf("%s: exit %d, want %d\n%s\n%s", what, o.exit, exit, short(o.stdout), short(o.stderr))
	}
}

// watchUntil looks between the calls.
func (l *launchLife) watchUntil(ended <-chan struct{}) {
	tick := time.NewTicker(10 * time.Millisecond) // a lapse lasts until somebody asks again, or launchLag
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			l.watch("between two calls")
		}
	}
}

// watch is what is true at every moment: source and instance never run at once,
// and there is one instance for a purpose at most.
func (l *launchLife) watch(when string) {
	on := l.vm.PoweredOn() // first: nobody powers it off and runs an instance in between
	alive := map[string][]string{}
	for _, i := range l.lab.AWS.Instances() {
		purpose := i.Tags["snapferry:launch"]
		switch i.State {
		case "terminated", "shutting-down":
			continue
		case "stopped":
		default:
			if on && purpose == "cutover" {
				l.failf("%s: the source is on, and %s of the cutover is %s", when, i.ID, i.State)
			}
		}
		alive[purpose] = append(alive[purpose], i.ID+" "+i.State)
	}
	for purpose, ids := range alive {
		if len(ids) > 1 || purpose == "" {
			l.failf("%s: instances for %q: %v", when, purpose, ids)
		}
	}
}

// afterwards is what is true after each run, however it ended: nothing is
// harmed, every point is what was frozen, none is lost.
func (l *launchLife) afterwards() {
	l.invariants()
	there := map[string]bool{}
	points := l.completePoints()
	for _, p := range points {
		there[p.cycle] = true
	}
	if !l.ending {
		for cycle := range l.had {
			if !there[cycle] {
				l.failf("point %s is lost", cycle)
			}
		}
		l.had = there
	}
	if len(points) > 0 {
		for _, h := range points[len(points)-1].disks {
			l.compare(h, h.cycle, false)
		}
	}
	s := l.lab.VCenter.State()
	if len(s.Surprises)+len(s.Guests) > 0 {
		l.failf("surprises %v, of guests %v", s.Surprises, s.Guests)
	}
}

// quietSource: nothing of ours is left on the VM.
func (l *launchLife) quietSource() {
	s := l.lab.VCenter.State()
	vm, _ := s.VM(l.vm.Moref())
	if len(vm.Snapshots) > 0 || vm.ConsolidationNeeded {
		l.failf("snapshots %v are left on the source, consolidation %v", vm.Snapshots, vm.ConsolidationNeeded)
	}
	for key, v := range vm.ExtraConfig {
		if strings.HasPrefix(key, "snapferry.") && v != "" {
			l.failf("mark %s is left on the source: %s", key, v)
		}
	}
	for _, a := range s.Attached {
		if a.Source != "" && a.Source != s.Appliance {
			l.failf("%s is left attached", a.File)
		}
	}
}

// holds compares what there is in the account, kind by kind, with what is said.
// Interfaces go with their instances.
func (l *launchLife) holds(want map[string]int) {
	var have []string
	count := map[string]int{}
	for _, r := range l.lab.AWS.Inventory() {
		if r.Kind == "network-interface" {
			continue
		}
		count[r.Kind]++
		have = append(have, r.Kind+" "+r.ID+" "+r.State)
		if r.Kind == "snapshot" && r.State != "completed" {
			l.failf("%s is left, in state %s", r.ID, r.State)
		}
	}
	for _, kind := range append(slices.Sorted(keysOf(count)), slices.Sorted(keysOf(want))...) {
		if count[kind] != want[kind] {
			l.failf("AWS holds %v, want %v", have, want)
		}
	}
}

func keysOf(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// pointsOnly: what there is in AWS is recovery points, and no launch uses one. A
// replication that died between two disks leaves part of one, which is pruned
// with the points.
func (l *launchLife) pointsOnly() {
	if len(l.completePoints()) == 0 {
		l.failf("there is no point")
	}
	all := l.ours()
	for _, h := range all {
		if by := h.Tags["snapferry:in-use"]; by != "" {
			l.failf("%s is marked as used by %s", h.ID, by)
		}
	}
	l.holds(map[string]int{"snapshot": len(all)})
}

// launched finds the living instance of a purpose, in a state.
func (l *launchLife) launched(purpose, state string) aws.Lineup {
	for _, i := range l.lab.AWS.Instances() {
		if i.Tags["snapferry:launch"] == purpose && i.State == state {
			return i
		}
	}
	l.failf("no instance of a %s is %s", purpose, state)
	return aws.Lineup{}
}

// sameBytes holds the volumes of the cutover's instance against the source,
// which has been off since its last write.
func (l *launchLife) sameBytes() {
	i := l.launched("cutover", "running")
	if l.vm.PoweredOn() {
		l.failf("the source is on after a cutover")
	}
	ordinals := map[string]string{}
	for _, r := range l.lab.AWS.Inventory() {
		if r.Kind == "volume" {
			ordinals[r.Tags["snapferry:launch-disk"]] = r.ID
		}
	}
	if len(i.Volumes) != len(l.vm.Disks()) || ordinals["1"] != i.Root {
		l.failf("%s has volumes %v with root %s, their tags say %v", i.ID, i.Volumes, i.Root, ordinals)
	}
	for n, d := range l.vm.Disks() {
		volume, size, err := l.lab.AWS.VolumeImage(ordinals[fmt.Sprint(n+1)])
		if err != nil {
			l.failf("volume of disk %d: %v", n+1, err)
			return
		}
		got, want := make([]byte, transfer.BlockSize), make([]byte, transfer.BlockSize)
		for off := int64(0); off < min(size, 16<<20); off += transfer.BlockSize {
			clear(want)
			if most := d.Size() - off; most > 0 {
				_, err := d.ReadAt(want[:min(most, transfer.BlockSize)], off)
				l.must("read the source", err)
			}
			_, err := volume.ReadAt(got, off)
			l.must("read the volume", err)
			if !bytes.Equal(got, want) {
				l.failf("the volume of disk %d differs from the source in block %d", n+1, off/transfer.BlockSize)
				return
			}
		}
	}
}

var askedAt = regexp.MustCompile(`("asked":\s*)"[^"]+"`)

// laterOn makes what was asked for long ago: somebody who comes back after some
// minutes waits for nothing any more.
func (l *launchLife) laterOn() {
	if l.waiting {
		return
	}
	files, _ := filepath.Glob(filepath.Join(l.stateDir(), "launches", "job-*.json"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		l.must("read a launch", err)
		old := fmt.Sprintf(`$1"%s"`, time.Now().Add(-10*time.Minute).UTC().Format(time.RFC3339))
		l.must("write a launch", os.WriteFile(f, askedAt.ReplaceAll(text, []byte(old)), 0o600))
	}
}

// lastWrites is what the guest writes on its way down.
func (l *launchLife) lastWrites(context.Context) error {
	for i, d := range l.vm.Disks() {
		if _, err := d.WriteAt(fmt.Appendf(nil, "down at %d", time.Now().UnixNano()), int64(i+1)<<20); err != nil {
			return err
		}
	}
	return nil
}

// close ends the world before the test does.
func (l *launchLife) close() {
	l.wire.close()
	l.lab.Close()
	_ = os.RemoveAll(l.dir) // the test's own folder goes anyway
}
