package torture_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"snapferry/test/aws"
	"snapferry/test/lab"
	"snapferry/transfer"
	"snapferry/transfer/manifest"
)

// mostDrafts bounds the drafts of a life at any time: two VMs of two disks,
// what a death left, and what its successor began.
const mostDrafts = 16

// held is a snapshot as the emulator holds it, with what its tags say; they are
// read here by hand, lest a mistake of the reader hide one of the writer.
type held struct {
	aws.SnapshotInfo
	vm, cycle, frozenAt string
	disk                string // "2000/6000c29…"
	key                 int32
	size                int64
	ordinal, of         int
}

// point is a recovery point by the tags.
type point struct {
	vm, cycle string
	disks     []held
}

func (l *life) ours() (all []held) {
	for _, s := range l.lab.AWS.Snapshots() {
		if s.Tags["snapferry:version"] == "" {
			continue
		}
		h := held{SnapshotInfo: s, vm: s.Tags["snapferry:vm"], cycle: s.Tags["snapferry:cycle"], frozenAt: s.Tags["snapferry:frozen"]}
		h.disk = s.Tags["snapferry:disk"]
		key, _, _ := strings.Cut(h.disk, "/")
		k, err1 := strconv.ParseInt(key, 10, 32)
		size, err2 := strconv.ParseInt(s.Tags["snapferry:disk-size"], 10, 64)
		_, err3 := fmt.Sscanf(s.Tags["snapferry:ordinal"], "%d/%d", &h.ordinal, &h.of)
		if err := cmp.Or(err1, err2, err3); err != nil {
			l.failf("tags of %s: %v: %v", s.ID, err, s.Tags)
		}
		h.key, h.size = int32(k), size
		all = append(all, h)
	}
	return all
}

// completePoints are those that the tags call complete, oldest first.
func (l *life) completePoints() (points []point) {
	type id struct{ vm, cycle string }
	groups := map[id][]held{}
	for _, h := range l.ours() {
		groups[id{h.vm, h.cycle}] = append(groups[id{h.vm, h.cycle}], h)
	}
	for k, disks := range groups {
		slices.SortFunc(disks, func(a, b held) int { return a.ordinal - b.ordinal })
		whole := len(disks) == disks[0].of
		for i, h := range disks {
			whole = whole && h.State == "completed" && h.ordinal == i+1 && h.frozenAt == disks[0].frozenAt
		}
		if whole {
			points = append(points, point{k.vm, k.cycle, disks})
		}
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Or(strings.Compare(a.cycle, b.cycle), strings.Compare(a.vm, b.vm)) })
	return points
}

func (l *life) frozen(cycle string, key int32) (string, error) {
	return l.lab.VCenter.FrozenCopy(lab.Mark+cycle, key)
}

// invariants hold at any time.
func (l *life) invariants() {
	for _, p := range l.completePoints() {
		for _, h := range p.disks {
			if id := h.ID + h.cycle; !l.compared[id] {
				l.compared[id] = true
				l.hold(h)
			}
		}
	}
	pending := 0
	for _, h := range l.ours() {
		if h.State != "completed" {
			pending++
		}
	}
	if pending-l.orphans > mostDrafts {
		l.failf("%d drafts in AWS", pending)
	}
	l.manifests()
	l.sources()
}

// sources: no source disk was ever harmed, no other tool's snapshot touched.
func (l *life) sources() {
	s := l.lab.VCenter.State()
	there := map[string]bool{}
	for _, vm := range s.VMs {
		if len(vm.Missing) > 0 || vm.Crashed {
			l.failf("%s: missing %v, crashed %v", vm.Name, vm.Missing, vm.Crashed)
		}
		for _, snap := range vm.Snapshots {
			there[snap.Moref] = true
		}
	}
	for moref := range l.foreign {
		if !there[moref] {
			l.failf("the snapshot %s of another tool is gone", moref)
		}
	}
	if len(s.Deleted)+len(s.Crashed) > 0 || len(s.Harms) > l.harms {
		l.failf("deleted %v, crashed %v, harms %v", s.Deleted, s.Crashed, s.Harms)
	}
	if misuse := l.lab.AWS.Misuse(); len(misuse) > 0 {
		l.failf("rules that cannot be played: %v", misuse)
	}
}

// settled is what holds besides after a sync that succeeded with nothing in
// its way: nothing of ours is left, and what it calls the point is one.
func (l *life) settled(r result) {
	s := l.lab.VCenter.State()
	for _, vm := range s.VMs {
		for _, snap := range vm.Snapshots {
			if !l.foreign[snap.Moref] {
				l.failf("VM snapshot %s (%s) is left on %s", snap.Name, snap.Moref, vm.Name)
			}
		}
		if vm.ConsolidationNeeded {
			l.failf("%s needs consolidation", vm.Name)
		}
		for key := range vm.ExtraConfig {
			if strings.HasPrefix(key, "snapferry.disk.") && vm.ExtraConfig[key] != "" {
				l.failf("mark %s is left on %s: %s", key, vm.Name, vm.ExtraConfig[key])
			}
		}
	}
	for _, a := range s.Attached {
		if a.Source != "" && a.Source != s.Appliance {
			l.failf("%s is left attached", a.File)
		}
	}
	l.drafts()
	if len(r.doc.Cycles) != len(l.vms) {
		l.failf("%d cycles for %d VMs: %s", len(r.doc.Cycles), len(l.vms), short(r.stdout))
		return
	}
	for _, c := range r.doc.Cycles {
		l.promised(c)
	}
}

// drafts: one that is not completed has an owner: a journal, or the seal that
// was begun. In a life whose AWS clock lies far behind ours none is too young to
// be told from one that is just being started.
func (l *life) drafts() {
	owned := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(l.stateDir(), "vms", "*", "*", "*", "draft"))
	for _, file := range files {
		if t, err := manifest.Open(file); err == nil {
			owned[t.Header().Snapshot] = true
			_ = t.Close()
		}
	}
	l.orphans = 0
	for _, h := range l.ours() {
		switch {
		case h.State == "completed":
		case !l.bin.cleans || (l.young && h.State == "pending"), h.State == "pending" && h.Tags["snapferry:blocks"] != "":
			l.orphans++
		case h.State == "pending" && owned[h.ID]:
		default:
			l.failf("%s of cycle %s is left, in state %s", h.ID, h.cycle, h.State)
		}
	}
}

// promised holds what a cycle says it made against what is there.
func (l *life) promised(c transfer.Report) {
	points := l.completePoints()
	i := slices.IndexFunc(points, func(p point) bool { return p.vm == c.VM.Moref && p.cycle == string(c.Point) })
	if i < 0 {
		l.failf("cycle %s says it made or confirmed %s, which the tags do not call complete", c.Cycle, c.Point)
		return
	}
	for _, later := range points[i+1:] {
		if later.vm == c.VM.Moref {
			l.failf("cycle %s ends with point %s, and %s is newer", c.Cycle, c.Point, later.cycle)
		}
	}
	for _, h := range points[i].disks {
		l.compare(h, string(c.Cycle), false)
	}
}

// checkAll compares every point of the life once more, the newest to the end
// of its volumes.
func (l *life) checkAll() {
	points := l.completePoints()
	for i, p := range points {
		for _, h := range p.disks {
			switch {
			case !l.wrong[h.ID]:
				l.compare(h, h.cycle, i == len(points)-1)
			case h.Tags["snapferry:suspect"] == "":
				l.failf("%s of %s lacks a write that tracking lost, an audit of all blocks has run since, and it is not suspect", h.ID, h.cycle)
			}
		}
	}
}

// hold holds a new snapshot against what its cycle froze. While tracking loses
// writes it may differ: then it is remembered.
func (l *life) hold(h held) {
	if !l.losing {
		l.compare(h, h.cycle, false)
	} else if l.differs(h, h.cycle, false) >= 0 {
		l.wrong[h.ID] = true
	}
}

// compare holds a snapshot against a disk as a cycle froze it.
func (l *life) compare(h held, cycle string, whole bool) {
	block := l.differs(h, cycle, whole)
	if block < 0 {
		l.led.count(func() { l.led.right++ })
		return
	}
	l.failf("%s (disk %d of %s, point of %s, %s because %s) differs from the disk as %s froze it, in block %d",
		h.ID, h.key, h.vm, h.cycle, h.Tags["snapferry:kind"], h.Tags["snapferry:reason"], cycle, block)
}

// differs returns the first block in which a snapshot differs from a disk as a
// cycle froze it, or -1. Behind the disk's end the volume is zeros: whole
// blocks, or the beginning of each. An absent block of an encrypted snapshot
// reads as garbage here, never as zeros.
func (l *life) differs(h held, cycle string, whole bool) int64 {
	const none = -1
	path, err := l.frozen(cycle, h.key)
	if err != nil {
		l.failf("%s: %v", h.ID, err)
		return none
	}
	want, err := os.Open(path)
	if err != nil {
		l.failf("%s: %v", h.ID, err)
		return none
	}
	defer want.Close()
	if st, err := want.Stat(); err != nil || st.Size() != h.size {
		l.failf("%s is of %d bytes, the frozen disk of cycle %s of %d (%v)", h.ID, h.size, cycle, st.Size(), err)
		return none
	}
	got, volume, err := l.lab.AWS.Image(h.ID)
	if err != nil {
		l.failf("%s: %v", h.ID, err)
		return none
	}
	a, b := make([]byte, transfer.BlockSize), make([]byte, transfer.BlockSize)
	for off := int64(0); off < volume; off += transfer.BlockSize {
		n := transfer.BlockSize
		if off >= h.size && !whole {
			n = 512
		}
		clear(a[:n])
		if off < h.size {
			if _, err := want.ReadAt(a[:min(int64(n), h.size-off)], off); err != nil && err != io.EOF {
				l.failf("%s: %v", path, err)
				return none
			}
		}
		if _, err := got.ReadAt(b[:n], off); err != nil {
			l.failf("%s: %v", h.ID, err)
			return none
		}
		if !bytes.Equal(a[:n], b[:n]) {
			return off / transfer.BlockSize
		}
	}
	return none
}

// manifests: the baseline that the appliance believes in is one that AWS holds,
// block for block, or one that is gone.
func (l *life) manifests() {
	files, _ := filepath.Glob(filepath.Join(l.stateDir(), "vms", "*", "*", "*", "manifest"))
	for _, file := range files {
		st, err := os.Stat(file)
		if err != nil {
			l.failf("manifest: %v", err)
			continue
		}
		if l.looked[file] == st.ModTime() {
			continue
		}
		l.looked[file] = st.ModTime()
		t, err := manifest.Open(file)
		if err != nil {
			l.failf("manifest %s: %v", file, err)
			continue
		}
		if err := l.manifestIsTrue(t); err != nil {
			l.failf("manifest of %s: %v", t.Header().Snapshot, err)
		}
		_ = t.Close()
	}
}

func (l *life) manifestIsTrue(t *manifest.Table) error {
	all := l.ours()
	i := slices.IndexFunc(all, func(h held) bool { return h.ID == t.Header().Snapshot })
	if i < 0 || all[i].cycle != t.Header().Cycle {
		return nil // gone, or of a seal that came to nothing: nobody uses it
	}
	if all[i].State != "completed" {
		return fmt.Errorf("the snapshot is %s", all[i].State)
	}
	image, _, err := l.lab.AWS.Image(all[i].ID)
	if err != nil {
		return err
	}
	block, blocks := make([]byte, transfer.BlockSize), transfer.DiskBlocks(all[i].size)
	return t.Each(func(n int64, d manifest.Digest, set bool) error {
		if !set || n >= blocks {
			return nil
		}
		if _, err := image.ReadAt(block, n*transfer.BlockSize); err != nil {
			return err
		}
		if sha256.Sum256(block) != d {
			return fmt.Errorf("block %d has another digest", n)
		}
		return nil
	})
}
