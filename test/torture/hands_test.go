package torture_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
	"snapferry/vsphere"
	"snapferry/vsphere/hotadd"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// betweenRuns is what may happen while nothing runs.
func (l *life) betweenRuns() {
	vm := l.vms[l.rng.IntN(len(l.vms))]
	switch l.rng.IntN(26) {
	case 0, 1:
		l.recordf("CBT of %s is reset", vm.Name())
		l.resetCBT(vm)
	case 2, 3:
		l.grow(vm)
	case 4, 5:
		l.takeForeign(vm)
	case 6, 7:
		l.dropForeign(vm)
	case 8:
		l.revert(vm)
	case 9:
		hosts := l.lab.VCenter.Hosts()
		l.must("migrate", vm.Migrate(hosts[l.rng.IntN(len(hosts))]))
	case 10:
		if len(vm.Snapshots()) == 0 {
			l.must("move", vm.MoveTo([]string{"vmfs1", "vmfs2"}[l.rng.IntN(2)]))
		}
	case 11:
		l.recordf("%s loses power", vm.Name())
		if vm.PoweredOn() {
			l.must("power loss", vm.PowerLoss())
		}
		l.must("power on", vm.PowerOn())
	case 12, 13, 14:
		l.restoreState()
	case 15:
		l.recordf("the appliance's state is lost")
		l.must("lose state", os.RemoveAll(l.stateDir()))
	case 16:
		l.loseNewest()
	case 17, 18:
		l.prune()
	case 19:
		if l.chance(0.15) && !l.encrypted && !l.allocated { // what is absent would read as garbage, as its help says
			l.recordf("the account encrypts by default")
			l.lab.AWS.SetEncryptionByDefault(true)
		}
	case 20:
		l.replaceDisk(vm)
	}
}

func (l *life) must(what string, err error) {
	if err != nil {
		l.failf("%s: %v", what, err)
	}
}

func (l *life) resetCBT(vm *vcenter.VM) {
	for _, d := range vm.Disks() {
		d.ResetCBT()
	}
}

func (l *life) grow(vm *vcenter.VM) {
	if len(vm.Snapshots()) > 0 {
		return
	}
	d := vm.Disks()[l.rng.IntN(len(vm.Disks()))]
	if d.Size() < 12<<20 {
		size := d.Size() + 512*(1+l.rng.Int64N(4096))
		l.recordf("disk %d of %s grows from %d to %d", d.Key(), vm.Name(), d.Size(), size)
		l.must("grow", d.Grow(size))
	}
}

// replaceDisk hangs another disk in the place of one.
func (l *life) replaceDisk(vm *vcenter.VM) {
	if len(vm.Snapshots()) > 0 {
		return
	}
	old := vm.Disks()[l.rng.IntN(len(vm.Disks()))]
	d, err := vm.ReplaceDisk(old.Key(), l.diskSpec())
	l.must("replace a disk", err)
	if err == nil {
		l.recordf("disk %d of %s is replaced: %s before, %s now", old.Key(), vm.Name(), old.UUID(), d.UUID())
		_, err := d.WriteAt([]byte("not what was here before"), 0)
		l.must("write to the new disk", err)
	}
}

func (l *life) takeForeign(vm *vcenter.VM) {
	if n := len(vm.Snapshots()); n > 2 {
		return
	}
	l.mu.Lock()
	l.foreigners++
	name := fmt.Sprintf("backup of another tool %d", l.foreigners)
	l.mu.Unlock()
	moref, err := vm.TakeSnapshot(name)
	l.recordf("%s: snapshot %s of %s: %v", name, moref, vm.Name(), err)
	if err == nil {
		l.foreign[moref] = true
	}
}

func (l *life) dropForeign(vm *vcenter.VM) {
	for _, s := range vm.Snapshots() {
		if l.foreign[s.Moref] {
			l.recordf("another tool removes its snapshot %s", s.Moref)
			delete(l.foreign, s.Moref)
			l.must("remove snapshot", vm.RemoveSnapshot(s.Moref))
			return
		}
	}
}

func (l *life) revert(vm *vcenter.VM) {
	for _, s := range vm.Snapshots() {
		if l.foreign[s.Moref] {
			l.recordf("%s is reverted to %s", vm.Name(), s.Moref)
			l.must("revert", vm.Revert(s.Moref))
			if !vm.PoweredOn() && l.chance(0.7) { // as the snapshot has no memory
				l.must("power on", vm.PowerOn())
			}
			return
		}
	}
}

// consolidate is a person's: where a chain needs it and nothing of it is
// attached any more.
func (l *life) consolidate(name string) {
	for _, vm := range l.vms {
		st, _ := l.lab.VCenter.State().VM(name)
		if vm.Name() == name && st.ConsolidationNeeded {
			_ = vm.Consolidate()
		}
	}
}

// saveState keeps a copy of the appliance's state, as a backup of it does.
func (l *life) saveState() {
	if _, err := os.Stat(l.stateDir()); err != nil {
		return
	}
	to := filepath.Join(l.dir, fmt.Sprintf("saved-%d", len(l.saved)))
	l.must("copy state", exec.Command("cp", "-a", l.stateDir(), to).Run())
	l.saved = append(l.saved, to)
}

// restoreState puts an earlier copy back: manifests and journals are stale.
func (l *life) restoreState() {
	if len(l.saved) == 0 {
		return
	}
	from := l.saved[l.rng.IntN(len(l.saved))]
	l.recordf("the appliance's state is restored from %s", filepath.Base(from))
	l.must("drop state", os.RemoveAll(l.stateDir()))
	l.must("restore state", exec.Command("cp", "-a", from, l.stateDir()).Run())
	// A stale journal's draft may be one that was written to since: sealing
	// it fails by its checksum, once.
	l.excuse = "stale journal"
}

func (l *life) expireDrafts() {
	for _, s := range l.lab.AWS.Snapshots() {
		if s.State == string(transfer.Pending) {
			_ = l.lab.AWS.ExpireDraft(s.ID) // it may be completed by now
		}
	}
}

// loseNewest is somebody who deletes a snapshot that is the next parent.
func (l *life) loseNewest() {
	points := l.completePoints()
	if len(points) == 0 {
		return
	}
	s := points[len(points)-1].disks[0]
	l.recordf("somebody deletes %s of %s", s.ID, s.cycle)
	_ = l.lab.AWS.DeleteOutOfBand(s.ID)
}

// prune lets old points go, and the copies that nobody needs any more.
func (l *life) prune() {
	if l.bin.prunes {
		before := l.newest()
		l.verb("prune", "--yes", "--keep-last", "2")
		for vm, cycle := range before {
			if now := l.newest()[vm]; now != cycle {
				l.failf("prune took the newest point of %s: it was %s and is %q", vm, cycle, now)
			}
		}
	} else {
		l.pruneByHand()
	}
	needed := map[string]bool{}
	for _, s := range l.ours() {
		if path, err := l.frozen(s.cycle, s.key); err == nil {
			needed[path] = true
		}
	}
	files, _ := filepath.Glob(filepath.Join(l.dir, "frozen", "*.raw"))
	for _, f := range files {
		if !needed[f] {
			l.must("remove copy", os.Remove(f))
		}
	}
}

// newest is the cycle of the newest complete point of each VM.
func (l *life) newest() map[string]string {
	all := map[string]string{}
	for _, p := range l.completePoints() {
		all[p.vm] = p.cycle
	}
	return all
}

// pruneByHand deletes all but the newest three points of each VM.
func (l *life) pruneByHand() {
	const keep = 3
	per := map[string][]point{}
	for _, p := range l.completePoints() {
		per[p.vm] = append(per[p.vm], p)
	}
	for _, points := range per {
		for len(points) > keep {
			for _, s := range points[0].disks {
				l.must("delete", l.lab.AWS.DeleteOutOfBand(s.ID))
			}
			points = points[1:]
		}
	}
	l.recordf("old points are deleted")
}

// verb runs a verb that cleans up, now and then to its death: at random, or
// around a deletion.
func (l *life) verb(name string, more ...string) {
	a := act{args: append([]string{name, "--config", l.lab.Settings(), "--json"}, more...)}
	switch l.rng.IntN(4) {
	case 0:
		a.when = moment{after: time.Duration(1 + l.rng.Int64N(int64(300*time.Millisecond)))}
	case 1:
		kind := []fault.Kind{fault.Stall, fault.LostAnswer}[l.rng.IntN(2)]
		r := &rule{name: "death", aws: true, rule: fault.Rule{Name: "death", Op: "DeleteSnapshot", Kind: kind, Skip: l.rng.IntN(3)}}
		l.aws.Add(r.rule)
		a.when = moment{rule: r}
	}
	r := l.run(a)
	l.clearFaults()
	l.recordf("%s: exit %d %s", name, r.exit, r.doc.Error)
	l.after(r)
	switch r.exit {
	case -1:
		l.led.count(func() { l.led.deaths["during "+name]++ })
		l.led.note("kill -9 during "+name, "", "next sync right")
	case 0, 3:
		l.led.note(name, "", fmt.Sprintf("exit %d, next sync right", r.exit))
	default:
		l.failf("%s with nothing in its way: exit %d\n%s\n%s", name, r.exit, short(r.stdout), short(r.stderr))
	}
}

// sweep stands in for the clean-up at the start of sync in a binary that has
// none.
func (l *life) sweep() {
	if l.bin.cleans {
		return
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), time.Minute)
	defer cancel()
	u := *l.lab.VCenter.URL()
	password, _ := u.User.Password()
	user := u.User.Username()
	u.User = nil
	c, err := vsphere.Dial(ctx, vsphere.Config{URL: u.String(), Username: user, Password: password, Thumbprint: l.lab.VCenter.Thumbprint()})
	if err != nil {
		l.failf("sweep: %v", err)
		return
	}
	defer c.Close(ctx)
	for _, vm := range l.vms {
		l.must("sweep", c.UntilQuiet(ctx, vm.Ref()))
	}
	l.must("sweep", c.UntilQuiet(ctx, l.lab.Appliance.Ref()))
	a, err := hotadd.New(ctx, c, hotadd.Config{Appliance: l.lab.Appliance.Moref(), SysfsDir: l.lab.VCenter.SysfsDir(), DevDir: l.lab.VCenter.DevDir()})
	if err != nil {
		l.failf("sweep: %v", err)
		return
	}
	left, err := a.Attached(ctx)
	l.must("sweep", err)
	for _, t := range left {
		l.must("sweep: detach", a.Detach(ctx, t))
	}
	for _, vm := range l.vms {
		id := transfer.VMID{VCenter: c.ID(), Moref: vm.Moref()}
		ours, err := c.OurSnapshots(ctx, id)
		l.must("sweep", err)
		for _, s := range ours {
			l.must("sweep: remove snapshot", c.RemoveOurs(ctx, id, s))
		}
	}
}
