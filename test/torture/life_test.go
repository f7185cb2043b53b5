package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/aws"
	"snapferry/test/fault"
	"snapferry/test/lab"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// eventsPerLife: enough for retention, restored state and long chains of
// deltas; few enough that the copies of what was frozen stay small.
const eventsPerLife = 24

// life is one lab and what happens in it.
type life struct {
	t    *testing.T
	bin  *program
	led  *ledger
	name string // of a life that is no run of torture, with how it is had again
	seed uint64
	rng  *rand.Rand
	dir  string
	env  []string

	end        time.Time // when to think of ending
	lab        *lab.Lab
	vcenter    *fault.Set
	aws        *fault.Set
	vms        []*vcenter.VM
	encrypted  bool
	allocated  bool // seeds read only what vSphere calls allocated
	quiet      bool // the guest writes nothing while the next run goes on
	foreign    map[string]bool
	foreigners int
	harms      int // caused by other hands
	saved      []string
	excuse     string // why the next run may fail, once
	lastTook   time.Duration
	compared   map[string]bool
	young      bool                 // drafts look as if they had just been started
	looked     map[string]time.Time // manifests, as of when
	orphans    int                  // drafts that are rightly there
	losing     bool                 // tracking loses writes just now, and says nothing
	wrong      map[string]bool      // snapshots that lack a write by its fault

	mu      sync.Mutex
	history []string
	failed  bool
}

// runLife lives one life; end is when it should think of ending.
func runLife(t *testing.T, bin *program, led *ledger, seed uint64, end time.Time) {
	dir, err := os.MkdirTemp(t.TempDir(), "life")
	if err != nil {
		t.Error(err)
		return
	}
	defer os.RemoveAll(dir)
	l := &life{t: t, bin: bin, led: led, seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), dir: dir, end: end,
		vcenter: fault.New(seed), aws: fault.New(seed + 1), foreign: map[string]bool{}, compared: map[string]bool{}, looked: map[string]time.Time{}, wrong: map[string]bool{}, lastTook: 2 * time.Second}
	if err := l.begin(); err != nil {
		l.failf("begin: %v", err)
		return
	}
	defer l.lab.Close()
	for n := range eventsPerLife {
		if n > 0 && time.Now().After(end) || t.Failed() {
			break
		}
		l.event()
	}
	if !l.failed {
		l.checkAll()
	}
}

// options are a lab of a random sort.
func (l *life) options() lab.Options {
	o := lab.Options{Dir: l.dir, KeepFrozen: true, VCenter: vcenter.Options{Faults: l.vcenter}, AWS: aws.Options{Faults: l.aws}}
	if l.chance(0.4) {
		o.VCenter.TaskDelay = time.Duration(1+l.rng.IntN(30)) * time.Millisecond
	}
	if l.chance(0.3) {
		o.AWS.CompletionDelay = time.Duration(l.rng.IntN(1200)) * time.Millisecond
	}
	if l.chance(0.3) {
		o.AWS.PropagationDelay = 50 * time.Millisecond
	}
	if l.chance(0.3) {
		o.AWS.Latency = time.Duration(l.rng.IntN(10)) * time.Millisecond
	}
	o.AWS.OddPages = l.chance(0.3)
	if l.young = o.AWS.PropagationDelay > 0; !l.young {
		o.AWS.Now = func() time.Time { return time.Now().Add(-2 * transfer.DraftGrace) }
	}
	o.VCenter.MaxAreas = 1 + l.rng.IntN(40)
	return o
}

// begin makes a lab with one VM or two.
func (l *life) begin() error {
	o := l.options()
	var err error
	if l.lab, err = lab.Start(o); err != nil {
		return err
	}
	l.env = environment(l.dir, l.lab.Env())
	disks, vms := 2, 1+l.rng.IntN(2)
	if l.encrypted = l.rng.IntN(8) == 0; l.encrypted {
		disks, vms = 1, 1 // every block of a volume is put: a GiB a disk
	}
	l.allocated = !l.encrypted && l.chance(0.15)
	for v := range vms {
		spec := vcenter.VMSpec{Name: fmt.Sprintf("app%d", v+1), CBT: l.chance(0.5)}
		for range disks {
			spec.Disks = append(spec.Disks, l.diskSpec())
		}
		vm, err := l.lab.AddVM(spec)
		if err != nil {
			l.lab.Close()
			return err
		}
		l.vms = append(l.vms, vm)
		for _, d := range vm.Disks() {
			switch l.rng.IntN(3) { // what the datastore answers
			case 0:
				d.SetAllocation(vcenter.AllocationUnsupported)
			case 1:
				d.SetAllocation(vcenter.AllocationWholeDisk)
			}
		}
	}
	l.recordf("%d VMs of %d disks, encrypted %v, allocated areas alone %v, task delay %v, completion after %v", vms, disks, l.encrypted, l.allocated, o.VCenter.TaskDelay, o.AWS.CompletionDelay)
	return nil
}

// diskSpec is a disk of a random sort: of those that ESXi tracks, and now and
// then one that it does not.
func (l *life) diskSpec() vcenter.DiskSpec {
	d := vcenter.DiskSpec{Size: 1<<20 + l.rng.Int64N(4<<20/512)*512, Thick: l.chance(0.3), NoCBT: l.chance(0.05)}
	if l.chance(0.2) {
		d.Backing, d.DeltaSESparse = vcenter.SESparse, true
	}
	return d
}

// late: what may take a minute is not begun any more.
func (l *life) late() bool { return l.left() < 70*time.Second }

// left is the time until the life should end.
func (l *life) left() time.Duration { return time.Until(l.end) }

func (l *life) chance(p float64) bool { return l.rng.Float64() < p }

func (l *life) recordf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = append(l.history, fmt.Sprintf("%3d  ", len(l.history)+1)+fmt.Sprintf(format, args...))
}

// failf fails the test once for a life, with what led there.
func (l *life) failf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed {
		return
	}
	l.failed = true
	name := l.name
	if name == "" {
		name = fmt.Sprintf("life %d (SNAPFERRY_TORTURE_SEED=%d SNAPFERRY_TORTURE_LIVES=1)", l.seed, l.seed)
	}
	l.t.Errorf("%s: %s\nwhat led there:\n%s", name, fmt.Sprintf(format, args...), strings.Join(l.history, "\n"))
}

// firedNow is how often a rule fired in this run.
func (l *life) firedNow(r *rule) int { return l.set(r).Fired()[r.name] }

func (l *life) set(r *rule) *fault.Set {
	if r.aws {
		return l.aws
	}
	return l.vcenter
}

func (l *life) clearFaults() {
	l.vcenter.Clear()
	l.aws.Clear()
	l.lab.AWS.RenewCredentials()
}

func (l *life) stateDir() string { return filepath.Join(l.dir, "state") }

// syncArgs are the arguments of one sync of every VM.
func (l *life) syncArgs(more ...string) []string {
	args := []string{"sync", "--config", l.lab.Settings(), "--json", "--progress", "json"}
	for _, vm := range l.vms {
		args = append(args, vm.Name())
	}
	if len(l.vms) > 1 && l.chance(0.7) {
		args = append(args, "--parallel", "2")
	}
	if l.encrypted {
		args = append(args, "--encrypted")
	}
	if l.allocated {
		args = append(args, "--zeros=allocated")
	}
	return append(args, more...)
}

// guestWrites writes to random disks until the child has ended.
func (l *life) guestWrites(ended <-chan struct{}) {
	if l.quiet {
		return
	}
	rng := rand.New(rand.NewPCG(l.seed, uint64(time.Now().UnixNano()))) // its writes fall where the scheduler lets them anyway
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			l.write(rng, 32<<10)
		}
	}
}

// write writes random bytes, or zeros, somewhere.
func (l *life) write(rng *rand.Rand, most int) {
	vm := l.vms[rng.IntN(len(l.vms))]
	disks := vm.Disks()
	d := disks[rng.IntN(len(disks))]
	b := make([]byte, 1+rng.IntN(most))
	if rng.IntN(4) != 0 {
		for i := 0; i < len(b); i += 8 {
			b[i] = byte(rng.Uint32())
		}
	}
	off := rng.Int64N(d.Size())
	b = b[:min(int64(len(b)), d.Size()-off)]
	if _, err := d.WriteAt(b, off); err != nil {
		l.failf("guest writes: %v", err)
	}
}
