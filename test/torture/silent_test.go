package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"snapferry/test/fault"
	"snapferry/test/vcenter"
	"snapferry/transfer"
)

// The ways in which change tracking loses writes and says nothing. What the
// product promises: a point may then be wrong until an audit meets one of the
// blocks that were lost. From there on the newest point is right, and each
// earlier one of the disk is marked as suspect.
const (
	underReport   = "under-report"                   // areas are missing
	besideAnother = "enabled beside a snapshot"      // KB 320557
	keptChangeIDs = "a revert that keeps change IDs" // row 6
)

// The budgets of an audit: more blocks than any disk here has, and none.
const (
	wholeAudit = 1000
	noAudit    = -1
)

// silence is one such event.
type silence struct {
	*life
	rule   rule
	fresh  map[string][]int64 // blocks of a disk that were not written yet, by disk
	behind map[string]bool    // disks of which the newest snapshot lacks a write
	lost   int                // how often a write got lost
}

// silentLoss lets tracking lose writes for a cycle or two, audited or not, and
// then runs an audited one, in which it still does.
func (l *life) silentLoss(r rule) {
	l.recover()
	l.quiet = true
	s := &silence{life: l, rule: r, fresh: map[string][]int64{}, behind: map[string]bool{}}
	l.losing = true
	heal := s.begin()
	for range 1 + l.rng.IntN(2) {
		s.scatter()
		s.cycle([]int{noAudit, wholeAudit}[l.rng.IntN(2)])
	}
	l.losing = false
	for _, vm := range l.vms {
		for _, d := range vm.Disks() {
			// A disk of which no change is reported is audited once a day. Of two
			// grains one is reported, and the whole block is read for it.
			s.write(d, reserved(d)*transfer.BlockSize)
			s.write(d, reserved(d)*transfer.BlockSize+transfer.BlockSize/2)
		}
	}
	s.cycle(wholeAudit)
	heal()
	l.led.count(func() {
		if s.lost > 0 {
			l.led.fired[r.name]++
		}
	})
}

// reserved is a block that the guest writes only for the last cycle, a whole one.
func reserved(d *vcenter.Disk) int64 { return d.Size()/transfer.BlockSize - 1 }

// begin makes tracking lie, and returns how it is healed.
func (s *silence) begin() (heal func()) {
	if s.failed {
		return func() {}
	}
	vm := s.vms[s.rng.IntN(len(s.vms))]
	switch s.rule.rule.Detail {
	case underReport:
		s.vcenter.Add(s.rule.rule)
		return s.clearFaults
	case besideAnother:
		id, err := vm.TakeSnapshot("before the upgrade")
		s.must("take snapshot", err)
		vm.SetCBT(false)
		vm.SetCBT(true)
		s.recordf("CBT of %s is enabled beside a snapshot", vm.Name())
		s.cycle(noAudit) // a compare: the change IDs are new
		return func() {
			s.must("remove snapshot", vm.RemoveSnapshot(id))
			s.resetCBT(vm)
		}
	}
	id, err := vm.TakeSnapshot("before the upgrade")
	s.must("take snapshot", err)
	s.scatter()
	s.cycle(noAudit)
	s.must("revert", vm.RevertKeepingChangeIDs(id))
	for range 3 { // what overtakes the sequence number
		later, err := vm.TakeSnapshot("later")
		s.must("take snapshot", err)
		s.must("remove snapshot", vm.RemoveSnapshot(later))
	}
	s.must("power on", vm.PowerOn())
	s.recordf("%s was reverted, and tracking counts on", vm.Name())
	return func() { s.must("remove snapshot", vm.RemoveSnapshot(id)) }
}

// diskName names a disk for the maps.
func diskName(moref string, key int32) string { return fmt.Sprintf("%s/%d", moref, key) }

// scatter writes into a few blocks of each disk that neither an earlier scatter
// nor the last cycle touches: a write that was lost is not made good by a later
// one.
func (s *silence) scatter() {
	for _, vm := range s.vms {
		for _, d := range vm.Disks() {
			name := diskName(vm.Moref(), d.Key())
			if _, ok := s.fresh[name]; !ok {
				for _, n := range s.rng.Perm(int(transfer.DiskBlocks(d.Size()))) {
					if int64(n) != reserved(d) {
						s.fresh[name] = append(s.fresh[name], int64(n))
					}
				}
			}
			n := min(1+s.rng.IntN(4), len(s.fresh[name]))
			for _, b := range s.fresh[name][:n] {
				s.write(d, b*transfer.BlockSize)
			}
			s.fresh[name] = s.fresh[name][n:]
		}
	}
}

// write writes a few bytes that were not there.
func (s *silence) write(d *vcenter.Disk, off int64) {
	if _, err := d.WriteAt(fmt.Append(nil, s.rng.Uint64()), off); err != nil {
		s.failf("guest writes: %v", err)
	}
}

// cycle runs a sync with a budget for the audit, with no other fault in its
// way, and holds every disk against what is promised of it.
func (s *silence) cycle(audit int) {
	if s.failed {
		return
	}
	before := s.suspects()
	r := s.run(act{args: s.syncArgs("--config", s.settings(audit))})
	s.recordf("%s, sync with audit %d: exit %d %s %v%s", s.rule.name, audit, r.exit, r.doc.Error, r.doc.alarms(), looks(r.doc))
	s.after(r)
	if r.exit != 0 && r.exit != 3 {
		s.failf("tracking that loses writes is nothing that a cycle may fail for: exit %d\n%s\n%s", r.exit, short(r.stdout), short(r.stderr))
	}
	told := 0
	for _, c := range r.doc.Cycles {
		for _, d := range c.Disks {
			if !s.failed {
				told += s.disk(c, d, before)
			}
		}
	}
	if (told > 0) != (r.exit == 3) || told > 0 && !strings.Contains(strings.Join(r.doc.alarms(), "\n"), "cannot be trusted") {
		s.failf("an audit found %d disks with lost writes: exit %d, alarms %v", told, r.exit, r.doc.alarms())
	}
}

// looks says how each disk was looked at.
func looks(doc document) (text string) {
	for _, c := range doc.Cycles {
		for _, d := range c.Disks {
			text += fmt.Sprintf("\n       %s disk %d: %s of %s, %d of %d blocks, audit", c.VM.Moref, d.Disk.Key, d.Kind, c.Outcome, d.Blocks, transfer.DiskBlocks(d.Size))
			if d.Audit != nil {
				text += fmt.Sprintf(" %d of %d: %d wrong", d.Audit.Blocks, d.Audit.Of, d.Audit.Wrong)
			}
		}
	}
	return text
}

// disk is one disk after a cycle; it returns 1 where its audit found a loss.
func (s *silence) disk(c transfer.Report, d transfer.DiskReport, before map[string]bool) int {
	name := diskName(c.VM.Moref, d.Disk.Key)
	h, ok := s.newestOf(c, d.Disk.Key)
	if !ok {
		s.failf("cycle %s says it made or confirmed %s, and it has no disk %d", c.Cycle, c.Point, d.Disk.Key)
		return 0
	}
	wrong := s.differs(h, string(c.Cycle), false) >= 0
	looked := d.Kind != transfer.Delta || d.Audit != nil && d.Audit.Blocks == d.Audit.Of
	found := d.Audit != nil && d.Audit.Wrong > 0
	how := "the point lacks it, until an audit"
	switch {
	case wrong && (looked || !s.losing && !s.behind[name]):
		s.failf("%s of cycle %s is wrong: %s because %q, audit %+v", h.ID, c.Cycle, d.Kind, d.Reason, d.Audit)
	case s.behind[name] && looked && d.Kind == transfer.Delta:
		s.failf("an audit of all blocks of disk %s (%+v) finds nothing, though a write is lost", name, d.Audit)
	case !s.losing && !looked:
		s.failf("disk %s changed, and its audit was %+v", name, d.Audit)
	case found:
		how = "found by the audit, repaired, earlier points suspect"
	case !wrong:
		how = "nothing of this disk lost"
	}
	s.marked(c, d, found, before)
	if wrong && !s.behind[name] || found && !s.behind[name] {
		s.lost++
	}
	s.behind[name] = wrong
	s.led.note(s.rule.name, map[bool]string{true: "while it loses writes", false: "afterwards"}[s.losing], how)
	if found {
		return 1
	}
	return 0
}

// marked: where the audit found a loss every earlier snapshot of the disk is
// suspect; nothing else becomes so.
func (s *silence) marked(c transfer.Report, d transfer.DiskReport, found bool, before map[string]bool) {
	for _, h := range s.ours() {
		if h.vm != c.VM.Moref || h.key != d.Disk.Key || h.State != "completed" || h.disk != d.Disk.String() {
			continue
		}
		suspect := h.Tags["snapferry:suspect"] != ""
		earlier := h.cycle != string(c.Cycle)
		switch {
		case found && earlier && !suspect:
			s.failf("the audit of cycle %s found lost writes, and %s of cycle %s is not suspect", c.Cycle, h.ID, h.cycle)
		case suspect && !before[h.ID] && !(found && earlier):
			s.failf("%s of cycle %s became suspect, and the audit of cycle %s found nothing", h.ID, h.cycle, c.Cycle)
		}
	}
}

func (l *life) suspects() map[string]bool {
	all := map[string]bool{}
	for _, h := range l.ours() {
		all[h.ID] = h.Tags["snapferry:suspect"] != ""
	}
	return all
}

// newestOf is the snapshot of a disk in the point that a cycle made or
// confirmed.
func (l *life) newestOf(c transfer.Report, key int32) (held, bool) {
	all := l.ours()
	i := slices.IndexFunc(all, func(h held) bool {
		return h.vm == c.VM.Moref && h.cycle == string(c.Point) && h.key == key && h.State == "completed"
	})
	if i < 0 {
		return held{}, false
	}
	return all[i], true
}

// settings is the lab's settings file with another budget for the audit.
func (l *life) settings(audit int) string {
	path := filepath.Join(l.dir, fmt.Sprintf("audit%d.yaml", audit))
	text, err := os.ReadFile(l.lab.Settings())
	if err == nil {
		err = os.WriteFile(path, fmt.Appendf(text, "\ntransfer:\n  audit: %d\n", audit), 0o600)
	}
	l.must("write settings", err)
	return path
}

// silentRules are those of the catalogue.
func silentRules() []rule {
	return []rule{
		{name: "vcenter QueryChangedDiskAreas lie " + underReport, silent: true,
			rule: fault.Rule{Name: "silent", Op: "QueryChangedDiskAreas", Kind: fault.Lie, Detail: underReport, Times: -1}},
		{name: "hand: CBT " + besideAnother, silent: true, rule: fault.Rule{Detail: besideAnother}},
		{name: "hand: " + keptChangeIDs, silent: true, rule: fault.Rule{Detail: keptChangeIDs}},
	}
}
