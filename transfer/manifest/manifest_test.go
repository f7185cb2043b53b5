package manifest_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"snapferry/transfer/manifest"
)

var zero = manifest.Digest(sha256.Sum256(make([]byte, 512<<10)))

func digest(i int64) manifest.Digest { return sha256.Sum256(fmt.Append(nil, i)) }

func create(t *testing.T, blocks int64) (*manifest.Table, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "table")
	table, err := manifest.Create(path, manifest.Header{Snapshot: "snap-1", Blocks: blocks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Close() })
	return table, path
}

func TestTableKeepsWhatWasSet(t *testing.T) {
	table, path := create(t, 20_000)
	for _, i := range []int64{0, 1, 8191, 8192, 19_999} { // around the size of a scan
		if err := table.Set(i, digest(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := table.SetHeader(manifest.Header{Snapshot: "snap-2", Blocks: 20_000, Whole: true, Spec: []byte(`{"a":1}`)}); err != nil {
		t.Fatal(err)
	}
	again, err := manifest.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if h := again.Header(); h.Snapshot != "snap-2" || !h.Whole || string(h.Spec) != `{"a":1}` {
		t.Errorf("header %+v", h)
	}
	linear, all := sha256.New(), sha256.New()
	n := 0
	err = again.Each(func(i int64, d manifest.Digest, set bool) error {
		want := i == 0 || i == 1 || i == 8191 || i == 8192 || i == 19_999
		if set != want || (set && d != digest(i)) {
			t.Errorf("slot %d: set %v", i, set)
		}
		if set {
			n++
			linear.Write(d[:])
			all.Write(d[:])
		} else {
			all.Write(zero[:])
		}
		return nil
	})
	if err != nil || n != 5 {
		t.Fatalf("%d slots, %v", n, err)
	}
	if count, sum, err := again.Linear(); err != nil || count != 5 || sum != manifest.Digest(linear.Sum(nil)) {
		t.Errorf("linear: %d, %v", count, err)
	}
	if root, ok, err := again.Root(zero); err != nil || !ok || root != manifest.Digest(all.Sum(nil)) {
		t.Errorf("root: %v, %v", ok, err)
	}
	if _, _, err := again.Get(20_000); err == nil {
		t.Error("read behind the end")
	}
	if again.Set(-1, zero) == nil {
		t.Error("wrote before the start")
	}
}

func TestEmptyLinearIsEBSs(t *testing.T) {
	table, _ := create(t, 10)
	n, sum, err := table.Linear()
	if want := sha256.Sum256(nil); err != nil || n != 0 || sum != want {
		t.Errorf("%d, %x, %v", n, sum, err)
	}
}

func TestATornHeaderLeavesTheOldOne(t *testing.T) {
	table, path := create(t, 100)
	if err := table.SetHeader(manifest.Header{Snapshot: "snap-2", Blocks: 100}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := range int64(200) { // the second header, torn at each byte
		torn := append([]byte(nil), whole...)
		for i := at; i < 300; i++ {
			torn[i] ^= 0xff
		}
		p := filepath.Join(t.TempDir(), "torn")
		if err := os.WriteFile(p, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := manifest.Open(p)
		if err != nil {
			t.Fatalf("torn at %d: %v", at, err)
		}
		if s := got.Header().Snapshot; s != "snap-1" && s != "snap-2" {
			t.Fatalf("torn at %d: %q", at, s)
		}
		got.Close()
	}
}

func TestWhatIsNoTableIsRefused(t *testing.T) {
	table, path := create(t, 100)
	table.Close()
	whole, _ := os.ReadFile(path)
	for name, b := range map[string][]byte{"empty": nil, "short": whole[:len(whole)-1], "long": append(whole, 0), "noise": make([]byte, 200_000)} {
		p := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := manifest.Open(p); !errors.Is(err, manifest.ErrCorrupt) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func disk(t *testing.T, dir manifest.Dir) *manifest.Disk {
	t.Helper()
	vm, err := dir.Lock("vc", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Unlock() })
	d, err := vm.Disk("2000/6000c29-1")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// commit writes a manifest of snapshot in which the blocks have these digests,
// over base.
func prepare(t *testing.T, d *manifest.Disk, snapshot string, base *manifest.Table, blocks ...int64) {
	t.Helper()
	journal, err := d.StartJournal(manifest.Header{Blocks: 50})
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	for _, i := range blocks {
		if err := journal.Set(i, digest(i+int64(len(snapshot)))); err != nil {
			t.Fatal(err)
		}
	}
	next, err := d.Prepare(manifest.Header{Snapshot: snapshot, Cycle: "c", Blocks: 50, Whole: true}, base, journal)
	if err != nil {
		t.Fatal(err)
	}
	next.Close()
}

func TestCommitLaysTheJournalOverTheBase(t *testing.T) {
	d := disk(t, manifest.Dir(t.TempDir()))
	prepare(t, d, "a", nil, 1, 2)
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	base, err := d.Load("a", "c")
	if err != nil || base == nil {
		t.Fatal(base, err)
	}
	prepare(t, d, "bb", base, 2, 3)
	base.Close()
	if old, err := d.Load("a", "c"); err != nil || old == nil {
		t.Errorf("before the commit the old manifest is gone: %v", err)
	} else {
		old.Close()
	}
	// A crash between seal and commit: asking for the sealed one commits it.
	got, err := d.Load("bb", "c")
	if err != nil || got == nil {
		t.Fatal(got, err)
	}
	defer got.Close()
	for i, want := range map[int64]manifest.Digest{1: digest(2), 2: digest(4), 3: digest(5), 4: {}} {
		if g, _, err := got.Get(i); err != nil || g != want {
			t.Errorf("block %d: %x, %v", i, g[:4], err)
		}
	}
	if old, err := d.Load("a", "c"); err != nil || old != nil {
		t.Errorf("the old manifest is still there: %v", err)
	}
}

func TestLoadOfAnotherSnapshotIsNone(t *testing.T) {
	dir := manifest.Dir(t.TempDir())
	d := disk(t, dir)
	prepare(t, d, "a", nil, 1)
	if got, err := d.Load("a", "another cycle"); got != nil || err != nil {
		t.Errorf("as sealed by another cycle: %v, %v", got, err)
	}
	for _, s := range []string{"b", ""} {
		if got, err := d.Load(s, "c"); got != nil || err != nil {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if got := dir.Find("vc", "vm-1", "2000/6000c29-1", "a", "c"); got == nil {
		t.Error("a prepared manifest is not found")
	} else {
		got.Close()
	}
	if got := dir.Find("vc", "vm-2", "2000/6000c29-1", "a", "c"); got != nil {
		t.Error("found under another VM")
	}
}

func TestLockIsExclusive(t *testing.T) {
	dir := manifest.Dir(t.TempDir())
	vm, err := dir.Lock("vc", "../vm-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Lock("vc", "../vm-1"); !errors.Is(err, manifest.ErrBusy) {
		t.Errorf("second lock: %v", err)
	}
	if other, err := dir.Lock("vc", "vm-2"); err != nil {
		t.Errorf("another VM: %v", err)
	} else {
		other.Unlock()
	}
	vm.Unlock()
	if again, err := dir.Lock("vc", "../vm-1"); err != nil {
		t.Errorf("after unlock: %v", err)
	} else {
		again.Unlock()
	}
}

func FuzzOpen(f *testing.F) {
	path := filepath.Join(f.TempDir(), "seed")
	table, err := manifest.Create(path, manifest.Header{Snapshot: "snap-1", Blocks: 2})
	if err != nil {
		f.Fatal(err)
	}
	table.Close()
	whole, _ := os.ReadFile(path)
	f.Add(whole[:300], len(whole))
	f.Add([]byte("snapferry digests 1\n"), 131072)
	f.Fuzz(func(t *testing.T, head []byte, size int) {
		p := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(p, head, 0o600); err != nil {
			t.Fatal(err)
		}
		if size < 0 || size > 1<<21 || os.Truncate(p, int64(size)) != nil {
			return
		}
		got, err := manifest.Open(p)
		if err != nil {
			return
		}
		defer got.Close()
		if _, _, err := got.Linear(); err != nil {
			t.Errorf("opened but not readable: %v", err)
		}
	})
}

// TestForget: what was kept of a VM is gone, its lock is not.
func TestForget(t *testing.T) {
	dir := manifest.Dir(t.TempDir())
	vm, err := dir.Lock("vc", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Unlock()
	if _, err := vm.Disk("2000"); err != nil {
		t.Fatal(err)
	}
	if err := vm.Forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(string(dir), "vc", "vm-1", "2000")); !os.IsNotExist(err) {
		t.Errorf("the disk's folder: %v", err)
	}
	if _, err := dir.Lock("vc", "vm-1"); !errors.Is(err, manifest.ErrBusy) {
		t.Errorf("the lock: %v", err)
	}
}
