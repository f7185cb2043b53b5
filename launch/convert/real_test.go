package convert_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapferry/launch/convert"
	"snapferry/test/guest"
	"snapferry/test/memory"
	"snapferry/transfer"
)

// world is a store with one point of one disk.
type world struct {
	*testing.T
	store *memory.Store
	image string
}

const mib = 1 << 20

// point puts a disk image into the store as a completed recovery point.
func (w *world) point(firmware string) transfer.Point {
	w.Helper()
	f, err := os.Open(w.image)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		w.Fatal(err)
	}
	size := fi.Size()
	spec := transfer.DraftSpec{Token: "seed", VolumeGiB: transfer.VolumeGiB(size), Label: transfer.Label{
		Appliance: "appliance-1", VM: transfer.VMID{VCenter: "vc", Moref: "vm-1"}, VMName: "app01", Cycle: "20260102T030405.000Z-00000001",
		Frozen: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Disk: transfer.DiskID{Key: 2000, UUID: "u"}, DiskLabel: "Hard disk 1", DiskSize: size,
		Guest: transfer.Guest{Firmware: firmware}, Ordinal: 1, Of: 1, Kind: transfer.Seed, ZerosAbsent: true, Blocks: -1}}
	draft, err := w.store.Start(w.Context(), spec)
	if err != nil {
		w.Fatal(err)
	}
	seal, sum := transfer.Seal{}, sha256.New()
	buf := make([]byte, transfer.BlockSize)
	zeros := make([]byte, transfer.BlockSize)
	for i := range transfer.DiskBlocks(size) {
		clear(buf)
		if _, err := f.ReadAt(buf, i*transfer.BlockSize); err != nil && !errors.Is(err, io.EOF) {
			w.Fatal(err)
		}
		if bytes.Equal(buf, zeros) {
			continue
		}
		digest := sha256.Sum256(buf)
		if err := draft.Put(w.Context(), i, buf, digest); err != nil {
			w.Fatal(err)
		}
		sum.Write(digest[:])
		seal.Blocks++
	}
	copy(seal.Checksum[:], sum.Sum(nil))
	if err := draft.Seal(w.Context(), seal); err != nil {
		w.Fatal(err)
	}
	return w.points()[0]
}

func (w *world) points() []transfer.Point {
	w.Helper()
	all, err := w.store.Snapshots(w.Context(), transfer.VMID{VCenter: "vc", Moref: "vm-1"})
	if err != nil {
		w.Fatal(err)
	}
	return transfer.Points(all)
}

func (w *world) converter() *convert.Converter {
	dir, err := os.MkdirTemp("", "cv") // short: sockets are in it
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { os.RemoveAll(dir) })
	return &convert.Converter{
		Env: transfer.Env{Store: w.store, Appliance: "appliance-1", Buffers: transfer.NewBuffers(16), Reads: 4, Puts: 8,
			Now: time.Now, Cleanup: time.Minute},
		Folder: dir,
	}
}

// launched writes what a volume of a snapshot holds to a sparse file.
func (w *world) launched(id transfer.SnapshotID) string {
	w.Helper()
	img, size := w.store.Image(id)
	path := filepath.Join(w.TempDir(), "volume.raw")
	f, err := os.Create(path)
	if err != nil {
		w.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		w.Fatal(err)
	}
	buf, zeros := make([]byte, transfer.BlockSize), make([]byte, transfer.BlockSize)
	for off := int64(0); off < size; off += transfer.BlockSize {
		if _, err := img.ReadAt(buf, off); err != nil {
			w.Fatal(err)
		}
		if bytes.Equal(buf, zeros) {
			continue
		}
		if _, err := f.WriteAt(buf, off); err != nil {
			w.Fatal(err)
		}
	}
	return path
}

// guests skips, or where guests are asked for fails, what cannot run here.
func guests(t *testing.T, kind guest.Kind) {
	t.Helper()
	some, all := os.Getenv("SNAPFERRY_GUESTS") != "", os.Getenv("SNAPFERRY_LONG") != ""
	if !all && (!some || kind == guest.LVM) {
		t.Skip("real guests take minutes: set SNAPFERRY_GUESTS=1, or SNAPFERRY_LONG=1 for all of them")
	}
	if err := guest.Need(); err != nil {
		t.Fatal(err)
	}
}

// TestRealGuest: a Debian guest whose initramfs knows VMware's drivers only does
// not boot from NVMe; converted it does, with an address by DHCP, and needs no
// second conversion.
func TestRealGuest(t *testing.T) {
	for _, kind := range []guest.Kind{guest.BIOS, guest.UEFI, guest.LVM} {
		t.Run(string(kind), func(t *testing.T) {
			guests(t, kind)
			image, err := guest.Image(t.Context(), kind)
			if err != nil {
				t.Fatal(err)
			}
			w := &world{T: t, store: memory.NewStore(), image: image}
			point := w.point(kind.Firmware())
			conv := w.converter()
			dry := *conv
			dry.DryRun = true
			if kind == guest.BIOS {
				rep, err := dry.Run(t.Context(), point)
				if err != nil || rep.Snapshot != "" || rep.Plan.Ready || len(w.points()[0].Conversions) > 0 {
					t.Fatalf("dry run: %+v, %v", rep, err)
				}
				logReport(t, rep)
			}
			rep, err := conv.Run(t.Context(), point)
			if err != nil {
				t.Fatal(err)
			}
			logReport(t, rep)
			budget(t, kind, rep)
			if left, err := os.ReadDir(conv.Folder); err != nil || len(left) > 0 {
				t.Errorf("left in the folder: %v, %v", left, err)
			}
			bootBoth(t, w, kind, rep.Snapshot)
			again(t, w, conv, kind, rep)
		})
	}
}

func logReport(t *testing.T, rep convert.Report) {
	t.Logf("took %.0f s: look %.0f, change %.0f, put %.0f; base: %d requests, %d MiB; plan for %s", rep.Ended.Sub(rep.Started).Seconds(),
		rep.LookTook.Seconds(), rep.ChangeTook.Seconds(), rep.PutTook.Seconds(), rep.Base.Requests, rep.Base.Bytes/mib, rep.Plan.Guest)
	for _, c := range rep.Plan.Changes {
		t.Logf("  %s", c.What)
	}
	for _, m := range rep.Made {
		if m.Took > 5*time.Second {
			t.Logf("  %.0f s: %s", m.Took.Seconds(), m.What)
		}
	}
	for _, d := range rep.Plan.Doubts {
		t.Logf("  doubt: %s", d)
	}
	if rep.Put != nil {
		t.Logf("  %d blocks put, %d looked at, %d identical", rep.Put.Put, rep.Put.Blocks, rep.Put.Identical)
	}
}

// budget: the one-kernel guest puts at most 64 blocks and reads at most 128 MiB.
func budget(t *testing.T, kind guest.Kind, rep convert.Report) {
	if rep.Put == nil || rep.Put.Put == 0 {
		t.Fatal("nothing was put")
	}
	puts, reads := int64(64), int64(128*mib)
	if kind == guest.LVM { // dracut's initramfs of twice the size
		puts, reads = 128, 256*mib
	}
	if rep.Put.Put > puts || rep.Base.Bytes > reads {
		t.Errorf("%d blocks put (at most %d), %d MiB read (at most %d)", rep.Put.Put, puts, rep.Base.Bytes/mib, reads/mib)
	}
}

func bootBoth(t *testing.T, w *world, kind guest.Kind, id transfer.SnapshotID) {
	t.Helper()
	m := guest.Machine{Firmware: kind.Firmware(), Bus: "pvscsi", Dir: t.TempDir()}
	var err error
	if m.Image, err = guest.Source(t.Context(), kind, w.image, m.Dir); err != nil {
		t.Fatal(err)
	}
	source, err := guest.Boot(t.Context(), m)
	if err != nil {
		t.Fatalf("as on VMware: %v", err)
	}
	t.Logf("as on VMware, after %.0f s: %s", source.Took.Seconds(), source.Line)
	m.Bus = "nvme"
	said, err := guest.BootLost(t.Context(), m)
	if err != nil {
		t.Errorf("from NVMe before it is converted: %v", err)
	}
	t.Logf("from NVMe before it is converted: %s", said)
	m.Image = w.launched(id)
	probe, err := guest.Boot(t.Context(), m)
	if err != nil {
		t.Fatalf("after conversion: %v", err)
	}
	t.Logf("after %.0f s: %s", probe.Took.Seconds(), probe.Line)
	if !strings.Contains(probe.Values["ip"], ":10.0.2.") {
		t.Errorf("no address by DHCP: %q", probe.Values["ip"])
	}
	if root := probe.Values["root"]; !strings.Contains(root, "nvme") && !strings.Contains(root, "mapper") {
		t.Errorf("root is %q", root)
	}
	if f := probe.Values["failed"]; f != "" {
		t.Errorf("units failed: %s", f)
	}
	if !strings.Contains(probe.Line, "console=ttyS0") {
		t.Errorf("no serial console: %s", probe.Line)
	}
}

// again: the same point is not converted twice, and what was converted is ready.
func again(t *testing.T, w *world, conv *convert.Converter, kind guest.Kind, rep convert.Report) {
	t.Helper()
	second, err := conv.Run(t.Context(), w.points()[0])
	if err != nil || !second.Found || second.Snapshot != rep.Snapshot || len(w.points()[0].Conversions) != 1 {
		t.Errorf("the second time: %+v, %v", second, err)
	}
	w2 := &world{T: t, store: memory.NewStore(), image: w.launched(rep.Snapshot)}
	_, before := w2.store.Counts()
	point := w2.point(kind.Firmware())
	ready, err := w2.converter().Run(t.Context(), point)
	if err != nil {
		t.Fatal(err)
	}
	logReport(t, ready)
	if _, starts := w2.store.Counts(); !ready.Plan.Ready || ready.Snapshot != point.Disks[0].ID || starts != before+1 {
		t.Errorf("a guest that is ready was converted: %+v", ready.Plan)
	}
}
