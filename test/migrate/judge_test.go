package migrate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"snapferry/launch"
	"snapferry/launch/convert"
	"snapferry/test/guest"
	"snapferry/transfer"
)

// launched boots what was launched as EC2 would, and checks that the guest is
// whole: all that was committed is there, with a network and without failures.
func (s *story) launched(what, image string, committed guest.Work, shutDown bool) {
	s.Helper()
	// Another NIC than the source's, under another name.
	r, err := guest.Start(guest.Machine{Image: image, Firmware: s.kind.Firmware(), Bus: "nvme", NIC: "e1000", Dir: s.dir, Keep: true})
	must(s.T, err)
	defer r.End()
	p, err := r.Up(s.Context())
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
	s.note("%s boots in %.0f s: %s", what, p.Took.Seconds(), p.Line)
	found, err := guest.Find(r.Told())
	must(s.T, err)
	for _, l := range found.Lacks(committed) {
		s.Errorf("%s: LOST: %s", what, l)
	}
	for _, b := range found.Broken() {
		s.Errorf("%s: BROKEN: %s", what, b)
	}
	s.note("%s: %d entries, %d were committed; %d files, %d were", what, len(found.Entries), len(committed.Entries), len(found.Files), len(committed.Files))
	if !strings.Contains(p.Values["ip"], ":10.0.2.") {
		s.Errorf("%s: no address by DHCP: %q", what, p.Values["ip"])
	}
	if root := p.Values["root"]; !strings.Contains(root, "nvme") && !strings.Contains(root, "mapper") {
		s.Errorf("%s: its root is %q", what, root)
	}
	if f := p.Values["failed"]; f != "" {
		s.Errorf("%s: units failed: %s", what, f)
	}
	s.changed = found.Changed
	if shutDown {
		s.clean(what, found)
		if len(found.Entries) != len(committed.Entries) {
			s.Errorf("%s: %d entries, and the guest had told of %d when it ended", what, len(found.Entries), len(committed.Entries))
		}
	}
	// The application goes on where it was.
	ctx, cancel := context.WithTimeout(s.Context(), guest.Patience())
	defer cancel()
	must(s.T, r.Until(ctx, func(report string) bool {
		return strings.Contains(report, fmt.Sprintf("LOAD-ENTRY %d ", len(found.Entries)+1))
	}))
}

// clean: nothing had to be recovered after a clean shutdown.
func (s *story) clean(what string, found guest.Found) {
	s.Helper()
	if found.Leftover != "" {
		s.Errorf("%s: the database was not closed: %s bytes in its log", what, found.Leftover)
	}
	mounted := false
	for _, line := range found.Kernel {
		mounted = mounted || strings.Contains(line, "ounted filesystem") || strings.Contains(line, "Ending clean mount")
		if l := strings.ToLower(line); strings.Contains(l, "recover") || strings.Contains(l, "orphan") || strings.Contains(l, "error") && !strings.Contains(l, "errors=") {
			s.Errorf("%s: the file system was not clean: %s", what, line)
		}
	}
	if !mounted {
		s.Errorf("%s: the kernel tells of no clean mount: %q", what, found.Kernel)
	}
}

// extStart is where the guest's ext4 begins on its disk; see guest's image.sh.
func extStart(k guest.Kind) int64 {
	if k == guest.UEFI {
		return 65 * mib
	}
	return mib
}

// closed checks the ext4 of a disk as its guest left it: unmounted, its journal
// empty (fs/ext4/ext4.h of Linux: s_state and s_feature_incompat).
func closed(t *testing.T, disk io.ReaderAt, start int64) {
	t.Helper()
	super := make([]byte, 1024)
	_, err := disk.ReadAt(super, start+1024)
	must(t, err)
	le := binary.LittleEndian
	const magic, valid, recover = 0xef53, 1, 4
	if le.Uint16(super[56:]) != magic {
		t.Fatalf("no ext4 begins at %d", start)
	}
	if le.Uint16(super[58:])&valid == 0 || le.Uint32(super[96:])&recover != 0 {
		t.Errorf("the guest left its file system with state %#x and features %#x: it was not unmounted", le.Uint16(super[58:]), le.Uint32(super[96:]))
	}
}

// fsck checks the ext4 of a raw file from outside.
func (s *story) fsck(image string) {
	s.Helper()
	cmd := exec.CommandContext(s.Context(), "e2fsck", "-f", "-n", fmt.Sprintf("%s?offset=%d", image, extStart(s.kind)))
	cmd.Env = append(cmd.Environ(), "PATH="+"/usr/sbin:/sbin:/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		s.Errorf("e2fsck of what was launched: %v\n%s", err, out)
	}
}

// same: the last point holds what the source held when it went off.
func (s *story) same(p transfer.Point) {
	s.Helper()
	disk := s.source.vm.Disks()[0]
	image, size, err := s.lab.AWS.Image(string(p.Disks[0].ID))
	must(s.T, err)
	a, b := make([]byte, mib), make([]byte, mib)
	for off := int64(0); off < disk.Size(); off += mib {
		n := min(mib, disk.Size()-off)
		_, err := disk.ReadAt(a[:n], off)
		must(s.T, err)
		if _, err := image.ReadAt(b[:n], off); err != nil && err != io.EOF {
			s.Fatal(err)
		}
		if !bytes.Equal(a[:n], b[:n]) {
			s.Fatalf("the last point is not the source's disk: they differ in the MiB at %d of %d", off, size)
		}
	}
}

// budget holds a conversion against what it may cost, and reports it. A guest
// with one kernel in an initramfs of common size puts at most 64 blocks and reads
// at most 128 MiB; others put at most twice the bytes of the files that were
// changed.
func (s *story) budget(j launch.Job) {
	s.Helper()
	var rep convert.Report
	if j.Conversion == nil {
		s.Fatal("the launch tells of no conversion")
	}
	must(s.T, json.Unmarshal(j.Conversion.Detail, &rep))
	if rep.Put == nil || rep.Put.Put == 0 {
		s.Fatal("the conversion put nothing")
	}
	s.note("conversion: %.0f s (look %.0f, change %.0f, put %.0f), %d blocks put, %d MiB read in %d requests; files changed: %.1f MiB",
		rep.Ended.Sub(rep.Started).Seconds(), rep.LookTook.Seconds(), rep.ChangeTook.Seconds(), rep.PutTook.Seconds(),
		rep.Put.Put, rep.Base.Bytes/mib, rep.Base.Requests, float64(s.changed)/mib)
	slices.SortStableFunc(rep.Made, func(a, b convert.Made) int { return int(b.Took - a.Took) })
	for _, m := range rep.Made[:min(3, len(rep.Made))] {
		s.note("  %.0f s: %s", m.Took.Seconds(), m.What)
	}
	for _, d := range rep.Plan.Doubts {
		s.note("  doubt: %s", d)
	}
	puts, reads := int64(64), int64(128*mib)
	if s.kind == guest.LVM { // dracut's is of twice the size
		puts, reads = 2*s.changed/transfer.BlockSize, 256*mib
	}
	if rep.Put.Put > puts || rep.Base.Bytes > reads {
		s.Errorf("conversion: %d blocks put (at most %d), %d MiB read (at most %d)", rep.Put.Put, puts, rep.Base.Bytes/mib, reads/mib)
	}
}

// downtime tells the steps of a cutover.
func (s *story) downtime(j launch.Job) {
	s.Helper()
	if j.Downtime == nil {
		s.Fatal("the cutover tells no downtime")
	}
	var steps []string
	for _, st := range j.Downtime.Steps {
		steps = append(steps, fmt.Sprintf("%s %.1f", st.Step, st.Took.Seconds()))
	}
	s.note("downtime: %.0f s to the launch call, %.0f s in all: %s (s)", j.Downtime.ToLaunch.Seconds(), j.Downtime.Total.Seconds(), strings.Join(steps, ", "))
}
