package migrate_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"snapferry/test/guest"
	"snapferry/test/lab"
	"snapferry/transfer"
)

// long is more of everything; it takes an hour.
func long() bool { return os.Getenv("SNAPFERRY_LONG") != "" }

func TestMain(m *testing.M) {
	code := m.Run()
	if builder.dir != "" {
		_ = os.RemoveAll(builder.dir)
	}
	os.Exit(code)
}

// story is one guest's migration.
type story struct {
	*testing.T
	*ferry
	kind    guest.Kind
	dir     string // short, since sockets are in it; kept where the test fails
	lab     *lab.Lab
	source  *source
	deltas  int
	changed int64 // bytes of the files that the conversion changed
	// unconverted tells whether the guest was lost without its conversion.
	unconverted chan error

	mu    sync.Mutex
	notes []string
	began time.Time
}

// kinds are the guests that are asked for.
func kinds() (all []guest.Kind) {
	switch some := os.Getenv("SNAPFERRY_GUESTS"); {
	case some == "1":
		return []guest.Kind{guest.BIOS, guest.UEFI}
	case some != "":
		for _, k := range strings.Split(some, ",") {
			all = append(all, guest.Kind(k))
		}
	case long():
		return []guest.Kind{guest.BIOS, guest.UEFI, guest.LVM}
	}
	return all
}

// TestMigrate migrates each guest.
func TestMigrate(t *testing.T) {
	if len(kinds()) == 0 {
		t.Skip("real guests take minutes: set SNAPFERRY_GUESTS=1 (or to their names), or SNAPFERRY_LONG=1 for all of them")
	}
	must(t, guest.Need())
	for _, kind := range kinds() {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel() // each keeps one processor busy
			s := newStory(t, kind)
			s.replicate()
			s.cutOver()
			s.finish()
		})
	}
}

func newStory(t *testing.T, kind guest.Kind) *story {
	t.Helper()
	dir, err := os.MkdirTemp("", "migrate-"+string(kind)+"-")
	must(t, err)
	s := &story{T: t, kind: kind, dir: dir, deltas: 5, began: time.Now()}
	if long() {
		s.deltas = 12
	}
	t.Cleanup(s.tidy)
	image, err := guest.Image(t.Context(), kind)
	must(t, err)
	s.note("image at hand")
	world := filepath.Join(dir, "lab")
	must(t, os.Mkdir(world, 0o700))
	s.lab, err = lab.Start(lab.Options{Dir: world})
	must(t, err)
	t.Cleanup(s.lab.Close)
	s.ferry = newFerry(t, s.lab, dir)
	s.note("snapferry built, lab up")
	s.source = newSource(t, s.lab, kind, image, dir)
	must(t, s.source.start())
	p, err := s.source.guest().Up(t.Context())
	must(t, err)
	s.note("source boots in %.0f s: %s", p.Took.Seconds(), p.Line)
	s.negative(image)
	return s
}

// negative proves beside the rest that the guest needs its conversion.
func (s *story) negative(image string) {
	m := guest.Machine{Image: image, Firmware: s.kind.Firmware(), Bus: "nvme", Dir: s.dir}
	if s.kind == guest.UEFI {
		m.Image = s.source.machine.Loader // with a loader where UEFI looks: it is not for want of one
	}
	s.unconverted = make(chan error, 1)
	go func() {
		began := time.Now()
		said, err := guest.BootLost(s.Context(), m)
		s.note("unconverted, as NVMe, after %.0f s: %s", time.Since(began).Seconds(), said)
		s.unconverted <- err
	}()
	s.Cleanup(func() { <-s.unconverted })
}

// replicate seeds, and makes deltas while the guest writes.
func (s *story) replicate() {
	s.Helper()
	s.source.awaitMore(s.T, guest.Work{}, 10)
	for n := 0; n <= s.deltas; n++ {
		before := s.source.committed(s.T)
		r := s.sync()
		d := r.Disks[0]
		s.note("cycle %d, %s: %d areas of %.1f MiB, %.1f MiB read, %d blocks put, %d identical, %.1f s; frozen %.1f s; %d entries committed before, %d after",
			n, d.Kind, d.Areas, float64(d.AreaBytes)/mib, float64(d.BytesRead)/mib, d.Put, d.Identical, r.Took(r.Ended).Seconds(), r.FrozenFor.Seconds(),
			len(before.Entries), len(s.source.committed(s.T).Entries))
		if want := map[bool]transfer.PlanKind{true: transfer.Seed, false: transfer.Delta}[n == 0]; d.Kind != want || d.Put == 0 {
			s.Errorf("cycle %d is a %s of %d blocks because %s", n, d.Kind, d.Put, d.Reason)
		}
		if long() && n == s.deltas/2 {
			s.middle(before)
		}
		s.source.awaitMore(s.T, before, 20)
	}
}

// middle launches a point of the running source: as after a power cut, all that
// had been committed is there.
func (s *story) middle(committed guest.Work) {
	s.Helper()
	subnet, err := s.lab.AWS.AddSubnet(s.vpc("10.9.0.0/16"), "10.9.1.0/24", "us-east-1a")
	must(s.T, err)
	j, took := s.launch("test", "--set", "test.subnet="+subnet)
	s.note("test launched in %.0f s", took.Seconds())
	image := filepath.Join(s.dir, "middle.raw")
	s.volume(j, image)
	s.launched("the point of the middle", image, committed, false)
	must(s.T, os.Remove(image))
	s.launch("test", "--done")
}

func (s *story) vpc(cidr string) string {
	s.Helper()
	id, err := s.lab.AWS.AddVPC(cidr)
	must(s.T, err)
	return id
}

// cutOver moves the guest, and boots what was launched.
func (s *story) cutOver() {
	s.Helper()
	subnet, err := s.lab.AWS.AddSubnet(s.vpc("10.1.0.0/16"), "10.1.1.0/24", "us-east-1a")
	must(s.T, err)
	j, took := s.launch("cutover", "--set", "subnet="+subnet)
	s.note("cutover in %.0f s", took.Seconds())
	committed := s.source.committed(s.T)
	if !committed.Stopped || s.source.vm.PoweredOn() {
		s.Errorf("the source did not end in good order: it told %v, powered on %v", committed.Stopped, s.source.vm.PoweredOn())
	}
	s.same(j.Request.Point)
	closed(s.T, s.source.vm.Disks()[0], extStart(s.kind))
	image := filepath.Join(s.dir, "launched.raw")
	s.volume(j, image)
	s.fsck(image)
	s.launched("what was cut over", image, committed, true)
	s.budget(j)
	s.downtime(j)
}

// finish ends the migration; nothing of ours is left but what runs.
func (s *story) finish() {
	s.Helper()
	if err := <-s.unconverted; err != nil {
		s.Error(err)
	}
	close(s.unconverted)
	s.launch("finalize", "--points", "none")
	for _, r := range s.lab.AWS.Inventory() {
		switch {
		case r.State == "deleting", r.MadeBy == "":
		case r.Kind != "instance" && r.Kind != "volume" && r.Kind != "network-interface":
			s.Errorf("left in AWS: %s %s, %s", r.Kind, r.ID, r.State)
		}
	}
	state := s.lab.VCenter.State()
	for _, vm := range state.VMs {
		for _, snap := range vm.Snapshots {
			if strings.HasPrefix(snap.Name, lab.Mark) {
				s.Errorf("left in vSphere: VM snapshot %s", snap.Name)
			}
		}
	}
	for _, e := range append(append(state.Harms, state.Surprises...), state.Guests...) {
		s.Errorf("in vSphere: %s: %s", e.Name, e.What)
	}
}

// note keeps a figure for the end of the log.
func (s *story) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, fmt.Sprintf("%4.0f s  ", time.Since(s.began).Seconds())+fmt.Sprintf(format, args...))
}

// tidy tells the figures, and removes everything, or where the test failed what
// is large.
func (s *story) tidy() {
	s.Logf("figures of %s:\n%s", s.kind, strings.Join(s.notes, "\n"))
	if !s.Failed() {
		if err := os.RemoveAll(s.dir); err != nil {
			s.Error(err)
		}
		return
	}
	logs, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	for _, name := range logs {
		text, rerr := os.ReadFile(name)
		err = errors.Join(err, rerr)
		s.Logf("the end of %s:\n%s", name, tail(string(text), 1500))
	}
	large, gerr := filepath.Glob(filepath.Join(s.dir, "*.raw"))
	for _, name := range append(large, filepath.Join(s.dir, "lab")) {
		err = errors.Join(err, os.RemoveAll(name))
	}
	if err = errors.Join(err, gerr); err != nil {
		s.Error(err)
	}
}
